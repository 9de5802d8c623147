#include "coordinator/core/health.h"

#include <algorithm>

namespace panvel {
namespace {

// A failure that takes no longer than this is no waste of time.
constexpr int64_t kQuick = 250 * 1000;
constexpr int64_t kLongestGap = 500 * 1000;

void change(Health *health, Reach reach, int64_t since) {
    if (health->reach == reach)
        return;
    health->reach = reach;
    health->since = since;
}

void end_silence(Health *health) {
    health->asked_at = health->looked_at = health->silence = 0;
}

} // namespace

void asked(Health *health, int64_t now) {
    if (health->asked_at != 0) {
        look(health, now);
        return;
    }
    health->asked_at = health->looked_at = now;
    health->silence = 0;
}

void look(Health *health, int64_t now) {
    if (health->asked_at == 0)
        return;
    health->silence += std::clamp<int64_t>(now - health->looked_at, 0, kLongestGap);
    health->looked_at = now;
}

void answered(Health *health, int64_t now) {
    end_silence(health);
    health->cost = 0;
    change(health, Reach::kUp, now);
}

void refused(Health *health, int64_t now, int64_t cost) {
    end_silence(health);
    health->cost = cost;
    change(health, Reach::kDown, now);
}

void timed_out(Health *health, int64_t now, int64_t cost) {
    asked(health, now);
    health->cost = cost;
    change(health, Reach::kDown, now);
}

void note_silence(Health *health, int64_t now, int64_t limit) {
    if (is_silent(*health, limit))
        change(health, Reach::kDown, now);
}

bool is_silent(const Health &health, int64_t limit) {
    return health.asked_at != 0 && health.silence >= limit;
}

bool is_gone(const Health &health, int64_t limit) {
    return is_silent(health, limit) || (health.reach == Reach::kDown && health.cost > kQuick);
}

} // namespace panvel
