// A random rotation of vectors, computed in O(d log d) from a seed alone.
//
// Sign flips, fast Hadamard transforms of windows that are a power of two, and steps of a Kac walk
// (Givens rotations by 45 degrees) between them, as RaBitQ's library does it (arXiv 2405.12497
// wants a random orthogonal matrix; this one is orthogonal and near enough to random). The
// dimension is rounded up to 8, not to a power of two. Lengths and inner products stay what they
// were but for rounding; so do differences: rotate(a) - rotate(b) = rotate(a - b).
#pragma once

#include <cstdint>

namespace ann {

// Dimensions of a rotated vector and of its code.
constexpr uint32_t padded_dim(uint32_t dim) {
    return (dim + 7) & ~7U;
}

// out: padded_dim(dim) floats; may not overlap x. No alignment required. The same bits whatever
// kernels() are in use and on every machine.
void rotate(uint64_t seed, const float *x, uint32_t dim, float *out);

} // namespace ann
