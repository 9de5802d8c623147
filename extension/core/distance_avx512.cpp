// The kernels with AVX-512: as in distance_avx2.cpp, with sixteen lanes and mask registers.
#include "extension/core/distance_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>

// The unit test compiles this file for any CPU, with these instructions emulated.
#ifndef AVX512_TARGET
#define AVX512_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
#endif
#define AVX512 __attribute__((target(AVX512_TARGET)))
#define AVX512_INLINE __attribute__((target(AVX512_TARGET), always_inline)) static inline

namespace ann {
namespace {

constexpr size_t kLanes = 16;

AVX512_INLINE __mmask16 mask_of(size_t count) {
    return static_cast<__mmask16>((1U << count) - 1);
}

AVX512_INLINE __m512 load(const float *x) {
    return _mm512_loadu_ps(x);
}

// With masks that hide nothing, where GCC 12 warns of an uninitialised value without one.
constexpr __mmask16 kAll = 0xffff;

AVX512_INLINE __m512 load(const Half *x) {
    return _mm512_maskz_cvtph_ps(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(x)));
}

// The last `count` elements, 1 to 15, and zeros.
AVX512_INLINE __m512 load_tail(const float *x, size_t count) {
    return _mm512_maskz_loadu_ps(mask_of(count), x);
}

AVX512_INLINE __m512 load_tail(const Half *x, size_t count) {
    return _mm512_maskz_cvtph_ps(kAll, _mm256_maskz_loadu_epi16(mask_of(count), x));
}

// Not _mm512_reduce_add_ps or _mm512_castps512_ps256: GCC 12 warns of an uninitialised value.
AVX512_INLINE float sum(__m512 v) {
    __m256 half = _mm256_add_ps(_mm512_extractf32x8_ps(v, 0), _mm512_extractf32x8_ps(v, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

AVX512_INLINE float sum4(__m512 a, __m512 b, __m512 c, __m512 d) {
    return sum(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
}

struct L2Squared {
    AVX512_INLINE __m512 add(__m512 sums, __m512 a, __m512 b) {
        __m512 diff = _mm512_sub_ps(a, b);
        return _mm512_fmadd_ps(diff, diff, sums);
    }
};

struct InnerProduct {
    AVX512_INLINE __m512 add(__m512 sums, __m512 a, __m512 b) {
        return _mm512_fmadd_ps(a, b, sums);
    }
};

struct L1 {
    AVX512_INLINE __m512 add(__m512 sums, __m512 a, __m512 b) {
        return _mm512_add_ps(sums, _mm512_abs_ps(_mm512_sub_ps(a, b)));
    }
};

template <typename Op, typename A, typename B>
AVX512 float reduce(const A *a, const B *b, size_t dim) {
    __m512 s0 = _mm512_setzero_ps();
    __m512 s1 = s0;
    __m512 s2 = s0;
    __m512 s3 = s0;
    size_t i = 0;
    for (; i + 4 * kLanes <= dim; i += 4 * kLanes) {
        s0 = Op::add(s0, load(a + i), load(b + i));
        s1 = Op::add(s1, load(a + i + 16), load(b + i + 16));
        s2 = Op::add(s2, load(a + i + 32), load(b + i + 32));
        s3 = Op::add(s3, load(a + i + 48), load(b + i + 48));
    }
    for (; i + kLanes <= dim; i += kLanes)
        s0 = Op::add(s0, load(a + i), load(b + i));
    if (i < dim)
        s1 = Op::add(s1, load_tail(a + i, dim - i), load_tail(b + i, dim - i));
    return sum4(s0, s1, s2, s3);
}

struct CosineSums {
    __m512 dot, aa, bb;

    __attribute__((target(AVX512_TARGET), always_inline)) inline void add(__m512 a, __m512 b) {
        dot = _mm512_fmadd_ps(a, b, dot);
        aa = _mm512_fmadd_ps(a, a, aa);
        bb = _mm512_fmadd_ps(b, b, bb);
    }
};

template <typename A, typename B>
AVX512 CosineTerms cosine_terms(const A *a, const B *b, size_t dim) {
    __m512 zero = _mm512_setzero_ps();
    CosineSums s0 = {zero, zero, zero};
    CosineSums s1 = s0;
    CosineSums s2 = s0;
    CosineSums s3 = s0;
    size_t i = 0;
    for (; i + 4 * kLanes <= dim; i += 4 * kLanes) {
        s0.add(load(a + i), load(b + i));
        s1.add(load(a + i + 16), load(b + i + 16));
        s2.add(load(a + i + 32), load(b + i + 32));
        s3.add(load(a + i + 48), load(b + i + 48));
    }
    for (; i + kLanes <= dim; i += kLanes)
        s0.add(load(a + i), load(b + i));
    if (i < dim)
        s1.add(load_tail(a + i, dim - i), load_tail(b + i, dim - i));
    return {sum4(s0.dot, s1.dot, s2.dot, s3.dot), sum4(s0.aa, s1.aa, s2.aa, s3.aa),
            sum4(s0.bb, s1.bb, s2.bb, s3.bb)};
}

template <typename A, typename B> float cosine_distance(const A *a, const B *b, size_t dim) {
    return static_cast<float>(cosine_terms(a, b, dim).distance());
}

template <typename A, typename B> constexpr DistanceSet<A, B> distances() {
    return {reduce<L2Squared, A, B>, reduce<InnerProduct, A, B>, reduce<L1, A, B>,
            cosine_distance<A, B>, cosine_terms<A, B>};
}

AVX512 void to_floats(const Half *in, float *out, size_t count) {
    size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        _mm512_storeu_ps(out + i, load(in + i));
    if (i < count)
        _mm512_mask_storeu_ps(out + i, mask_of(count - i), load_tail(in + i, count - i));
}

AVX512_INLINE __m256i round_to_halves(__m512 x) {
    return _mm512_maskz_cvtps_ph(kAll, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

AVX512 void to_halves(const float *in, Half *out, size_t count) {
    size_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(out + i), round_to_halves(load(in + i)));
    if (i < count)
        _mm256_mask_storeu_epi16(out + i, mask_of(count - i),
                                 round_to_halves(load_tail(in + i, count - i)));
}

} // namespace

const Kernels kAvx512Kernels = {
    distances<float, float>(),
    distances<Half, Half>(),
    distances<float, Half>(),
    to_floats,
    to_halves,
    "avx512",
    SimdLevel::kAvx512,
};

} // namespace ann

#endif // __x86_64__
