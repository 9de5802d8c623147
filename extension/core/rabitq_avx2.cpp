// The code kernels with AVX2: a table of 16 bytes is a register, a look-up of 32 codes two
// shuffles (FastScan: Andre, Kermarrec, Le Scouarnec, arXiv 1704.07355).
#if defined(__x86_64__)
#define CODE_TARGET __attribute__((target("avx2")))
#include "extension/core/rabitq_body.h"

namespace ann {
namespace {

// Sums of bytes: the even ones of a register with the odd ones above them, and the odd ones. What
// overflows from a 16-bit lane are the odd ones, which are subtracted at the end.
struct Sums {
    __m256i all, odd;

    CODE_TARGET __attribute__((always_inline)) void add(__m256i bytes) {
        all = _mm256_add_epi16(all, bytes);
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16(bytes, 8));
    }
    // Adds the sums of the two 128-bit lanes to out[0..15].
    CODE_TARGET __attribute__((always_inline)) void finish(uint32_t *out) const {
        __m256i even = _mm256_sub_epi16(all, _mm256_slli_epi16(odd, 8));
        // 16-bit sums of bytes 0, 1, 2, ... in order, for either lane.
        __m256i low = _mm256_unpacklo_epi16(even, odd);
        __m256i high = _mm256_unpackhi_epi16(even, odd);
        add_lanes(out, low);
        add_lanes(out + 8, high);
    }
    CODE_TARGET __attribute__((always_inline)) static void add_lanes(uint32_t *out, __m256i v) {
        __m256i a = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(v));
        __m256i b = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1));
        __m256i *to = reinterpret_cast<__m256i *>(out);
        __m256i sums = _mm256_add_epi32(_mm256_loadu_si256(to), _mm256_add_epi32(a, b));
        _mm256_storeu_si256(to, sums);
    }
};

CODE_TARGET void scan_avx2(const uint8_t *codes, const uint8_t *table, uint32_t groups,
                           uint32_t *sums) {
    constexpr uint32_t kChunk = 512; // groups: 256 bytes of at most 255 in a 16-bit lane
    const __m256i low_half = _mm256_set1_epi8(15);
    std::memset(sums, 0, 32 * sizeof(uint32_t));
    for (uint32_t start = 0; start < groups; start += kChunk) {
        uint32_t end = groups - start < kChunk ? groups : start + kChunk;
        __m256i zero = _mm256_setzero_si256();
        Sums first = {zero, zero}, second = {zero, zero};
        for (uint32_t group = start; group < end; group += 2) {
            const auto *at = reinterpret_cast<const __m256i *>(codes + group * 16);
            const auto *with = reinterpret_cast<const __m256i *>(table + group * 16);
            __m256i code = _mm256_loadu_si256(at);
            __m256i entries = _mm256_loadu_si256(with);
            first.add(_mm256_shuffle_epi8(entries, _mm256_and_si256(code, low_half)));
            code = _mm256_and_si256(_mm256_srli_epi16(code, 4), low_half);
            second.add(_mm256_shuffle_epi8(entries, code));
        }
        first.finish(sums);
        second.finish(sums + 16);
    }
}

} // namespace

const CodeKernels kAvx2Codes = {
    rotate_body, encode_body, table_range_body, fill_table_body, scan_avx2,
};
// Rotation, encoding and tables work on eight floats: more lanes would change the rounding.
const CodeKernels kAvx512Codes = {
    rotate_body, encode_body, table_range_body, fill_table_body, scan_avx512,
};

} // namespace ann

#endif // __x86_64__
