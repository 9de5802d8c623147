// What a search by codes has met and not expanded yet.
//
// Every expansion brings dozens of estimates, of which a few are ever looked at. So they are not
// put in a queue one by one: they stay in blocks of 32, of each of which the least is known; of
// these again, 32 by 32, and so on (a tournament tree). To find the least of 32 floats takes no
// branch, where a binary heap takes one on each of its levels that the processor cannot foresee.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "extension/core/arena.h"
#include "extension/core/element.h"

namespace ann {

class Frontier {
  public:
    explicit Frontier(Arena arena)
        : estimates_(arena), links_(arena), levels_{Level(arena), Level(arena), Level(arena),
                                                    Level(arena), Level(arena), Level(arena)} {}

    void clear() {
        estimates_.clear();
        links_.clear();
        for (uint32_t i = 0; i < depth_; i++)
            levels_[i].clear();
        depth_ = 1;
        nearest_ = kNowhere;
    }
    bool empty() const { return nearest_ == kNowhere; }
    float distance() const { return distance_; } // of the nearest; none may be empty
    Link nearest() const { return links_[nearest_]; }

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
        estimates_[nearest_] = kNothing;
        uint32_t block = nearest_ / kNeighborBlock;
        Least left = least(&estimates_[block * kNeighborBlock]);
        if (left.value > limit)
            left.value = kNothing;
        for (uint32_t i = 0;; i++) {
            levels_[i].values[block] = left.value;
            levels_[i].places[block] = left.place;
            if (i + 1 == depth_)
                break;
            block /= kNeighborBlock;
            left = least(&levels_[i].values[block * kNeighborBlock]);
        }
        find_nearest();
    }

  private:
    struct Least {
        float value;    // NaN: there is none
        uint32_t place; // in the block
    };
    // The least of each block of the level below, that of level 0 being the estimates.
    struct Level {
        explicit Level(Arena arena) : values(arena), places(arena) {}

        void clear() {
            values.clear();
            places.clear();
        }

        ArenaVector<float> values; // full blocks, the last filled up with NaN
        ArenaVector<uint32_t> places;
    };
    static constexpr uint32_t kMaxDepth = 6;
    static constexpr size_t kFew = 8; // on the highest level, which is looked through one by one
    static constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();
    static constexpr uint32_t kNowhere = 0xFFFFFFFF;

    void add_block(const Link *links, const float *estimates, float limit) {
        Least first = least(estimates);
        if (!(first.value <= limit))
            return;
        auto block = static_cast<uint32_t>(levels_[0].places.size());
        std::memcpy(links_.extend(kNeighborBlock), links, kNeighborBlock * sizeof(Link));
        std::memcpy(estimates_.extend(kNeighborBlock), estimates, kNeighborBlock * sizeof(float));
        lower(0, block, first);
        if (empty() || first.value < distance_) {
            nearest_ = block * kNeighborBlock + first.place;
            distance_ = first.value;
        }
    }
    // A block of the level below, perhaps a new one, has something as near as that.
    void lower(uint32_t level, uint32_t block, Least least_of_block) {
        Level *at = &levels_[level];
        if (block == at->places.size()) {
            if (block % kNeighborBlock == 0)
                std::fill_n(at->values.extend(kNeighborBlock), kNeighborBlock, kNothing);
            at->places.push_back(0);
        }
        if (at->values[block] <= least_of_block.value)
            return;
        at->values[block] = least_of_block.value;
        at->places[block] = least_of_block.place;
        if (level + 1 < depth_)
            lower(level + 1, block / kNeighborBlock,
                  {least_of_block.value, block % kNeighborBlock});
        else if (at->places.size() > kFew && depth_ < kMaxDepth) // all of one block still
            lower(depth_++, 0, least(&at->values[0]));
    }
    void find_nearest() {
        nearest_ = kNowhere;
        const Level *highest = &levels_[depth_ - 1];
        for (uint32_t i = 0; i < highest->places.size(); i++) {
            float value = highest->values[i];
            if (value == value && (empty() || value < distance_)) {
                nearest_ = i;
                distance_ = value;
            }
        }
        for (uint32_t i = depth_; i-- > 0 && !empty();)
            nearest_ = nearest_ * kNeighborBlock + levels_[i].places[nearest_];
    }

    // The first of the least of a block.
    static Least least(const float *block) {
#if defined(__SSE2__)
        // Of a NaN and a number, minps gives its second operand.
        __m128 low = _mm_set1_ps(std::numeric_limits<float>::infinity()), other = low;
        for (uint32_t i = 0; i < kNeighborBlock; i += 8) {
            low = _mm_min_ps(_mm_loadu_ps(block + i), low);
            other = _mm_min_ps(_mm_loadu_ps(block + i + 4), other);
        }
        low = _mm_min_ps(low, other);
        low = _mm_min_ps(low, _mm_shuffle_ps(low, low, _MM_SHUFFLE(1, 0, 3, 2)));
        low = _mm_min_ps(low, _mm_shuffle_ps(low, low, _MM_SHUFFLE(2, 3, 0, 1)));
        auto equal = [&](uint32_t i) {
            auto four = [&](uint32_t at) {
                return _mm_castps_si128(_mm_cmpeq_ps(_mm_loadu_ps(block + at), low));
            };
            __m128i eight = _mm_packs_epi32(four(i), four(i + 4));
            __m128i last = _mm_packs_epi32(four(i + 8), four(i + 12));
            return static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(eight, last)));
        };
        uint32_t places = equal(0) | equal(16) << 16;
        if (places == 0)
            return {kNothing, 0};
        return {_mm_cvtss_f32(low), static_cast<uint32_t>(std::countr_zero(places))};
#else
        Least least = {kNothing, 0};
        for (uint32_t i = 0; i < kNeighborBlock; i++)
            if (block[i] < least.value || (least.value != least.value && block[i] == block[i]))
                least = {block[i], i};
        return least;
#endif
    }

    ArenaVector<float> estimates_; // by place; NaN: taken, or nothing
    ArenaVector<Link> links_;      // by place
    Level levels_[kMaxDepth];
    uint32_t depth_ = 1;          // levels in use
    uint32_t nearest_ = kNowhere; // its place
    float distance_ = 0;
};

} // namespace ann
