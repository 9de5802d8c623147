// The distance kernels against a plain loop: build/test/distance_bench
// --benchmark_filter='l2_squared/.*dim:784'. Each iteration computes 64 distances.
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <string>
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

std::vector<ann::DistanceFunction> registered;

// The function of number range(0), in range(1) dimensions: one query against 64 vectors, which
// stay in the second-level cache.
void run(benchmark::State &state) {
    ann::DistanceFunction distance = registered[static_cast<size_t>(state.range(0))];
    size_t dim = static_cast<size_t>(state.range(1));
    constexpr size_t kVectors = 64;
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> query(dim), data(dim * kVectors);
    for (float &value : query)
        value = normal(random);
    for (float &value : data)
        value = normal(random);
    while (state.KeepRunning()) {
        for (size_t i = 0; i < kVectors; i++)
            benchmark::DoNotOptimize(distance(query.data(), data.data() + i * dim, dim));
    }
    state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kVectors));
}

void add(const std::string &metric, const std::string &set, ann::DistanceFunction distance) {
    auto number = static_cast<int64_t>(registered.size());
    registered.push_back(distance);
    auto *benchmark = benchmark::RegisterBenchmark((metric + "/" + set).c_str(), run);
    benchmark->ArgNames({"", "dim"});
    for (int64_t dim : {8, 128, 256, 784, 1536})
        benchmark->Args({number, dim});
}

} // namespace

int main(int argc, char **argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 1;
    std::vector<ann::Kernels> sets = {{.name = "plain",
                                       .level = ann::SimdLevel::kPortable,
                                       .l2_squared = plain_l2_squared,
                                       .inner_product = plain_inner_product,
                                       .l1 = plain_l1,
                                       .cosine_distance = plain_cosine_distance,
                                       .cosine_terms = nullptr}};
    for (const char *name : {"portable", "avx2", "avx512"}) {
        if (const ann::Kernels *set = ann::find_kernels(name))
            sets.push_back(*set);
    }
    for (const auto &set : sets)
        add("l2_squared", set.name, set.l2_squared);
    for (const auto &set : sets)
        add("inner_product", set.name, set.inner_product);
    for (const auto &set : sets)
        add("l1", set.name, set.l1);
    for (const auto &set : sets)
        add("cosine", set.name, set.cosine_distance);
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
