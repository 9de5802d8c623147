// What a search by codes that is resumed has met and has no use for yet: many candidates, of which
// few are ever expanded. So they are kept unsorted, and sorted out in parts.
#pragma once

#include "extension/core/arena.h"
#include "extension/core/link.h"

namespace ann {

class LaterList {
  public:
    explicit LaterList(Arena arena) : candidates_(arena) {}

    bool empty() const { return candidates_.empty(); }
    size_t size() const { return candidates_.size(); }
    // The lowest distance in the list; infinity when it is empty.
    float nearest() const { return nearest_; }
    // All that has been taken out was at most so far off, all that is in it is farther.
    float horizon() const { return horizon_; }

    void clear() {
        candidates_.clear();
        nearest_ = std::numeric_limits<float>::infinity();
        horizon_ = -nearest_;
        compact_at_ = kCompactAt;
    }
    // REQUIRES: farther than horizon().
    void add(const Candidate &candidate) {
        candidates_.push_back(candidate);
        nearest_ = std::min(nearest_, candidate.distance);
    }

    // Takes the nearest quarter out, or all up to `limit` where that is finite and more, and gives
    // each to `take`. Forgets those that are in `visited`.
    template <typename Take> void take_nearest(const KeySet &visited, float limit, Take take) {
        forget(visited);
        if (candidates_.size() >= compact_at_)
            compact();
        nearest_ = std::numeric_limits<float>::infinity();
        if (candidates_.empty())
            return;
        Candidate *middle = candidates_.begin() + candidates_.size() / 4;
        std::nth_element(candidates_.begin(), middle, candidates_.end(), nearer);
        horizon_ = middle->distance;
        if (limit > horizon_ && limit < std::numeric_limits<float>::infinity())
            horizon_ = limit;
        keep_if([&](const Candidate &candidate) {
            bool later = candidate.distance > horizon_;
            if (later)
                nearest_ = std::min(nearest_, candidate.distance);
            else
                take(candidate);
            return later;
        });
    }

    // An element that several neighbours lead to is in the list as often. Leaves the nearest of
    // each, so that the list is not longer than the graph.
    void compact() {
        std::sort(candidates_.begin(), candidates_.end(),
                  [](const Candidate &a, const Candidate &b) {
                      if (a.link.key() != b.link.key())
                          return a.link.key() < b.link.key();
                      return a.distance < b.distance;
                  });
        Link before = Link::none();
        keep_if([&](const Candidate &candidate) {
            bool other = candidate.link != before;
            before = candidate.link;
            return other;
        });
        compact_at_ = std::max(kCompactAt, 2 * candidates_.size());
    }

  private:
    static constexpr size_t kCompactAt = 32768;

    template <typename Predicate> void keep_if(Predicate predicate) {
        size_t kept = 0;
        for (size_t i = 0; i < candidates_.size(); i++) {
            Candidate candidate = candidates_[i];
            if (predicate(candidate))
                candidates_[kept++] = candidate;
        }
        candidates_.truncate(kept);
    }
    void forget(const KeySet &visited) {
        keep_if([&](const Candidate &c) { return !visited.contains(c.link.key()); });
    }

    ArenaVector<Candidate> candidates_;
    float nearest_ = std::numeric_limits<float>::infinity();
    float horizon_ = -std::numeric_limits<float>::infinity();
    size_t compact_at_ = kCompactAt;
};

} // namespace ann
