// The forms in which an index keeps vectors: sizes, distances, and building a graph of each.
#include "extension/core/vector_space.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "extension/core/graph_builder.h"

namespace {

using namespace ann;

using Bytes = std::vector<uint8_t>;

constexpr uint32_t kDim = 90;

// A random vector in the form and metric of `space`, and what it is in double.
struct Sample {
    Bytes bytes;
    std::vector<double> x;

    Sample(const VectorSpace &space, std::mt19937 &random) : x(kDim) {
        std::normal_distribution<double> normal;
        for (double &value : x) {
            value = normal(random);
            if (space.form == VectorForm::kBits)
                value = value > 0 ? 1 : 0;
            else if (space.form == VectorForm::kSparse && random() % 4 != 0)
                value = 0;
            else if (space.form == VectorForm::kHalves)
                value = to_float(to_half(static_cast<float>(value)));
        }
        double norm = 0;
        for (double value : x)
            norm += value * value;
        norm = space.metric == Metric::kCosine ? std::sqrt(norm) : 1;
        encode(space, norm);
        for (double &value : x)
            value /= norm;
    }

    void append(const void *data, size_t size) {
        const auto *from = static_cast<const uint8_t *>(data);
        bytes.insert(bytes.end(), from, from + size);
    }

    void encode(const VectorSpace &space, double norm) {
        std::vector<int32_t> indices;
        std::vector<float> values;
        switch (space.form) {
        case VectorForm::kFloats:
            for (double value : x)
                values.push_back(static_cast<float>(value / norm));
            append(values.data(), values.size() * sizeof(float));
            break;
        case VectorForm::kHalves: {
            for (double value : x) {
                Half half = to_half(static_cast<float>(value));
                append(&half, sizeof(half));
            }
            float scale = static_cast<float>(1 / norm);
            bytes.resize(space.scale_offset());
            if (space.metric == Metric::kCosine)
                append(&scale, sizeof(scale));
            else
                bytes.resize(space.bytes());
            break;
        }
        case VectorForm::kBits:
            bytes.resize((kDim + 7) / 8);
            for (uint32_t i = 0; i < kDim; i++)
                bytes[i / 8] |= static_cast<uint8_t>((x[i] > 0 ? 1 : 0) << (7 - i % 8));
            break;
        case VectorForm::kSparse:
            for (uint32_t i = 0; i < kDim; i++) {
                if (x[i] == 0)
                    continue;
                indices.push_back(static_cast<int32_t>(i));
                values.push_back(static_cast<float>(x[i] / norm));
            }
            auto count = static_cast<uint32_t>(indices.size());
            append(&count, sizeof(count));
            append(indices.data(), indices.size() * sizeof(int32_t));
            append(values.data(), values.size() * sizeof(float));
        }
    }
};

double exact(Metric metric, const std::vector<double> &a, const std::vector<double> &b) {
    double l2 = 0, dot = 0, l1 = 0, both = 0, either = 0;
    for (size_t i = 0; i < a.size(); i++) {
        l2 += (a[i] - b[i]) * (a[i] - b[i]);
        dot += a[i] * b[i];
        l1 += std::fabs(a[i] - b[i]);
        both += a[i] > 0 && b[i] > 0;
        either += a[i] > 0 || b[i] > 0;
    }
    switch (metric) {
    case Metric::kL2:
        return l2;
    case Metric::kInnerProduct:
        return -dot;
    case Metric::kCosine:
        return 1 - dot;
    case Metric::kJaccard:
        return 1 - both / either;
    default:
        return l1;
    }
}

std::vector<VectorSpace> spaces() {
    std::vector<VectorSpace> all;
    for (VectorForm form : {VectorForm::kFloats, VectorForm::kHalves, VectorForm::kSparse})
        for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine, Metric::kL1})
            all.push_back({form, metric, kDim});
    all.push_back({VectorForm::kBits, Metric::kHamming, kDim});
    all.push_back({VectorForm::kBits, Metric::kJaccard, kDim});
    return all;
}

