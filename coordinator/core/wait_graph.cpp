#include "coordinator/core/wait_graph.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

namespace panvel {
namespace {

using Graph = std::map<Party, std::vector<const Wait *>>;

// The server itself sees the circle, and will break it.
bool seen_by_server(const std::vector<const Wait *> &circle) {
    for (size_t i = 0; i < circle.size(); i++) {
        const Wait *next = circle[(i + 1) % circle.size()];
        if (circle[i]->place != next->place || circle[i]->blocker_pid != next->waiter_pid)
            return false;
    }
    return true;
}

// Depth first from `start`. Parties that a search has left are not on any circle it could find
// through them, except circles on one server, which may hide a longer one: `done` is therefore of
// one start only, and the searches from all starts cost parties x waits at most.
std::vector<Wait> circle_through(const Graph &graph, const Party &start) {
    struct Step {
        const std::vector<const Wait *> *waits;
        size_t next;
    };
    std::map<Party, bool> done;
    std::vector<const Wait *> path;
    auto first = graph.find(start);
    std::vector<Step> steps = {{&first->second, 0}};
    done[start] = true;
    while (!steps.empty()) {
        Step &step = steps.back();
        if (step.next == step.waits->size()) {
            steps.pop_back();
            if (!path.empty())
                path.pop_back();
            continue;
        }
        const Wait *wait = (*step.waits)[step.next++];
        if (wait->blocker == start) {
            path.push_back(wait);
            if (!seen_by_server(path)) {
                std::vector<Wait> circle;
                for (const Wait *each : path)
                    circle.push_back(*each);
                return circle;
            }
            path.pop_back();
            continue;
        }
        auto next = graph.find(wait->blocker);
        if (next == graph.end() || done[wait->blocker])
            continue;
        done[wait->blocker] = true;
        path.push_back(wait);
        steps.push_back({&next->second, 0});
    }
    return {};
}

} // namespace

std::vector<Wait> lasting_waits(std::vector<Wait> first, std::vector<Wait> second) {
    for (auto *waits : {&first, &second}) {
        std::sort(waits->begin(), waits->end());
        waits->erase(std::unique(waits->begin(), waits->end()), waits->end());
    }
    std::vector<Wait> both;
    std::set_intersection(first.begin(), first.end(), second.begin(), second.end(),
                          std::back_inserter(both));
    return both;
}

std::vector<Wait> attended_waits(std::vector<Wait> waits) {
    std::set<Party> here;
    for (const Wait &wait : waits)
        if (wait.place == kHere)
            here.insert(wait.waiter);
    std::erase_if(
        waits, [&](const Wait &wait) { return wait.place != kHere && here.contains(wait.waiter); });
    return waits;
}

std::vector<Wait> find_circle(const std::vector<Wait> &waits) {
    Graph graph;
    for (const Wait &wait : waits)
        graph[wait.waiter].push_back(&wait);
    for (const auto &[party, unused] : graph) {
        std::vector<Wait> circle = circle_through(graph, party);
        if (!circle.empty())
            return circle;
    }
    return {};
}

std::optional<Party>
choose_victim(const std::vector<Wait> &circle,
              const std::function<std::optional<int64_t>(const Party &)> &started) {
    std::optional<Party> victim;
    int64_t latest = 0;
    for (const Wait &wait : circle) {
        if (wait.place == kHere)
            continue;
        std::optional<int64_t> start = started(wait.waiter);
        if (start && (!victim || *start > latest || (*start == latest && wait.waiter > *victim))) {
            victim = wait.waiter;
            latest = *start;
        }
    }
    return victim;
}

} // namespace panvel
