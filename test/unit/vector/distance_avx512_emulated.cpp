// The AVX-512 kernels with their instructions emulated, so that their arithmetic (strides, masks,
// tails) is tested on machines without AVX-512, too. distance_test.cpp runs them.
#include "extension/core/distance.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <array>
#include <cmath>
#include <cstddef>

namespace {

struct Emulated512 {
    std::array<float, 16> lane;
};

template <typename Lane> Emulated512 each(Lane lane) {
    Emulated512 result;
    for (int i = 0; i < 16; i++)
        result.lane[i] = lane(i);
    return result;
}

} // namespace

#undef _mm512_extractf32x8_ps
#undef _mm512_maskz_cvtps_ph
#define __m512 Emulated512
#define _mm512_setzero_ps() each([](int) { return 0.0F; })
#define _mm512_loadu_ps(p) emulated_load(0xffff, p)
#define _mm512_maskz_loadu_ps(mask, p) emulated_load(mask, p)
#define _mm512_add_ps(a, b) emulated_add(a, b)
#define _mm512_sub_ps(a, b) emulated_sub(a, b)
#define _mm512_fmadd_ps(a, b, c) emulated_fmadd(a, b, c)
#define _mm512_abs_ps(a) emulated_abs(a)
#define _mm512_extractf32x8_ps(a, half) emulated_half(a, half)
#define _mm512_storeu_ps(p, a) emulated_store(0xffff, p, a)
#define _mm512_mask_storeu_ps(p, mask, a) emulated_store(mask, p, a)
#define _mm512_maskz_cvtph_ps(mask, halves) emulated_widen(halves)
#define _mm512_maskz_cvtps_ph(mask, a, rounding) emulated_narrow(a)
#define _mm256_maskz_loadu_epi16(mask, p) emulated_load_halves(mask, p)
#define _mm256_mask_storeu_epi16(p, mask, halves) emulated_store_halves(mask, p, halves)

namespace {

// Reads only the lanes of the mask.
Emulated512 emulated_load(unsigned mask, const float *p) {
    return each([&](int i) {
        float value = 0;
        if ((mask >> i & 1) != 0)
            __builtin_memcpy(&value, p + i, sizeof(value));
        return value;
    });
}
Emulated512 emulated_add(const Emulated512 &a, const Emulated512 &b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
}
Emulated512 emulated_sub(const Emulated512 &a, const Emulated512 &b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
}
Emulated512 emulated_fmadd(const Emulated512 &a, const Emulated512 &b, const Emulated512 &c) {
    return each([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
}
Emulated512 emulated_abs(const Emulated512 &a) {
    return each([&](int i) { return std::fabs(a.lane[i]); });
}
__attribute__((target("avx2,fma"), always_inline)) inline __m256 emulated_half(const Emulated512 &a,
                                                                               int half) {
    return _mm256_loadu_ps(a.lane.data() + static_cast<ptrdiff_t>(half) * 8);
}

void emulated_store(unsigned mask, float *p, const Emulated512 &a) {
    for (int i = 0; i < 16; i++) {
        if ((mask >> i & 1) != 0)
            __builtin_memcpy(p + i, &a.lane[i], sizeof(float));
    }
}
__attribute__((target("avx2"))) Emulated512 emulated_widen(__m256i halves) {
    ann::Half half[16];
    __builtin_memcpy(half, &halves, sizeof(half));
    return each([&](int i) { return ann::to_float(half[i]); });
}
__attribute__((target("avx2"))) __m256i emulated_narrow(const Emulated512 &a) {
    ann::Half half[16];
    for (int i = 0; i < 16; i++)
        half[i] = ann::to_half(a.lane[i]);
    __m256i halves;
    __builtin_memcpy(&halves, half, sizeof(half));
    return halves;
}
__attribute__((target("avx2"))) __m256i emulated_load_halves(unsigned mask, const ann::Half *p) {
    ann::Half half[16] = {};
    for (int i = 0; i < 16; i++) {
        if ((mask >> i & 1) != 0)
            __builtin_memcpy(&half[i], p + i, sizeof(ann::Half));
    }
    __m256i halves;
    __builtin_memcpy(&halves, half, sizeof(half));
    return halves;
}
__attribute__((target("avx2"))) void emulated_store_halves(unsigned mask, ann::Half *p,
                                                           __m256i halves) {
    ann::Half half[16];
    __builtin_memcpy(half, &halves, sizeof(half));
    for (int i = 0; i < 16; i++) {
        if ((mask >> i & 1) != 0)
            __builtin_memcpy(p + i, &half[i], sizeof(ann::Half));
    }
}

} // namespace

#define AVX512_TARGET "avx2,fma,f16c"
#define kAvx512Kernels kEmulatedAvx512Kernels
#include "extension/core/distance_avx512.cpp"

namespace ann {
// nullptr where the emulation itself does not run.
const Kernels *emulated_avx512_kernels() {
    return find_kernels("avx2") != nullptr ? &kEmulatedAvx512Kernels : nullptr;
}
} // namespace ann

#else

namespace ann {
const Kernels *emulated_avx512_kernels() {
    return nullptr;
}
} // namespace ann

#endif
