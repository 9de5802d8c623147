// The tile kernel with AVX2 and FMA.
#include "extension/core/dot_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE __attribute__((target("avx2,fma"), always_inline)) static inline

namespace ann {
namespace {

AVX2_INLINE float sum(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

} // namespace

AVX2 void dot_tile_avx2(const float *point0, const float *point1, const float *rows, size_t stride,
                        size_t dim, float *out) {
    __m256 sums[kTilePoints * kTileRows];
    for (__m256 &s : sums)
        s = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        __m256 a = _mm256_loadu_ps(point0 + i), b = _mm256_loadu_ps(point1 + i);
        for (size_t r = 0; r < kTileRows; r++) {
            __m256 row = _mm256_loadu_ps(rows + r * stride + i);
            sums[r] = _mm256_fmadd_ps(a, row, sums[r]);
            sums[kTileRows + r] = _mm256_fmadd_ps(b, row, sums[kTileRows + r]);
        }
    }
    for (size_t k = 0; k < kTilePoints * kTileRows; k++) {
        const float *point = k < kTileRows ? point0 : point1;
        const float *row = rows + k % kTileRows * stride;
        float total = sum(sums[k]);
        for (size_t j = i; j < dim; j++)
            total += point[j] * row[j];
        out[k] = total;
    }
}

} // namespace ann

#endif // __x86_64__
