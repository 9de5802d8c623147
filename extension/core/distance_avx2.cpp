// The kernels with AVX2 and FMA: four accumulators of eight lanes hide the latency of the fused
// multiply-add; the rest of a vector is loaded under a mask, whose lanes beyond the end are zero
// in both operands and add nothing. Halves are widened as they are loaded (F16C).
#include "extension/core/distance_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define AVX2_INLINE __attribute__((target("avx2,fma,f16c"), always_inline)) static inline

namespace ann {
namespace {

constexpr size_t kLanes = 8;

// tail_mask + 8 - n starts a mask of n lanes.
alignas(32) constexpr int32_t kTailMask[16] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                               0,  0,  0,  0,  0,  0,  0,  0};

AVX2_INLINE __m256i mask_of(size_t count) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(kTailMask + kLanes - count));
}

AVX2_INLINE __m256 load(const float *x) {
    return _mm256_loadu_ps(x);
}

AVX2_INLINE __m256 load(const Half *x) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(x)));
}

// The last `count` elements, 1 to 7, and zeros.
AVX2_INLINE __m256 load_tail(const float *x, size_t count) {
    return _mm256_maskload_ps(x, mask_of(count));
}

AVX2_INLINE __m256 load_tail(const Half *x, size_t count) {
    uint64_t four = 0;
    uint64_t rest = 0;
    if ((count & 4) != 0) {
        std::memcpy(&four, x, 8);
        x += 4;
    }
    if ((count & 2) != 0)
        std::memcpy(&rest, x, 4);
    if ((count & 1) != 0) {
        uint16_t last;
        std::memcpy(&last, x + (count & 2), sizeof(last));
        rest |= static_cast<uint64_t>(last) << ((count & 2) != 0 ? 32 : 0);
    }
    bool wide = (count & 4) != 0;
    return _mm256_cvtph_ps(_mm_set_epi64x(static_cast<long long>(wide ? rest : 0),
                                          static_cast<long long>(wide ? four : rest)));
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

template <typename Op, typename A, typename B>
AVX2 float reduce(const A *a, const B *b, size_t dim) {
    __m256 s0 = _mm256_setzero_ps();
    __m256 s1 = s0;
    __m256 s2 = s0;
    __m256 s3 = s0;
    size_t i = 0;
    for (; i + 4 * kLanes <= dim; i += 4 * kLanes) {
        s0 = Op::add(s0, load(a + i), load(b + i));
        s1 = Op::add(s1, load(a + i + 8), load(b + i + 8));
        s2 = Op::add(s2, load(a + i + 16), load(b + i + 16));
        s3 = Op::add(s3, load(a + i + 24), load(b + i + 24));
    }
    for (; i + kLanes <= dim; i += kLanes)
        s0 = Op::add(s0, load(a + i), load(b + i));
    if (i < dim)
        s1 = Op::add(s1, load_tail(a + i, dim - i), load_tail(b + i, dim - i));
    return sum(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
}

struct CosineSums {
    __m256 dot, aa, bb;

    __attribute__((target("avx2,fma,f16c"), always_inline)) inline void add(__m256 a, __m256 b) {
        dot = _mm256_fmadd_ps(a, b, dot);
        aa = _mm256_fmadd_ps(a, a, aa);
        bb = _mm256_fmadd_ps(b, b, bb);
    }
};

template <typename A, typename B>
AVX2 CosineTerms cosine_terms(const A *a, const B *b, size_t dim) {
    __m256 zero = _mm256_setzero_ps();
    CosineSums s0 = {zero, zero, zero};
    CosineSums s1 = s0;
    CosineSums s2 = s0;
    CosineSums s3 = s0;
    size_t i = 0;
    for (; i + 4 * kLanes <= dim; i += 4 * kLanes) {
        s0.add(load(a + i), load(b + i));
        s1.add(load(a + i + 8), load(b + i + 8));
        s2.add(load(a + i + 16), load(b + i + 16));
        s3.add(load(a + i + 24), load(b + i + 24));
    }
    for (; i + kLanes <= dim; i += kLanes)
        s0.add(load(a + i), load(b + i));
    if (i < dim)
        s1.add(load_tail(a + i, dim - i), load_tail(b + i, dim - i));
    return {
        sum(_mm256_add_ps(_mm256_add_ps(s0.dot, s1.dot), _mm256_add_ps(s2.dot, s3.dot))),
        sum(_mm256_add_ps(_mm256_add_ps(s0.aa, s1.aa), _mm256_add_ps(s2.aa, s3.aa))),
        sum(_mm256_add_ps(_mm256_add_ps(s0.bb, s1.bb), _mm256_add_ps(s2.bb, s3.bb))),
    };
}

template <typename A, typename B> float cosine_distance(const A *a, const B *b, size_t dim) {
    return static_cast<float>(cosine_terms(a, b, dim).distance());
}

template <typename A, typename B> constexpr DistanceSet<A, B> distances() {
    return {reduce<L2Squared, A, B>, reduce<InnerProduct, A, B>, reduce<L1, A, B>,
            cosine_distance<A, B>, cosine_terms<A, B>};
}

AVX2 void to_floats(const Half *in, float *out, size_t count) {
    size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        _mm256_storeu_ps(out + i, load(in + i));
    if (i < count)
        _mm256_maskstore_ps(out + i, mask_of(count - i), load_tail(in + i, count - i));
}

AVX2_INLINE __m128i round_to_halves(__m256 x) {
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

AVX2 void to_halves(const float *in, Half *out, size_t count) {
    size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out + i), round_to_halves(load(in + i)));
    if (i < count) {
        __m128i last = round_to_halves(load_tail(in + i, count - i));
        std::memcpy(out + i, &last, (count - i) * sizeof(Half));
    }
}

} // namespace

const Kernels kAvx2Kernels = {
    distances<float, float>(),
    distances<Half, Half>(),
    distances<float, Half>(),
    to_floats,
    to_halves,
    "avx2",
    SimdLevel::kAvx2,
};

} // namespace ann

#endif // __x86_64__
