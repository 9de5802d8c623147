// Distances of byte vectors with AVX2.
#include "extension/core/byte_vectors.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE __attribute__((target("avx2,fma"), always_inline)) static inline

namespace ann {
namespace {

AVX2_INLINE __m256i add_squares(__m256i sums, const uint8_t *a, const uint8_t *b) {
    __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(a)));
    __m256i y = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(b)));
    __m256i difference = _mm256_sub_epi16(x, y);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(difference, difference));
}

} // namespace

AVX2 uint32_t byte_l2_avx2(const uint8_t *a, const uint8_t *b, size_t count) {
    __m256i even = _mm256_setzero_si256(), odd = even;
    for (size_t i = 0; i < count; i += 32) {
        even = add_squares(even, a + i, b + i);
        odd = add_squares(odd, a + i + 16, b + i + 16);
    }
    __m256i all = _mm256_add_epi32(even, odd);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(sum));
}

} // namespace ann

#endif // __x86_64__
