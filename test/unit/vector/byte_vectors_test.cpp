// Vectors as bytes: distances near the exact ones, every kernel the same, and when floats are
// needed.
#include <gtest/gtest.h>

#include <random>

#include "extension/core/built_graph.h"
#include "extension/core/byte_vectors.h"
#include "extension/core/rotation.h"

namespace {

using namespace ann;

constexpr uint32_t kDim = 100; // not a multiple of the kernels' 64
constexpr VectorSpace kSpace = {VectorForm::kFloats, Metric::kL2, kDim};

std::vector<float> around(std::mt19937 &random, float center, float spread) {
    std::normal_distribution<float> normal(center, spread);
    std::vector<float> vector(kDim);
    for (float &x : vector)
        x = normal(random);
    return vector;
}

std::vector<uint8_t> encode(const ByteVectors &bytes, const float *vector) {
    std::vector<float> room(2 * padded_dim(kDim));
    std::vector<uint8_t> encoded(bytes.bytes());
    bytes.encode(vector, room.data(), encoded.data());
    return encoded;
}

BuildRows rows_around(std::mt19937 &random, float center, float spread, int count) {
    BuildRows rows(kSpace);
    for (int i = 0; i < count; i++)
        rows.add(around(random, center, spread).data(), {});
    return rows;
}

TEST(ByteVectors, DistancesAreNearTheExactOnes) {
    std::mt19937 random(1);
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
        BuildRows rows = rows_around(random, 3, 1, 500); // far from the origin
        ByteVectors bytes(metric, rows);
        ASSERT_TRUE(bytes.are_fine_enough());
        for (uint32_t i = 0; i + 1 < rows.size(); i++) {
            const float *a = rows.floats(i), *b = rows.floats(i + 1);
            float exact = metric_distance(metric, a, b, kDim);
            float l2 = metric_distance(Metric::kL2, a, b, kDim);
            float found = bytes.distance(encode(bytes, a).data(), encode(bytes, b).data());
            EXPECT_NEAR(found, exact, l2 * 0.05F);
        }
    }
}

TEST(ByteVectors, CosineOfUnitVectors) {
    std::mt19937 random(2);
    BuildRows rows(kSpace);
    for (int i = 0; i < 500; i++) {
        std::vector<float> vector = around(random, 0.3F, 1);
        float length = static_cast<float>(std::sqrt(squared_norm(vector.data(), kDim)));
        for (float &x : vector)
            x /= length;
        rows.add(vector.data(), {});
    }
    ByteVectors bytes(Metric::kCosine, rows);
    ASSERT_TRUE(bytes.are_fine_enough());
    for (uint32_t i = 0; i + 1 < rows.size(); i++) {
        const float *a = rows.floats(i), *b = rows.floats(i + 1);
        EXPECT_NEAR(bytes.distance(encode(bytes, a).data(), encode(bytes, b).data()),
                    metric_distance(Metric::kCosine, a, b, kDim), 0.05F);
    }
}

TEST(ByteVectors, KernelsAgree) {
    std::mt19937 random(3);
    for (size_t count : {64u, 128u, 832u, 16000u}) {
        std::vector<uint8_t> a(count), b(count);
        for (size_t i = 0; i < count; i++) {
            a[i] = static_cast<uint8_t>(random());
            b[i] = static_cast<uint8_t>(random());
        }
        a[0] = 127, b[0] = static_cast<uint8_t>(-127);
        uint32_t sum = 0;
        for (size_t i = 0; i < count; i++) {
            int difference = static_cast<int8_t>(a[i]) - static_cast<int8_t>(b[i]);
            sum += static_cast<uint32_t>(difference * difference);
        }
        for (const char *set : {"portable", "avx2", "avx512"}) {
            if (!select_kernels(set))
                continue;
            EXPECT_EQ(byte_l2()(a.data(), b.data(), count), sum) << set;
        }
        select_kernels("auto");
    }
}

TEST(ByteVectors, TightClustersFarApartNeedFloats) {
    std::mt19937 random(4);
    BuildRows rows(kSpace);
    for (int cluster = 0; cluster < 10; cluster++)
        for (int i = 0; i < 100; i++)
            rows.add(around(random, static_cast<float>(cluster), 0.001F).data(), {});
    EXPECT_FALSE(ByteVectors(Metric::kL2, rows).are_fine_enough());
}

TEST(ByteVectors, WhatHasNoScaleNeedsFloats) {
    BuildRows none(kSpace), one(kSpace), huge(kSpace);
    EXPECT_FALSE(ByteVectors(Metric::kL2, none).are_fine_enough());
    std::vector<float> vector(kDim, 1);
    one.add(vector.data(), {});
    EXPECT_FALSE(ByteVectors(Metric::kL2, one).are_fine_enough());
    for (int i = 0; i < 10; i++) {
        vector[0] = i % 2 == 0 ? 3e38F : -3e38F;
        vector[1] = static_cast<float>(i);
        huge.add(vector.data(), {});
    }
    EXPECT_FALSE(ByteVectors(Metric::kL2, huge).are_fine_enough());
}

} // namespace
