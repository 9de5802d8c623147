#include "coordinator/core/hash_range.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

using panvel::shard_index_of_hash;
using panvel::split_hash_space;

TEST(HashRange, RangesCoverEverythingWithoutGapOrOverlap) {
    for (uint32_t count : {1u, 2u, 3u, 7u, 8u, 32u, 1000u, 1u << 20}) {
        auto ranges = split_hash_space(count);
        ASSERT_EQ(ranges.size(), count);
        EXPECT_EQ(ranges.front().min, std::numeric_limits<int64_t>::min());
        EXPECT_EQ(ranges.back().max, std::numeric_limits<int64_t>::max());
        for (uint32_t i = 1; i < count; i++)
            ASSERT_EQ(ranges[i].min, ranges[i - 1].max + 1) << count << " ranges, at " << i;
    }
}

TEST(HashRange, IndexOfHashAgreesWithTheRanges) {
    std::mt19937_64 random(1);
    for (uint32_t count : {1u, 2u, 3u, 7u, 8u, 31u, 1000u}) {
        auto ranges = split_hash_space(count);
        for (uint32_t i = 0; i < count; i++) {
            ASSERT_EQ(shard_index_of_hash(ranges[i].min, count), i);
            ASSERT_EQ(shard_index_of_hash(ranges[i].max, count), i);
        }
        for (int draw = 0; draw < 10000; draw++) {
            int64_t hash = static_cast<int64_t>(random());
            uint32_t index = shard_index_of_hash(hash, count);
            ASSERT_LE(ranges[index].min, hash);
            ASSERT_GE(ranges[index].max, hash);
        }
    }
}