TEST(VectorSpace, SizesAndDistancesOfEveryForm) {
    std::mt19937 random(1);
    for (const VectorSpace &space : spaces()) {
        for (int i = 0; i < 20; i++) {
            Sample a(space, random), b(space, random);
            ASSERT_EQ(space.bytes(a.bytes.data()), a.bytes.size());
            ASSERT_LE(a.bytes.size(), space.max_bytes());
            ASSERT_NEAR(space.distance(a.bytes.data(), b.bytes.data()),
                        exact(space.metric, a.x, b.x), 1e-4)
                << static_cast<int>(space.form) << " " << static_cast<int>(space.metric);
            if (!space.dense())
                continue;
            std::vector<float> room(kDim);
            const float *floats = space.floats(a.bytes.data(), room.data());
            for (uint32_t k = 0; k < kDim; k++)
                ASSERT_NEAR(floats[k], a.x[k], 1e-6);
        }
    }
}

TEST(VectorSpace, EveryFormCanBeBuilt) {
    for (const VectorSpace &space : spaces()) {
        for (bool by_bytes : {false, true}) {
            if (by_bytes && (!space.dense() || space.metric == Metric::kL1))
                continue;
            std::mt19937 random(2);
            BuildRows rows(space);
            std::vector<Sample> samples;
            for (uint16_t i = 0; i < 400; i++) {
                samples.emplace_back(space, random);
                rows.add(samples.back().bytes.data(), {0, 0, i});
                rows.add(samples[i / 2].bytes.data(), {0, 1, i}); // once more
            }
            ASSERT_EQ(rows.size(), 400u);
            GraphBuilder builder({space, 8, 60, 32, true, by_bytes}, rows);
            std::atomic<bool> stop = false;
            builder.add_all(stop);
            builder.collect_lists(stop);
            builder.connect();
            int near = 0, neighbors = 0;
            for (uint32_t node = 0; node < builder.size(); node++) {
                ASSERT_EQ(space.bytes(builder.vector(node)), samples[node].bytes.size());
                ASSERT_EQ(std::memcmp(builder.vector(node), samples[node].bytes.data(),
                                      samples[node].bytes.size()),
                          0);
                double mean = 0;
                for (uint32_t other = 0; other < builder.size(); other++)
                    mean += builder.distance(node, other) / builder.size();
                for (uint32_t other : builder.lists().of(node)) {
                    neighbors += other != kNoNode;
                    near += other != kNoNode && builder.distance(node, other) < mean;
                }
            }
            EXPECT_GT(near, neighbors * 0.9)
                << static_cast<int>(space.form) << " " << static_cast<int>(space.metric);
        }
    }
}

TEST(ElementLayout, OfSparseVectorsHasRoomForMostAndSlotsForTheRest) {
    for (uint32_t m : {2u, 16u, 100u}) {
        VectorSpace space = {VectorForm::kSparse, Metric::kL2, 1000000000};
        ElementLayout l = ElementLayout::make(space, m, 0, 8152);
        EXPECT_FALSE(l.spanned());
        EXPECT_GE(l.vector_bytes, VectorSpace::sparse_bytes(128));
        EXPECT_EQ(l.vector_offset + l.vector_bytes, l.size);
        EXPECT_EQ(l.head_bytes, l.size);
        EXPECT_LT(8152 - 8152 / l.size * l.size, 64u) << "little of a page is left over";
        EXPECT_EQ(l.overflow_slots(l.vector_bytes), 0u);
        EXPECT_EQ(l.overflow_slots(l.vector_bytes + 1), 1u);
        EXPECT_EQ(l.overflow_slots(l.vector_bytes + l.overflow_bytes), 1u);
        EXPECT_EQ(l.overflow_slots(l.vector_bytes + l.overflow_bytes + 1), 2u);
        EXPECT_LE(4 * (l.overflow_bytes + sizeof(OverflowSlot)), 8152u);
    }
}

TEST(ElementLayout, OfHalvesAndBitsIsSmaller) {
    auto size = [](VectorForm form, Metric metric, uint32_t dim) {
        return ElementLayout::make({form, metric, dim}, 16, 0, 8152).size;
    };
    uint32_t floats = size(VectorForm::kFloats, Metric::kL2, 784);
    EXPECT_EQ(floats - size(VectorForm::kHalves, Metric::kL2, 784), 2 * 784u);
    EXPECT_EQ(floats - size(VectorForm::kBits, Metric::kHamming, 784), 4 * 784u - 98 - 6);
}

} // namespace
