// The distance kernels against a plain loop, of floats, halves, and a query of floats with halves:
// build/test/distance_bench
// --benchmark_filter='l2_squared/.*dim:784'. Each iteration computes 64 distances.
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "extension/core/distance.h"

namespace {

float plain_l2_squared(const float *a, const float *b, size_t dim) {
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

float plain_inner_product(const float *a, const float *b, size_t dim) {
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * b[i];
    return sum;
}

float plain_l1(const float *a, const float *b, size_t dim) {
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += std::fabs(a[i] - b[i]);
    return sum;
}

float plain_cosine_distance(const float *a, const float *b, size_t dim) {
    float dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < dim; i++) {
        dot += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return static_cast<float>(1 - dot / std::sqrt(static_cast<double>(aa) * bb));
}

template <typename A, typename B> std::vector<ann::DistanceFunctionOf<A, B>> registered;

template <typename T> std::vector<T> random_elements(std::mt19937 &random, size_t count) {
    std::normal_distribution<float> normal;
    std::vector<T> elements(count);
    for (T &element : elements) {
        if constexpr (std::is_same_v<T, ann::Half>)
            element = ann::to_half(normal(random));
        else
            element = normal(random);
    }
    return elements;
}

// The function of number range(0), in range(1) dimensions: one query against 64 vectors, which
// stay in the second-level cache.
template <typename A, typename B> void run(benchmark::State &state) {
    auto distance = registered<A, B>[static_cast<size_t>(state.range(0))];
    size_t dim = static_cast<size_t>(state.range(1));
    constexpr size_t kVectors = 64;
    std::mt19937 random(1);
    std::vector<A> query = random_elements<A>(random, dim);
    std::vector<B> data = random_elements<B>(random, dim * kVectors);
    while (state.KeepRunning()) {
        for (size_t i = 0; i < kVectors; i++)
            benchmark::DoNotOptimize(distance(query.data(), data.data() + i * dim, dim));
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kVectors));
}

template <typename A, typename B>
void add(const std::string &metric, const std::string &set,
         ann::DistanceFunctionOf<A, B> distance) {
    auto number = static_cast<int64_t>(registered<A, B>.size());
    registered<A, B>.push_back(distance);
    auto *benchmark = benchmark::RegisterBenchmark((metric + "/" + set).c_str(), run<A, B>);
    benchmark->ArgNames({"", "dim"});
    for (int64_t dim : {8, 128, 256, 784, 1536})
        benchmark->Args({number, dim});
}

template <typename A, typename B>
void add_all(const std::string &set, const ann::DistanceSet<A, B> &distances) {
    add("l2_squared", set, distances.l2_squared);
    add("inner_product", set, distances.inner_product);
    add("l1", set, distances.l1);
    add("cosine", set, distances.cosine_distance);
}

} // namespace

int main(int argc, char **argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 1;
    add_all<float, float>("plain", {.l2_squared = plain_l2_squared,
                                    .inner_product = plain_inner_product,
                                    .l1 = plain_l1,
                                    .cosine_distance = plain_cosine_distance,
                                    .cosine_terms = nullptr});
    for (const char *name : {"portable", "avx2", "avx512"}) {
        if (const ann::Kernels *set = ann::find_kernels(name)) {
            add_all<float, float>(name, *set);
            add_all(std::string(name) + "_halves", set->halves);
            add_all(std::string(name) + "_mixed", set->mixed);
        }
    }
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
