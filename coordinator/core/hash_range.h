// Hash ranges of shards. Pure C++.
#pragma once

#include <cstdint>
#include <vector>

namespace panvel {

struct HashRange {
    int64_t min; // inclusive
    int64_t max; // inclusive
};

// Splits the signed 64-bit numbers into `count` (1 .. 2^20) ranges of equal size, the last ones
// one value shorter where 2^64 is not divisible; ascending, without gaps.
std::vector<HashRange> split_hash_space(uint32_t count);

// Index of the range that holds `hash`, for `count` ranges made by split_hash_space(). O(1).
uint32_t shard_index_of_hash(int64_t hash, uint32_t count);

} // namespace panvel
