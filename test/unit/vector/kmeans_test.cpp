// k-means and the search for the nearest row.
#include "extension/core/centroids.h"
#include "extension/core/distance.h"
#include "extension/core/dot_tile.h"
#include "extension/core/worker_threads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

namespace {

using ann::KMeansTask;

void run_here(bool, const ann::ThreadWork &work) {
    std::atomic<bool> stop = false;
    work(stop);
}

void run_on_threads(bool parallel, const ann::ThreadWork &work) {
    ann::WorkerThreads threads;
    threads.start(parallel ? 3 : 1, [&](int, const std::atomic<bool> &stop) { work(stop); });
    threads.join();
}

std::vector<float> random_points(uint32_t count, uint32_t dim, uint32_t seed, uint32_t groups = 0,
                                 float spread = 0.01F) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> centers(static_cast<size_t>(groups) * dim);
    for (float &x : centers)
        x = normal(random);
    std::vector<float> points(static_cast<size_t>(count) * dim);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < dim; j++)
            points[i * dim + j] = groups == 0
                                      ? normal(random)
                                      : centers[i % groups * dim + j] + spread * normal(random);
    return points;
}

// The mean squared distance of points from their nearest centroids.
double cost(const std::vector<float> &points, const std::vector<float> &centroids, uint32_t dim) {
    double sum = 0;
    for (size_t i = 0; i < points.size(); i += dim) {
        float least = std::numeric_limits<float>::infinity();
        for (size_t k = 0; k < centroids.size(); k += dim)
            least = std::min(least, ann::kernels().l2_squared(&points[i], &centroids[k], dim));
        sum += least;
    }
    return sum / (static_cast<double>(points.size()) / dim);
}

TEST(DotTile, EverySetAgreesWithInnerProducts) {
    for (uint32_t dim : {1, 3, 4, 7, 8, 15, 16, 17, 33, 100, 784}) {
        auto points = random_points(6, dim, dim);
        std::vector<ann::DotTile> tiles = {ann::dot_tile_portable, ann::dot_tile()};
#if defined(__x86_64__)
        if (ann::find_kernels("avx2") != nullptr)
            tiles.push_back(ann::dot_tile_avx2);
        if (ann::find_kernels("avx512") != nullptr)
            tiles.push_back(ann::dot_tile_avx512);
#endif
        for (ann::DotTile tile : tiles) {
            float out[ann::kTilePoints * ann::kTileRows];
            tile(&points[0], &points[dim], &points[2 * dim], dim, dim, out);
            for (uint32_t k = 0; k < 8; k++) {
                double expected = 0;
                for (uint32_t j = 0; j < dim; j++)
                    expected += static_cast<double>(points[k / 4 * dim + j]) *
                                points[(2 + k % 4) * dim + j];
                EXPECT_NEAR(out[k], expected, 1e-4 * std::sqrt(dim)) << dim;
            }
        }
    }
}

TEST(NearestRows, AgreesWithAllDistances) {
    const uint32_t dim = 19;
    for (uint32_t count : {1, 2, 3, 31, 32, 33, 63, 65, 200}) {
        for (uint32_t rows : {1, 3, 4, 5, 31, 32, 33, 100}) {
            auto points = random_points(count, dim, count);
            auto centroids = random_points(rows, dim, rows + 1000);
            std::vector<uint32_t> which(count);
            std::vector<float> scores(count);
            ann::NearestRows nearest(centroids.data(), rows, dim, false);
            nearest.find(points.data(), count, which.data(), scores.data());
            for (uint32_t i = 0; i < count; i++) {
                float found =
                    ann::kernels().l2_squared(&points[i * dim], &centroids[which[i] * dim], dim);
                double norm = ann::squared_norm(&points[i * dim], dim);
                EXPECT_NEAR(found, norm + 2 * scores[i], 1e-3);
                for (uint32_t k = 0; k < rows; k++)
                    EXPECT_LE(found, ann::kernels().l2_squared(&points[i * dim],
                                                               &centroids[k * dim], dim) +
                                         1e-3);
            }
        }
    }
}

TEST(KMeans, FindsGroupsThatAreFarApart) {
    for (uint32_t seed = 0; seed < 5; seed++) {
        auto points = random_points(2000, 20, seed, 40);
        auto centroids = ann::kmeans({points.data(), 2000, 20, 40, false, seed}, run_on_threads);
        ASSERT_EQ(centroids.size(), 40 * 20U);
        // A group without a centroid of its own would cost at least 0.025 x 20.
        EXPECT_LT(cost(points, centroids, 20), 0.3);
    }
}

