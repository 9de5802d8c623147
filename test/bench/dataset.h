// What a benchmark runs on: vectors to index, queries, and further vectors to insert.
#pragma once

#include "test/bench/readers.h"
#include "test/bench/vectors.h"

#include <cstddef>
#include <string>

namespace bench {

enum class Metric { kL2, kCosine };

struct Dataset {
    std::string name;
    Metric metric = Metric::kL2;
    Vectors base;
    Vectors queries;
    Vectors fresh; // neither in base nor in queries
};

struct DatasetOptions {
    // A directory with MNIST's IDX files, X_base.fvecs or .bvecs beside its X_query file, or .hdf5
    // in ann-benchmarks' layout.
    std::string path{};
    std::string metric{};  // "l2", "cosine"; "": what the file says, else l2
    bool resample = false; // 28 x 28 images to 16 x 16
    size_t limit = kAll;   // at most so many base vectors
    size_t queries = 1000; // at most
    size_t fresh = 0;      // at most; the last tenth of the base is taken where queries are few
};

// Throws std::runtime_error, which names the file.
Dataset load(const DatasetOptions &options);

// Each vector an image of from x from values; its to x to values are the means of the areas that
// they cover, fractions of a value included.
Vectors resample(const Vectors &images, size_t from, size_t to);

} // namespace bench
