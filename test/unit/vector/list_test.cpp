// Inverted lists: their layout, their members' codes and the bounds that these give.
#include "extension/core/list_layout.h"
#include "extension/core/member_code.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <vector>

namespace {

using ann::ListLayout;
using ann::Metric;

TEST(ListLayout, EveryDimensionFitsItsPages) {
    for (uint32_t bits : {1U, 2U}) {
        for (uint32_t dim = 64; dim <= 16000; dim += dim < 3000 ? 1 : 97) {
            for (uint32_t bytes : {dim * 4, dim * 2}) {
                ListLayout l = ListLayout::make(dim, bytes, bits);
                ASSERT_GE(l.blocks, 1U);
                ASSERT_LE(l.group_end, ann::kListPageEnd);
                ASSERT_LE(l.vector_end, ann::kListPageEnd);
                ASSERT_GE(l.coded, 8U);
                ASSERT_EQ(l.coded % 8, 0U);
                ASSERT_LE(l.coded, l.padded);
                ASSERT_GE(l.pieces * l.piece_bytes, bytes);
                ASSERT_LT((l.pieces - 1) * l.piece_bytes, bytes);
                ASSERT_LT(l.page_of(l.members - 1, l.pieces - 1), l.vector_pages);
                if (dim * bits <= 1600) {
                    ASSERT_EQ(l.coded, l.padded) << dim;
                }
            }
        }
    }
}

TEST(ListLayout, NoTwoPiecesShareAPlace) {
    for (uint32_t dim : {64, 784, 1024, 1536, 3072, 16000}) {
        ListLayout l = ListLayout::make(dim, dim * 4, 1);
        std::set<std::pair<uint32_t, uint32_t>> places;
        for (uint32_t member = 0; member < l.members; member++)
            for (uint32_t piece = 0; piece < l.pieces; piece++)
                EXPECT_TRUE(
                    places.insert({l.page_of(member, piece), l.slot_of(member, piece)}).second);
        EXPECT_EQ(places.rbegin()->first + 1, l.vector_pages);
    }
}

TEST(ListLayout, WithoutCodesVectorsLieInTheGroup) {
    for (uint32_t bytes : {4U, 12U, 252U, 4000U, 8000U}) {
        ListLayout l = ListLayout::make(1, bytes, 0);
        EXPECT_FALSE(l.has_codes());
        EXPECT_GE(l.members, 1U);
        EXPECT_EQ(l.vector_pages, 0U);
        EXPECT_LE(l.group_end, ann::kListPageEnd);
    }
}

struct Data {
    uint32_t dim;
    std::vector<float> center, query;
    std::vector<std::vector<float>> members;

