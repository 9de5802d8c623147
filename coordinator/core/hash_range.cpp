#include "coordinator/core/hash_range.h"

namespace panvel {
namespace {

using uint128_t = unsigned __int128;

// Position of the first value of range `index`, counted from INT64_MIN: ceil(index * 2^64 / count).
uint128_t first_position(uint32_t index, uint32_t count) {
    uint128_t product = static_cast<uint128_t>(index) << 64;
    return (product + count - 1) / count;
}

int64_t value_at(uint128_t position) {
    return static_cast<int64_t>(static_cast<uint64_t>(position) ^ (uint64_t{1} << 63));
}

} // namespace

std::vector<HashRange> split_hash_space(uint32_t count) {
    std::vector<HashRange> ranges(count);
    for (uint32_t i = 0; i < count; i++)
        ranges[i] = {value_at(first_position(i, count)),
                     value_at(first_position(i + 1, count) - 1)};
    return ranges;
}

uint32_t shard_index_of_hash(int64_t hash, uint32_t count) {
    uint64_t position = static_cast<uint64_t>(hash) ^ (uint64_t{1} << 63);
    // The largest i with ceil(i * 2^64 / count) <= position is floor(position * count / 2^64).
    return static_cast<uint32_t>((static_cast<uint128_t>(position) * count) >> 64);
}

} // namespace panvel
