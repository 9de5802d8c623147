// What a search by codes has met and not expanded yet.
//
// Every expansion brings dozens of estimates, of which a few are ever looked at. So they are not
// put in a queue one by one: each block of 32 stays together, and the heap holds the nearest of
// each block. Taking one finds its block's next by comparing 32 floats at once.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "extension/core/arena.h"
#include "extension/core/element.h"

namespace ann {

class Frontier {
  public:
    explicit Frontier(Arena arena) : estimates_(arena), links_(arena), heads_(arena) {}

    void clear() {
        estimates_.clear();
        links_.clear();
        heads_.clear();
    }
    bool empty() const { return heads_.empty(); }
    float distance() const { return heads_[0].distance; } // of the nearest; none may be empty
    Link nearest() const { return links_[heads_[0].place]; }

    // Adds a list: `count` links, a multiple of 32, with estimates; NaN where there is nothing to
    // be expanded. Blocks with nothing nearer than `limit` are left out.
    void add(const Link *links, const float *estimates, uint32_t count, float limit) {
        for (uint32_t i = 0; i < count; i += kNeighborBlock)
            add_block(links + i, estimates + i, limit);
    }
    void add(Link link, float distance) {
        Link links[kNeighborBlock] = {link};
        float estimates[kNeighborBlock];
        std::fill(estimates, estimates + kNeighborBlock, kNothing);
        estimates[0] = distance;
        add_block(links, estimates, std::numeric_limits<float>::infinity());
    }
    // Takes the nearest away. Nothing farther than `limit` will be asked for any more.
    void pop(float limit) {
        uint32_t place = heads_[0].place;
        std::pop_heap(heads_.begin(), heads_.end(), Head::farther);
        heads_.pop_back();
        estimates_[place] = kNothing;
        push_head(place / kNeighborBlock * kNeighborBlock, limit);
    }

  private:
    struct Head {
        float distance;
        uint32_t place; // in estimates_ and links_
        static bool farther(const Head &a, const Head &b) {
            return a.distance != b.distance ? a.distance > b.distance : a.place > b.place;
        }
    };
    static constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();

    void add_block(const Link *links, const float *estimates, float limit) {
        auto first = static_cast<uint32_t>(links_.size());
        std::memcpy(links_.extend(kNeighborBlock), links, kNeighborBlock * sizeof(Link));
        std::memcpy(estimates_.extend(kNeighborBlock), estimates, kNeighborBlock * sizeof(float));
        if (!push_head(first, limit)) {
            links_.truncate(first);
            estimates_.truncate(first);
        }
    }
    // False when nothing of the block is within the limit.
    bool push_head(uint32_t first, float limit) {
        uint32_t which = least(&estimates_[first]);
        if (which == kNeighborBlock || estimates_[first + which] > limit)
            return false;
        heads_.push_back({estimates_[first + which], first + which});
        std::push_heap(heads_.begin(), heads_.end(), Head::farther);
        return true;
    }

    // The first of the least of a block's estimates; kNeighborBlock when all are NaN.
    static uint32_t least(const float *block) {
#if defined(__SSE2__)
        // Of a NaN and a number, minps gives its second operand.
        __m128 low = _mm_set1_ps(std::numeric_limits<float>::infinity());
        for (uint32_t i = 0; i < kNeighborBlock; i += 4)
            low = _mm_min_ps(_mm_loadu_ps(block + i), low);
        low = _mm_min_ps(low, _mm_shuffle_ps(low, low, _MM_SHUFFLE(1, 0, 3, 2)));
        low = _mm_min_ps(low, _mm_shuffle_ps(low, low, _MM_SHUFFLE(2, 3, 0, 1)));
        uint32_t equal = 0;
        for (uint32_t i = 0; i < kNeighborBlock; i += 4)
            equal |=
                static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpeq_ps(_mm_loadu_ps(block + i), low)))
                << i;
        return static_cast<uint32_t>(std::countr_zero(equal)); // 32 for none
#else
        uint32_t least = kNeighborBlock;
        for (uint32_t i = 0; i < kNeighborBlock; i++)
            if (block[i] == block[i] && (least == kNeighborBlock || block[i] < block[least]))
                least = i;
        return least;
#endif
    }

    ArenaVector<float> estimates_;
    ArenaVector<Link> links_;
    ArenaVector<Head> heads_; // min-heap
};

} // namespace ann
