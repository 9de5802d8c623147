#include "test/bench/dataset.h"

#include "test/bench/exact.h"
#include "test/unit/bench/files.h"

#include <gmock/gmock-matchers.h>

#include <numeric>

namespace {

using bench::Dataset;
using bench::load;
using bench::Metric;
using bench::Vectors;
using testing::Each;
using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;

class Datasets : public Files {
  protected:
    // Vectors (i, 0) for i in first .. last - 1.
    std::string fvecs(const std::string &name, int first, int last) {
        std::string bytes;
        for (int i = first; i < last; i++)
            bytes += fvecs_record({static_cast<float>(i), 0});
        return write(name, bytes);
    }
};

TEST_F(Datasets, QueriesBeyondThoseWantedAreInserted) {
    fvecs("x_query.fvecs", 1000, 1050);
    Dataset data = load({.path = fvecs("x_base.fvecs", 0, 200), .queries = 40, .fresh = 10});
    EXPECT_EQ(data.base.size(), 200U);
    EXPECT_EQ(data.queries.size(), 40U);
    ASSERT_EQ(data.fresh.size(), 10U);
    EXPECT_THAT(data.fresh[0], ElementsAre(1040, 0));
}

TEST_F(Datasets, TheLastOfTheBaseAreInsertedWhereQueriesAreFew) {
    fvecs("x_query.fvecs", 1000, 1050);
    Dataset data = load({.path = fvecs("x_base.fvecs", 0, 200), .queries = 45, .fresh = 15});
    EXPECT_EQ(data.base.size(), 190U);
    ASSERT_EQ(data.fresh.size(), 15U);
    EXPECT_THAT(data.fresh[4], ElementsAre(1049, 0));
    EXPECT_THAT(data.fresh[5], ElementsAre(190, 0));
}

TEST_F(Datasets, WhatCannotBeMeasuredIsAnError) {
    fvecs("x_query.fvecs", 1000, 1050);
    EXPECT_THAT(error_of([&] { load({.path = fvecs("x_base.fvecs", 0, 5)}); }),
                HasSubstr("too few vectors"));
    EXPECT_THAT(error_of([&] { load({.path = fvecs("x.fvecs", 0, 200)}); }),
                HasSubstr("a name like X_base.fvecs"));
    EXPECT_THAT(error_of([&] { load({.path = path("x.csv")}); }), HasSubstr("neither a directory"));
    EXPECT_THAT(
        error_of([&] { load({.path = fvecs("x_base.fvecs", 0, 200), .metric = "hamming"}); }),
        HasSubstr("no benchmark for distance \"hamming\""));
    write("y_query.fvecs", fvecs_record({1, 2, 3}));
    EXPECT_THAT(error_of([&] { load({.path = fvecs("y_base.fvecs", 0, 200)}); }),
                HasSubstr("differ in dimensions"));
}

TEST(Resample, KeepsAConstantAndTheMean) {
    Vectors images(28 * 28);
    std::ranges::fill(images.add(), 7.0F);
    std::span<float> ramp = images.add();
    std::iota(ramp.begin(), ramp.end(), 0.0F);
    Vectors small = bench::resample(images, 28, 16);
    ASSERT_EQ(small.dim(), 256U);
    EXPECT_THAT(small[0], Each(FloatEq(7)));
    EXPECT_NEAR(std::accumulate(small[1].begin(), small[1].end(), 0.0) / 256, (28 * 28 - 1) / 2.0,
                0.01);
}

TEST(Resample, TakesTheMeanOfEachArea) {
    Vectors images(3 * 3);
    std::span<float> image = images.add();
    std::ranges::copy(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 9}, image.begin());
    // Each of the four covers one value, half of two more, a quarter of the middle one.
    EXPECT_THAT(
        bench::resample(images, 3, 2)[0],
        ElementsAre(FloatEq((1 + 1 + 2 + 1.25F) / 2.25F), FloatEq((3 + 1 + 3 + 1.25F) / 2.25F),
                    FloatEq((7 + 2 + 4 + 1.25F) / 2.25F), FloatEq((9 + 3 + 4 + 1.25F) / 2.25F)));
    EXPECT_THAT(error_of([&] { bench::resample(images, 28, 16); }), HasSubstr("9 values"));
}

// Vectors (0), (1), (2), ... : the ten nearest to (0) are 0 to 9.
TEST(Recall, CountsWhatIsAsNearAsTheTenth) {
    Vectors base(1);
    for (int i = 0; i < 30; i++)
        base.add()[0] = static_cast<float>(i);
    base.add()[0] = 9; // number 30 is as near as number 9
    Vectors queries(1);
    queries.add()[0] = 0;
    bench::Exact exact(base, queries, Metric::kL2);
    EXPECT_EQ(exact.recall({{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}), 1.0);
    EXPECT_EQ(exact.recall({{0, 1, 2, 3, 4, 5, 6, 7, 8, 30}}), 1.0);
    EXPECT_EQ(exact.recall({{0, 1, 2, 3, 4, 5, 6, 7, 8, 10}}), 0.9);
    EXPECT_EQ(exact.recall({{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}), 0.1);
    EXPECT_EQ(exact.recall({{0, 1, -5, 1000000}}), 0.2);
    EXPECT_EQ(exact.recall({{}}), 0.0);
}

TEST(Recall, UnderCosineTheAngleCounts) {
    Vectors base(2);
    for (int i = 1; i <= 20; i++) { // ever farther from the x axis, and longer
        std::span<float> vector = base.add();
        vector[0] = static_cast<float>(i);
        vector[1] = static_cast<float>(i * i);
    }
    Vectors queries(2);
    queries.add()[0] = 3;
    Vectors unit = base.normalized();
    Vectors unit_queries = queries.normalized();
    bench::Exact exact(unit, unit_queries, Metric::kCosine);
    EXPECT_EQ(exact.recall({{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}), 1.0);
    EXPECT_EQ(exact.recall({{10, 11, 12, 13, 14, 15, 16, 17, 18, 19}}), 0.0);
}

} // namespace