    Data(uint32_t d, uint32_t seed, float offset, size_t count) : dim(d) {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal;
        auto point = [&](const std::vector<float> &about) {
            std::vector<float> x(dim);
            for (uint32_t i = 0; i < dim; i++)
                x[i] = (about.empty() ? offset : about[i]) + normal(random);
            return x;
        };
        center = point({});
        query = point(center);
        for (size_t i = 0; i < count; i++)
            members.push_back(point(center));
    }
    std::vector<float> rotated(const std::vector<float> &x) const {
        std::vector<float> out(ann::padded_dim(dim));
        ann::rotate(7, x.data(), dim, out.data());
        return out;
    }
    float distance(Metric metric, const std::vector<float> &a) const {
        if (metric == Metric::kL2)
            return ann::kernels().l2_squared(query.data(), a.data(), dim);
        return -ann::kernels().inner_product(query.data(), a.data(), dim);
    }
};

struct Bounds {
    double exceeded = 0; // share of members nearer than their bound
    double gap = 0;      // mean distance of the bound from the truth
};

Bounds bounds_of(const Data &data, Metric metric, uint32_t bits, uint32_t coded) {
    ListLayout l = ListLayout::make(data.dim, data.dim * 4, bits);
    l.coded = coded; // as in a list of larger vectors
    std::vector<uint8_t> memory(64 + l.block_bytes * 8 + 16384), code(4096);
    auto center = data.rotated(data.center), query = data.rotated(data.query);
    std::vector<uint8_t> sums(ann::table_bytes(coded));
    ann::QueryTable table = ann::make_table(query.data(), coded, bits, sums.data());
    ann::MemberQuery member_query(
        metric, table, data.distance(metric, data.center),
        static_cast<float>(ann::squared_norm(data.center.data(), data.dim)),
        static_cast<float>(ann::squared_norm(data.query.data(), data.dim)));
    Bounds result;
    for (size_t first = 0; first + 32 <= data.members.size(); first += 32) {
        std::fill(memory.begin(), memory.end(), 0);
        ann::ListBlock block = {memory.data(), &l};
        for (uint32_t i = 0; i < 32; i++) {
            auto v = data.rotated(data.members[first + i]);
            auto factors = ann::encode_member(metric, center.data(), v.data(), l.padded, coded,
                                              bits, code.data());
            ann::put_member(block, i, factors, code.data());
            block.live() |= 1U << i;
        }
        float out[32];
        ann::member_bounds(table, block, member_query, out);
        for (uint32_t i = 0; i < 32; i++) {
            float truth = data.distance(metric, data.members[first + i]);
            result.exceeded += truth < out[i];
            result.gap += truth - out[i];
        }
    }
    result.exceeded /= static_cast<double>(data.members.size());
    result.gap /= static_cast<double>(data.members.size());
    return result;
}

TEST(MemberBounds, AreExceededAndNotFarFromTheTruth) {
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
        for (uint32_t dim : {64, 100, 784}) {
            for (float offset : {0.0F, 1.0F, 30.0F}) {
                Data data(dim, dim, offset, 960);
                uint32_t padded = ann::padded_dim(dim);
                Bounds one = bounds_of(data, metric, 1, padded),
                       two = bounds_of(data, metric, 2, padded);
                EXPECT_LE(one.exceeded, 0.002) << dim << " " << offset;
                EXPECT_LE(two.exceeded, 0.002) << dim << " " << offset;
                EXPECT_LT(two.gap, 0.8 * one.gap) << dim << " " << offset;
                // |r| = |p| = sqrt(dim): four standard errors of one bit are 2 x 4 x 0.755 x
                // sqrt(dim).
                if (offset == 0) {
                    EXPECT_LT(one.gap, (metric == Metric::kL2 ? 8 : 4) * std::sqrt(dim)) << dim;
                }
            }
        }
    }
}

TEST(MemberBounds, OfCodesOfAPartOfTheDimensions) {
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
        Data data(2000, 5, 0.5F, 640);
        Bounds whole = bounds_of(data, metric, 1, 2000), part = bounds_of(data, metric, 1, 800);
        EXPECT_LE(part.exceeded, 0.002);
        EXPECT_GT(part.gap, whole.gap);
        EXPECT_LT(part.gap, 3 * whole.gap);
    }
}

TEST(MemberBounds, OfTheCentreItself) {
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
        Data data(100, 3, 2, 32);
        for (auto &member : data.members)
            member = data.center;
        Bounds bounds = bounds_of(data, metric, 1, 104);
        EXPECT_EQ(bounds.exceeded, 0);
        EXPECT_LT(bounds.gap, 0.01);
    }
}

TEST(MemberBounds, ExcludeNothingWhereNumbersOverflow) {
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
        Data data(64, 3, 0, 32);
        for (auto &member : data.members)
            for (float &x : member)
                x *= 3e37F;
        EXPECT_EQ(bounds_of(data, metric, 1, 64).exceeded, 0);
    }
}

TEST(MemberBounds, NothingWhereNobodyIs) {
    ListLayout l = ListLayout::make(64, 256, 1);
    std::vector<uint8_t> memory(l.block_bytes), sums(ann::table_bytes(64));
    ann::ListBlock block = {memory.data(), &l};
    block.live() = 0x80000001;
    std::vector<float> query(64, 1);
    ann::QueryTable table = ann::make_table(query.data(), 64, 1, sums.data());
    float out[32];
    ann::member_bounds(table, block, {Metric::kL2, table, 5, 0, 0}, out);
    for (uint32_t i = 0; i < 32; i++)
        EXPECT_EQ(std::isnan(out[i]), i != 0 && i != 31) << i;
}

} // namespace
