// Distance kernels on float32 vectors, with run-time dispatch: one binary runs on any x86-64
// machine at its best speed.
#pragma once

#include <cstddef>

namespace ann {

enum class Metric { kL2, kInnerProduct, kCosine, kL1 };

// a, b: `dim` floats each, no alignment required.
using DistanceFunction = float (*)(const float *a, const float *b, size_t dim);

struct Kernels {
    const char *name;               // "avx512", "avx2" or "portable"
    DistanceFunction l2_squared;    // sum (a-b)^2
    DistanceFunction inner_product; // sum a*b
    DistanceFunction l1;            // sum |a-b|
    // 1 - cos(a,b) in [0, 2]; NaN when either vector is zero.
    DistanceFunction cosine_distance;
};

// The kernels in use: the best ones this CPU runs, or those forced by select_kernels().
const Kernels &kernels();

// Forces a set by name ("auto" takes the best again). False when this CPU cannot run it or the
// name is unknown; the set in use then stays.
bool select_kernels(const char *name);

} // namespace ann
