// Distance kernels on vectors of float32 and float16, with run-time dispatch: one binary runs on
// any x86-64 machine at its best speed.
//
// Accuracy: the kernels accumulate in float, in several lanes (32 to 64 with AVX2 and AVX-512, 16
// in the portable set), so that the rounding error of a sum of n terms grows with n / lanes rather
// than n. Sets differ from each other in the last bits; sums that are exact in float (small
// integers) are the same in all of them. Overflow gives infinity, as in IEEE arithmetic.
#pragma once

#include <cmath>
#include <cstddef>

#include "extension/core/half.h"

namespace ann {

// Values are on disk.
enum class Metric { kL2, kInnerProduct, kCosine, kL1, kHamming, kJaccard };

// The instruction sets there are code paths for; every one includes those below it.
enum class SimdLevel {
    kPortable, // what the compiler's baseline offers
    kAvx2,     // AVX2, FMA and F16C
    kAvx512,   // AVX-512 F, BW, DQ, VL
};

// a, b: `dim` elements each, no alignment required; nothing is read past them. dim may be 0.
template <typename A, typename B>
using DistanceFunctionOf = float (*)(const A *a, const B *b, size_t dim);
using DistanceFunction = DistanceFunctionOf<float, float>;

// What a cosine is made of: a*b, a*a and b*b.
struct CosineTerms {
    float dot;
    float a_squared;
    float b_squared;

    // 1 - cos(a,b), with the similarity clamped to [-1, 1]; NaN when either vector is zero or
    // when the terms overflowed.
    double distance() const {
        double similarity = dot / std::sqrt(static_cast<double>(a_squared) * b_squared);
        if (similarity > 1)
            similarity = 1;
        else if (similarity < -1)
            similarity = -1;
        return 1 - similarity;
    }
};

// The distances between vectors of A and vectors of B. Halves are widened to float, exactly.
template <typename A, typename B> struct DistanceSet {
    DistanceFunctionOf<A, B> l2_squared;    // sum (a-b)^2
    DistanceFunctionOf<A, B> inner_product; // sum a*b
    DistanceFunctionOf<A, B> l1;            // sum |a-b|
    // 1 - cos(a,b) in [0, 2]; NaN when either vector is zero.
    DistanceFunctionOf<A, B> cosine_distance;
    CosineTerms (*cosine_terms)(const A *a, const B *b, size_t dim);
};

struct Kernels : DistanceSet<float, float> {
    DistanceSet<Half, Half> halves;
    DistanceSet<float, Half> mixed;
    // `count` elements, no alignment required; to_halves rounds as to_half() does.
    void (*to_floats)(const Half *in, float *out, size_t count);
    void (*to_halves)(const float *in, Half *out, size_t count);
    const char *name; // "avx512", "avx2" or "portable"
    SimdLevel level;

    template <typename A, typename B> const DistanceSet<A, B> &between() const {
        if constexpr (sizeof(A) == sizeof(Half))
            return halves;
        else if constexpr (sizeof(B) == sizeof(Half))
            return mixed;
        else
            return *this;
    }
};

// The kernels in use: the best ones this CPU runs, or those forced by select_kernels(). Other
// kernels with several code paths (codes, conversions) choose theirs by kernels().level, so that
// one setting forces all of them. May be called from any thread.
const Kernels &kernels();

// Forces a set by name ("auto" takes the best again). False when this CPU cannot run it or the
// name is unknown; the set in use then stays.
bool select_kernels(const char *name);

// The set of that name ("auto": the best one), or nullptr when this CPU cannot run it or the
// name is unknown.
const Kernels *find_kernels(const char *name);

// Sum x*x in double: no float vector overflows it. No alignment required.
double squared_norm(const float *x, size_t dim);
double squared_norm(const Half *x, size_t dim);

} // namespace ann
