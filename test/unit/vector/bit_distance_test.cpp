#include "extension/core/bit_distance.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "extension/core/distance.h"

namespace {

TEST(BitDistance, AgreesWithCountingBits) {
    std::mt19937 random(1);
    for (const char *set : {"portable", "auto"}) {
        ASSERT_TRUE(ann::select_kernels(set));
        for (size_t bytes = 0; bytes <= 70; bytes++) {
            std::vector<uint8_t> a(bytes), b(bytes);
            uint64_t differ = 0, both = 0, either = 0;
            for (size_t i = 0; i < bytes; i++) {
                a[i] = static_cast<uint8_t>(random());
                b[i] = static_cast<uint8_t>(random());
                for (int bit = 0; bit < 8; bit++) {
                    bool x = (a[i] >> bit & 1) != 0, y = (b[i] >> bit & 1) != 0;
                    differ += x != y;
                    both += x && y;
                    either += x || y;
                }
            }
            ASSERT_EQ(ann::hamming_distance(a.data(), b.data(), bytes), differ);
            double expected =
                both == 0 ? 1 : 1 - static_cast<double>(both) / static_cast<double>(either);
            ASSERT_EQ(ann::jaccard_distance(a.data(), b.data(), bytes), expected);
            if (bytes > 1) {
                // Any alignment.
                ASSERT_EQ(ann::hamming_distance(a.data() + 1, a.data() + 1, bytes - 1), 0);
            }
        }
    }
}

TEST(BitDistance, NoBitInCommonIsOne) {
    uint8_t zero[2] = {}, ones[2] = {0xff, 0x0f};
    EXPECT_EQ(ann::jaccard_distance(zero, zero, 2), 1);
    EXPECT_EQ(ann::jaccard_distance(zero, ones, 2), 1);
    EXPECT_EQ(ann::jaccard_distance(ones, ones, 2), 0);
    EXPECT_EQ(ann::hamming_distance(zero, ones, 2), 12);
}

} // namespace
