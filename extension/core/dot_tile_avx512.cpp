// The tile kernel with AVX-512.
#include "extension/core/dot_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

// The unit test compiles this file for any CPU, with these instructions emulated.
#ifndef AVX512_TARGET
#define AVX512_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#endif
#define AVX512 __attribute__((target(AVX512_TARGET)))
#define AVX512_INLINE __attribute__((target(AVX512_TARGET), always_inline)) static inline

namespace ann {
namespace {

AVX512_INLINE float sum(__m512 v) {
    __m256 half = _mm256_add_ps(_mm512_extractf32x8_ps(v, 0), _mm512_extractf32x8_ps(v, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

} // namespace

AVX512 void dot_tile_avx512(const float *point0, const float *point1, const float *rows,
                            size_t stride, size_t dim, float *out) {
    __m512 sums[kTilePoints * kTileRows];
    for (__m512 &s : sums)
        s = _mm512_setzero_ps();
    for (size_t i = 0; i < dim; i += 16) {
        auto mask = static_cast<__mmask16>(dim - i >= 16 ? 0xFFFF : (1U << (dim - i)) - 1);
        __m512 a = _mm512_maskz_loadu_ps(mask, point0 + i);
        __m512 b = _mm512_maskz_loadu_ps(mask, point1 + i);
        for (size_t r = 0; r < kTileRows; r++) {
            __m512 row = _mm512_maskz_loadu_ps(mask, rows + r * stride + i);
            sums[r] = _mm512_fmadd_ps(a, row, sums[r]);
            sums[kTileRows + r] = _mm512_fmadd_ps(b, row, sums[kTileRows + r]);
        }
    }
    for (size_t k = 0; k < kTilePoints * kTileRows; k++)
        out[k] = sum(sums[k]);
}

} // namespace ann

#endif // __x86_64__
