// The kernels with AVX2 and FMA: four accumulators of eight lanes hide the latency of the fused
// multiply-add; the rest of a vector is loaded under a mask, whose lanes beyond the end are zero
// in both operands and add nothing.
#include "extension/core/distance_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE __attribute__((target("avx2,fma"), always_inline)) static inline

namespace ann {
namespace {

constexpr size_t kLanes = 8;

// tail_mask + 8 - n starts a mask of n lanes.
alignas(32) constexpr int32_t kTailMask[16] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                               0,  0,  0,  0,  0,  0,  0,  0};

AVX2_INLINE __m256i mask_of(size_t count) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(kTailMask + kLanes - count));
}

AVX2_INLINE float sum(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

struct L2Squared {
    AVX2_INLINE __m256 add(__m256 sums, __m256 a, __m256 b) {
        __m256 diff = _mm256_sub_ps(a, b);
        return _mm256_fmadd_ps(diff, diff, sums);
    }
};

struct InnerProduct {
    AVX2_INLINE __m256 add(__m256 sums, __m256 a, __m256 b) { return _mm256_fmadd_ps(a, b, sums); }
};

struct L1 {
    AVX2_INLINE __m256 add(__m256 sums, __m256 a, __m256 b) {
        return _mm256_add_ps(sums, _mm256_andnot_ps(_mm256_set1_ps(-0.0F), _mm256_sub_ps(a, b)));
    }
};

template <typename Op> AVX2 float reduce(const float *a, const float *b, size_t dim) {
    __m256 s0 = _mm256_setzero_ps();
    __m256 s1 = s0;
    __m256 s2 = s0;
    __m256 s3 = s0;
    size_t i = 0;
    for (; i + 4 * kLanes <= dim; i += 4 * kLanes) {
        s0 = Op::add(s0, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        s1 = Op::add(s1, _mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
        s2 = Op::add(s2, _mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16));
        s3 = Op::add(s3, _mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24));
    }
    for (; i + kLanes <= dim; i += kLanes)
        s0 = Op::add(s0, _mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
    if (i < dim) {
        __m256i mask = mask_of(dim - i);
        s1 = Op::add(s1, _mm256_maskload_ps(a + i, mask), _mm256_maskload_ps(b + i, mask));
    }
    return sum(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
}

struct CosineSums {
    __m256 dot, aa, bb;

    __attribute__((target("avx2,fma"), always_inline)) inline void add(__m256 a, __m256 b) {
        dot = _mm256_fmadd_ps(a, b, dot);
        aa = _mm256_fmadd_ps(a, a, aa);
        bb = _mm256_fmadd_ps(b, b, bb);
    }
};

AVX2 CosineTerms cosine_terms(const float *a, const float *b, size_t dim) {
    __m256 zero = _mm256_setzero_ps();
    CosineSums s0 = {zero, zero, zero};
    CosineSums s1 = s0;
    CosineSums s2 = s0;
    CosineSums s3 = s0;
    size_t i = 0;
    for (; i + 4 * kLanes <= dim; i += 4 * kLanes) {
        s0.add(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        s1.add(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
        s2.add(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16));
        s3.add(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24));
    }
    for (; i + kLanes <= dim; i += kLanes)
        s0.add(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
    if (i < dim) {
        __m256i mask = mask_of(dim - i);
        s1.add(_mm256_maskload_ps(a + i, mask), _mm256_maskload_ps(b + i, mask));
    }
    return {
        sum(_mm256_add_ps(_mm256_add_ps(s0.dot, s1.dot), _mm256_add_ps(s2.dot, s3.dot))),
        sum(_mm256_add_ps(_mm256_add_ps(s0.aa, s1.aa), _mm256_add_ps(s2.aa, s3.aa))),
        sum(_mm256_add_ps(_mm256_add_ps(s0.bb, s1.bb), _mm256_add_ps(s2.bb, s3.bb))),
    };
}

float cosine_distance(const float *a, const float *b, size_t dim) {
    return static_cast<float>(cosine_terms(a, b, dim).distance());
}

} // namespace

const Kernels kAvx2Kernels = {
    "avx2",     SimdLevel::kAvx2, reduce<L2Squared>, reduce<InnerProduct>,
    reduce<L1>, cosine_distance,  cosine_terms,
};

} // namespace ann

#endif // __x86_64__
