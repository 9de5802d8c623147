// What codes cost: build/test/rabitq_bench --benchmark_filter='/784$'. Times are of one rotation,
// one table, one edge encoded, one block of 32 estimated.
#include <benchmark/benchmark.h>

#include <random>
#include <string>
#include <vector>

#include "extension/core/rabitq.h"

namespace {

struct Data {
    uint32_t dim, padded;
    std::vector<float> a, b, rotated, factors;
    std::vector<uint8_t> code, block, sums;

    explicit Data(uint32_t dim_, uint32_t bits)
        : dim(dim_), padded(ann::padded_dim(dim_)), a(padded), b(padded), rotated(padded),
          factors(2 * ann::kBlock, 1), code(ann::code_bytes(padded, bits)),
          block(ann::block_bytes(padded, bits)), sums(ann::table_bytes(padded)) {
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        for (uint32_t i = 0; i < padded; i++) {
            a[i] = normal(random);
            b[i] = normal(random);
        }
        for (uint8_t &byte : block)
            byte = static_cast<uint8_t>(random());
    }
};

void rotation(benchmark::State &state) {
    Data data(static_cast<uint32_t>(state.range(0)), 1);
    while (state.KeepRunning()) {
        ann::rotate(1, data.a.data(), data.dim, data.rotated.data());
        benchmark::DoNotOptimize(data.rotated.data());
    }
}

void table(benchmark::State &state) {
    Data data(static_cast<uint32_t>(state.range(0)), 1);
    while (state.KeepRunning()) {
        benchmark::DoNotOptimize(ann::make_table(data.a.data(), data.padded, 1, data.sums.data()));
        benchmark::ClobberMemory();
    }
}

template <uint32_t bits> void encode(benchmark::State &state) {
    Data data(static_cast<uint32_t>(state.range(0)), bits);
    while (state.KeepRunning()) {
        benchmark::DoNotOptimize(ann::encode_edge(ann::Metric::kL2, data.a.data(), data.b.data(),
                                                  data.padded, bits, data.code.data()));
        ann::put_code(data.block.data(), 5, data.code.data(), data.padded, bits);
        benchmark::ClobberMemory();
    }
}

template <uint32_t bits> void block(benchmark::State &state) {
    Data data(static_cast<uint32_t>(state.range(0)), bits);
    ann::QueryTable queries = ann::make_table(data.a.data(), data.padded, bits, data.sums.data());
    float out[ann::kBlock];
    while (state.KeepRunning()) {
        ann::estimate_block(queries, data.block.data(), data.factors.data(),
                            data.factors.data() + ann::kBlock, 1, 1, out);
        benchmark::DoNotOptimize(out);
        benchmark::ClobberMemory();
    }
}

using Function = void (*)(benchmark::State &);

void add(const std::string &set, const std::string &what, Function function) {
    auto run = [set, function](benchmark::State &state) {
        ann::select_kernels(set.c_str());
        function(state);
    };
    benchmark::RegisterBenchmark((what + "/" + set).c_str(), run)
        ->Arg(128)
        ->Arg(256)
        ->Arg(784)
        ->Arg(1536);
}

} // namespace

int main(int argc, char **argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 1;
    for (const char *set : {"portable", "avx2", "avx512"}) {
        if (ann::find_kernels(set) == nullptr)
            continue;
        add(set, "rotation", rotation);
        add(set, "table", table);
        add(set, "encode1", encode<1>);
        add(set, "encode2", encode<2>);
        add(set, "block1", block<1>);
        add(set, "block2", block<2>);
    }
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
