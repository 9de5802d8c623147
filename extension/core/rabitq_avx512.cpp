// FastScan with AVX-512: as in rabitq_avx2.cpp, four groups at a time.
#include "extension/core/rabitq_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

// The unit test compiles this file for any CPU, with these instructions emulated.
#ifndef AVX512_TARGET
#define AVX512_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#endif
#define AVX512 __attribute__((target(AVX512_TARGET)))
#define AVX512_INLINE __attribute__((target(AVX512_TARGET), always_inline)) static inline

namespace ann {
namespace {

// Adds out[0..15] the 16-bit sums of four 128-bit lanes, given as even and odd bytes' sums.
AVX512_INLINE void add_half(uint32_t *out, __m256i even, __m256i odd) {
    __m256i sides[2] = {_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd)};
    for (int side = 0; side < 2; side++) {
        __m256i a = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sides[side]));
        __m256i b = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sides[side], 1));
        auto *to = reinterpret_cast<__m256i *>(out + side * 8);
        __m256i sums = _mm256_add_epi32(_mm256_loadu_si256(to), _mm256_add_epi32(a, b));
        _mm256_storeu_si256(to, sums);
    }
}

// By way of memory: GCC 12 warns of an uninitialised value in _mm512_extracti64x4_epi64.
AVX512_INLINE void finish(uint32_t *out, const __m512i &all, const __m512i &odd) {
    __m256i halves[4];
    _mm512_storeu_si512(halves, _mm512_sub_epi16(all, _mm512_slli_epi16(odd, 8)));
    _mm512_storeu_si512(halves + 2, odd);
    add_half(out, halves[0], halves[2]);
    add_half(out, halves[1], halves[3]);
}

} // namespace

AVX512 void scan_avx512(const uint8_t *codes, const uint8_t *table, uint32_t groups,
                        uint32_t *sums) {
    constexpr uint32_t kChunk = 1024; // groups: 256 bytes of at most 255 in a 16-bit lane
    const __m512i low_half = _mm512_set1_epi8(15);
    std::memset(sums, 0, 32 * sizeof(uint32_t));
    for (uint32_t start = 0; start < groups; start += kChunk) {
        uint32_t end = groups - start < kChunk ? groups : start + kChunk;
        __m512i all0 = _mm512_setzero_si512(), odd0 = all0, all1 = all0, odd1 = all0;
        for (uint32_t group = start; group < end; group += 4) {
            // Two groups are left over where their number is no multiple of four.
            auto mask = static_cast<__mmask8>(end - group >= 4 ? 0xFF : 0x0F);
            __m512i code = _mm512_maskz_loadu_epi64(mask, codes + group * 16);
            __m512i entries = _mm512_maskz_loadu_epi64(mask, table + group * 16);
            __m512i bytes = _mm512_shuffle_epi8(entries, _mm512_and_si512(code, low_half));
            all0 = _mm512_add_epi16(all0, bytes);
            odd0 = _mm512_add_epi16(odd0, _mm512_srli_epi16(bytes, 8));
            code = _mm512_and_si512(_mm512_srli_epi16(code, 4), low_half);
            bytes = _mm512_shuffle_epi8(entries, code);
            all1 = _mm512_add_epi16(all1, bytes);
            odd1 = _mm512_add_epi16(odd1, _mm512_srli_epi16(bytes, 8));
        }
        finish(sums, all0, odd0);
        finish(sums + 16, all1, odd1);
    }
}

} // namespace ann

#endif // __x86_64__
