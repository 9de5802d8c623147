// Distances of byte vectors with AVX-512: as in byte_vectors_avx2.cpp.
#include "extension/core/byte_vectors.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#define AVX512 __attribute__((target(AVX512_TARGET)))
#define AVX512_INLINE __attribute__((target(AVX512_TARGET), always_inline)) static inline

namespace ann {
namespace {

AVX512_INLINE __m512i add_squares(__m512i sums, const uint8_t *a, const uint8_t *b) {
    __m512i x = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(a)));
    __m512i y = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(b)));
    __m512i difference = _mm512_sub_epi16(x, y);
    return _mm512_add_epi32(sums, _mm512_madd_epi16(difference, difference));
}

} // namespace

AVX512 uint32_t byte_l2_avx512(const uint8_t *a, const uint8_t *b, size_t count) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (size_t i = 0; i < count; i += 64) {
        even = add_squares(even, a + i, b + i);
        odd = add_squares(odd, a + i + 32, b + i + 32);
    }
    __m256i halves[2]; // by way of memory, as in rabitq_avx512.cpp
    _mm512_storeu_si512(halves, _mm512_add_epi32(even, odd));
    __m256i all = _mm256_add_epi32(halves[0], halves[1]);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(sum));
}

} // namespace ann

#endif // __x86_64__
