#include "coordinator/core/gid.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

using namespace panvel;

TEST(Gid, RoundTrips) {
    std::mt19937_64 random(7);
    for (int draw = 0; draw < 1000; draw++) {
        Gid gid{random() >> (draw % 60),
                static_cast<uint32_t>(random()),
                random() >> (draw % 64),
                random() >> (draw % 64),
                static_cast<int32_t>(random() >> 33),
                static_cast<int32_t>(random() >> 33)};
        auto parsed = parse_gid(format_gid(gid));
        ASSERT_TRUE(parsed.has_value()) << format_gid(gid);
        EXPECT_EQ(*parsed, gid);
    }
}

TEST(Gid, FitsWhatPostgresAllows) {
    Gid longest{std::numeric_limits<uint64_t>::max(), std::numeric_limits<uint32_t>::max(),
                std::numeric_limits<uint64_t>::max(), std::numeric_limits<uint64_t>::max(),
                std::numeric_limits<int32_t>::min(),  std::numeric_limits<int32_t>::min()};
    EXPECT_LE(format_gid(longest).size(), 107u);
}

TEST(Gid, BeginsWithThePrefixOfItsDatabase) {
    Gid gid{12, 5, 99, 0xabc, 3, 1};
    EXPECT_EQ(format_gid(gid), "panvel_12_5_99_abc_3_1");
    EXPECT_EQ(gid_prefix(12, 5), "panvel_12_5_");
}

TEST(Gid, RefusesWhatItDidNotMake) {
    for (const char *name : {"", "panvel_", "panvel_1_2_3_4_5", "panvel_1_2_3_4_5_6_7",
                             "panvel_1_2_3_4_5_6 ", "panvel_01_2_3_4_5_6", "panvel_+1_2_3_4_5_6",
                             "panvel_1_2_3_ABC_5_6", "panvel_1_-2_3_4_5_6",
                             "panvel_1_4294967296_3_4_5_6", "panvel_99999999999999999999_2_3_4_5_6",
                             "other_1_2_3_4_5_6", "panvel_1_2_3_4_5_x", "panvel_1_2_3__5_6"})
        EXPECT_FALSE(parse_gid(name).has_value()) << name;
}

TEST(Verdict, ARunningTransactionIsUndecided) {
    EXPECT_EQ(decide(true, false), Verdict::kUndecided);
    EXPECT_EQ(decide(true, true), Verdict::kUndecided);
    EXPECT_EQ(decide(false, true), Verdict::kCommit);
    EXPECT_EQ(decide(false, false), Verdict::kRollback);
}
