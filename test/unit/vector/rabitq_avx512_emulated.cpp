// FastScan's AVX-512 kernel with its instructions emulated; rabitq_test.cpp runs it.
#include "extension/core/rabitq_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <array>
#include <cstdint>
#include <cstring>

namespace {

struct Emulated512i {
    std::array<uint8_t, 64> byte;
};

// Reads only the 64-bit lanes of the mask.
Emulated512i emulated_load(unsigned mask, const void *p) {
    Emulated512i result = {};
    for (unsigned i = 0; i < 8; i++) {
        if ((mask >> i & 1) != 0)
            std::memcpy(&result.byte[i * 8], static_cast<const char *>(p) + i * 8, 8);
    }
    return result;
}
Emulated512i emulated_set1(char value) {
    Emulated512i result;
    result.byte.fill(static_cast<uint8_t>(value));
    return result;
}
Emulated512i emulated_and(const Emulated512i &a, const Emulated512i &b) {
    Emulated512i result;
    for (int i = 0; i < 64; i++)
        result.byte[i] = a.byte[i] & b.byte[i];
    return result;
}
Emulated512i emulated_shuffle(const Emulated512i &table, const Emulated512i &index) {
    Emulated512i result;
    for (int i = 0; i < 64; i++) {
        uint8_t at = index.byte[i];
        result.byte[i] = (at & 0x80) != 0 ? 0 : table.byte[i / 16 * 16 + (at & 15)];
    }
    return result;
}
template <typename Lane>
Emulated512i words(const Emulated512i &a, const Emulated512i &b, Lane lane) {
    Emulated512i result;
    for (int i = 0; i < 32; i++) {
        uint16_t x, y;
        std::memcpy(&x, &a.byte[i * 2], 2);
        std::memcpy(&y, &b.byte[i * 2], 2);
        auto z = static_cast<uint16_t>(lane(x, y));
        std::memcpy(&result.byte[i * 2], &z, 2);
    }
    return result;
}
void emulated_store(void *p, const Emulated512i &a) {
    std::memcpy(p, a.byte.data(), a.byte.size());
}

} // namespace

#undef _mm512_slli_epi16
#undef _mm512_srli_epi16
#define __m512i Emulated512i
#define _mm512_setzero_si512() emulated_set1(0)
#define _mm512_set1_epi8(value) emulated_set1(value)
#define _mm512_maskz_loadu_epi64(mask, p) emulated_load(mask, p)
#define _mm512_and_si512(a, b) emulated_and(a, b)
#define _mm512_shuffle_epi8(table, index) emulated_shuffle(table, index)
#define _mm512_add_epi16(a, b) words(a, b, [](int x, int y) { return x + y; })
#define _mm512_sub_epi16(a, b) words(a, b, [](int x, int y) { return x - y; })
#define _mm512_srli_epi16(a, bits) words(a, a, [](int x, int) { return x >> (bits); })
#define _mm512_slli_epi16(a, bits) words(a, a, [](int x, int) { return x << (bits); })
#define _mm512_storeu_si512(p, a) emulated_store(p, a)
#define AVX512_TARGET "avx2,fma"
#define scan_avx512 scan_avx512_emulated
#include "extension/core/rabitq_avx512.cpp"

#endif