TEST(KMeans, IsBetterThanRandomPointsAsCentroids) {
    auto points = random_points(1500, 8, 7);
    double found = cost(points, ann::kmeans({points.data(), 1500, 8, 30, false, 1}, run_here), 8);
    double points_alone = 0;
    for (uint32_t seed = 0; seed < 10; seed++) {
        std::mt19937 random(seed);
        std::vector<float> chosen;
        for (int k = 0; k < 30; k++) {
            uint32_t i = random() % 1500;
            chosen.insert(chosen.end(), &points[i * 8], &points[i * 8] + 8);
        }
        points_alone += cost(points, chosen, 8) / 10;
    }
    EXPECT_LT(found, 0.8 * points_alone);
}

TEST(KMeans, SphericalCentroidsHaveLengthOne) {
    auto points = random_points(1000, 12, 3);
    for (size_t i = 0; i < points.size(); i += 12) {
        double norm = std::sqrt(ann::squared_norm(&points[i], 12));
        for (size_t j = 0; j < 12; j++)
            points[i + j] = static_cast<float>(points[i + j] / norm);
    }
    auto centroids = ann::kmeans({points.data(), 1000, 12, 25, true, 1}, run_on_threads);
    ASSERT_EQ(centroids.size(), 25 * 12U);
    for (size_t i = 0; i < centroids.size(); i += 12)
        EXPECT_NEAR(ann::squared_norm(&centroids[i], 12), 1, 1e-5);
}

TEST(KMeans, OppositePointsHaveACentroid) {
    std::vector<float> points = {1, 0, -1, 0};
    auto centroids = ann::kmeans({points.data(), 2, 2, 1, true, 1}, run_here);
    ASSERT_EQ(centroids.size(), 2U);
    EXPECT_NEAR(ann::squared_norm(centroids.data(), 2), 1, 1e-6);
}

TEST(KMeans, SameSeedSameCentroidsOnAnyNumberOfThreads) {
    auto points = random_points(3000, 16, 11);
    KMeansTask task = {points.data(), 3000, 16, 50, false, 5};
    EXPECT_EQ(ann::kmeans(task, run_here), ann::kmeans(task, run_on_threads));
}

TEST(KMeans, NoMoreCentroidsThanDifferentPoints) {
    std::vector<float> points;
    for (int i = 0; i < 900; i++)
        points.insert(points.end(), {static_cast<float>(i % 3), 1});
    auto centroids = ann::kmeans({points.data(), 900, 2, 10, false, 1}, run_here);
    ASSERT_EQ(centroids.size(), 6U);
    std::set<float> values = {centroids[0], centroids[2], centroids[4]};
    EXPECT_EQ(values, (std::set<float>{0, 1, 2}));
}

TEST(KMeans, FewerPointsThanClusters) {
    auto points = random_points(7, 5, 2);
    EXPECT_EQ(ann::kmeans({points.data(), 7, 5, 100, false, 1}, run_here).size(), 35U);
    EXPECT_TRUE(ann::kmeans({points.data(), 0, 5, 100, false, 1}, run_here).empty());
    EXPECT_EQ(ann::kmeans({points.data(), 1, 5, 1, false, 1}, run_here).size(), 5U);
}

TEST(KMeans, NumbersTooLargeToSquareAreNotAnEndlessLoop) {
    auto points = random_points(500, 6, 9);
    for (size_t i = 0; i < points.size(); i++)
        points[i] *= i % 12 < 6 ? 5e37F : 1e-38F;
    auto centroids = ann::kmeans({points.data(), 500, 6, 20, false, 1}, run_on_threads);
    EXPECT_GE(centroids.size(), 6U);
    EXPECT_LE(centroids.size(), 120U);
    for (float x : centroids)
        EXPECT_TRUE(std::isfinite(x));
}

TEST(KMeans, ManyClustersInTwoSteps) {
    const uint32_t clusters = ann::kFlatClusters + 500;
    auto points = random_points(9000, 6, 21, clusters, 0.001F);
    auto centroids = ann::kmeans({points.data(), 9000, 6, clusters, false, 1}, run_on_threads);
    EXPECT_LE(centroids.size(), clusters * 6U);
    EXPECT_GE(centroids.size(), clusters * 6U * 95 / 100);
    // Of the spread of all points, 6, a small part is left.
    EXPECT_LT(cost(points, centroids, 6), 0.3);
}

TEST(KMeans, StopsWhenAskedTo) {
    auto points = random_points(2000, 16, 1);
    std::atomic<bool> stop = true;
    for (uint32_t clusters : {100U, ann::kFlatClusters - 100})
        ann::kmeans({points.data(), 2000, 16, clusters, false, 1},
                    [&](bool, const ann::ThreadWork &work) { work(stop); });
}

} // namespace
