// Rotation, encoding and query tables in the compiler's vector extensions. Included by one file
// per instruction set with CODE_TARGET defined: no guard. A fixed number of lanes and a fixed
// order of additions give the same bits in all of them (-ffp-contract=off sees to the rest).
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "extension/core/rabitq_sets.h"
#include "extension/core/rotation.h"

#define CODE_INLINE CODE_TARGET __attribute__((always_inline)) static inline

namespace ann {
namespace {

typedef float Float8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));

constexpr uint32_t kLanes = 8;
constexpr Int8 kSignBit = {INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN,
                           INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN};

// Vectors go by reference: by value their passing depends on the instruction set.
CODE_INLINE void load(Float8 &v, const float *x) {
    std::memcpy(&v, x, sizeof(v));
}
CODE_INLINE void store(float *x, const Float8 &v) {
    std::memcpy(x, &v, sizeof(v));
}
CODE_INLINE void flip(Float8 &v, const Int8 &signs) {
    v = reinterpret_cast<Float8>(reinterpret_cast<Int8>(v) ^ signs);
}
CODE_INLINE float sum(const Float8 &v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
CODE_INLINE void absolute(Float8 &v) {
    v = reinterpret_cast<Float8>(reinterpret_cast<Int8>(v) & ~kSignBit);
}

// One bit per lane of a mask.
CODE_INLINE uint32_t bits_of(const Int8 &mask) {
#if defined(__SSE2__)
    __m128 half[2];
    std::memcpy(half, &mask, sizeof(half));
    return static_cast<uint32_t>(_mm_movemask_ps(half[0]) | _mm_movemask_ps(half[1]) << 4);
#else
    uint32_t bits = 0;
    for (uint32_t i = 0; i < kLanes; i++)
        bits |= (static_cast<uint32_t>(mask[i]) >> 31) << i;
    return bits;
#endif
}

// ------------------------------------------------------------------ rotation

// Word number `index` of the stream of `seed` (splitmix64).
CODE_INLINE uint64_t random_word(uint64_t seed, uint64_t index) {
    uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

// Flips random signs; scales by `inside` in the window [first, last), by `outside` elsewhere.
CODE_INLINE void flip_and_scale(uint64_t seed, uint64_t index, float *x, uint32_t size,
                                uint32_t first, uint32_t last, float inside, float outside) {
    constexpr Int8 kLaneBits = {1, 2, 4, 8, 16, 32, 64, 128};
    uint64_t word = 0;
    for (uint32_t i = 0; i < size; i += kLanes, word >>= 8) {
        if (i % 64 == 0)
            word = random_word(seed, index + i / 64);
        Int8 signs = {};
        signs += static_cast<int32_t>(word & 0xFF);
        signs = ((signs & kLaneBits) != 0) & kSignBit;
        Float8 v;
        load(v, x + i);
        flip(v, signs);
        v *= i >= first && i < last ? inside : outside;
        store(x + i, v);
    }
}

// Eight lanes' transform: butterflies at distances 1, 2, 4.
CODE_INLINE void hadamard8(Float8 &v) {
    constexpr int32_t kSign = INT32_MIN;
    constexpr Int8 kOdd = {0, kSign, 0, kSign, 0, kSign, 0, kSign};
    constexpr Int8 kPairs = {0, 0, kSign, kSign, 0, 0, kSign, kSign};
    constexpr Int8 kFours = {0, 0, 0, 0, kSign, kSign, kSign, kSign};
    Float8 w = __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
    flip(v, kOdd);
    v = w + v;
    w = __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
    flip(v, kPairs);
    v = w + v;
    w = __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
    flip(v, kFours);
    v = w + v;
}

// Walsh-Hadamard transform of `size` floats, a power of two from 8, not scaled.
CODE_INLINE void hadamard(float *x, uint32_t size) {
    for (uint32_t i = 0; i < size; i += kLanes) {
        Float8 v;
        load(v, x + i);
        hadamard8(v);
        store(x + i, v);
    }
    uint32_t step = kLanes;
    for (; step * 4 <= size; step *= 4) {
        for (uint32_t start = 0; start < size; start += step * 4) {
            for (uint32_t i = start; i < start + step; i += kLanes) {
                Float8 a, b, c, d;
                load(a, x + i);
                load(b, x + i + step);
                load(c, x + i + 2 * step);
                load(d, x + i + 3 * step);
                Float8 ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;
                store(x + i, ab + cd);
                store(x + i + step, a_b + c_d);
                store(x + i + 2 * step, ab - cd);
                store(x + i + 3 * step, a_b - c_d);
            }
        }
    }
    if (step < size) {
        for (uint32_t i = 0; i < step; i += kLanes) {
            Float8 a, b;
            load(a, x + i);
            load(b, x + i + step);
            store(x + i, a + b);
            store(x + i + step, a - b);
        }
    }
}

// Sums and differences of the halves: rotations by 45 degrees, not scaled. `half` is a multiple
// of four; where it is one of eight, loads are as wide as the stores before them.
CODE_INLINE void kac_step(float *x, uint32_t half) {
    typedef float Float4 __attribute__((vector_size(16)));
    if (half % kLanes == 0) {
        for (uint32_t i = 0; i < half; i += kLanes) {
            Float8 a, b;
            load(a, x + i);
            load(b, x + half + i);
            store(x + i, a + b);
            store(x + half + i, a - b);
        }
        return;
    }
    for (uint32_t i = 0; i < half; i += 4) {
        Float4 a, b;
        std::memcpy(&a, x + i, sizeof(a));
        std::memcpy(&b, x + half + i, sizeof(b));
        Float4 plus = a + b, minus = a - b;
        std::memcpy(x + i, &plus, sizeof(plus));
        std::memcpy(x + half + i, &minus, sizeof(minus));
    }
}

CODE_TARGET void rotate_body(uint64_t seed, const float *x, uint32_t dim, float *out) {
    constexpr float kHalfRoot = 0.70710678F;
    uint32_t size = padded_dim(dim);
    uint32_t window = std::bit_floor(size);
    bool whole = window == size;
    uint32_t rounds = whole ? 3 : 4;
    float inside = 1 / std::sqrt(static_cast<float>(window));
    float outside = 1;
    std::memcpy(out, x, dim * sizeof(float));
    std::memset(out + dim, 0, (size - dim) * sizeof(float));
    for (uint32_t round = 0; round < rounds; round++) {
        uint32_t first = round % 2 == 0 ? 0 : size - window;
        uint64_t index = static_cast<uint64_t>(round) << 32;
        flip_and_scale(seed, index, out, size, first, first + window, inside, outside);
        hadamard(out + first, window);
        if (whole)
            continue;
        kac_step(out, size / 2);
        if (round == 0) {
            inside *= kHalfRoot;
            outside = kHalfRoot;
        }
    }
    if (whole)
        return;
    for (uint32_t i = 0; i < size; i += kLanes) {
        Float8 v;
        load(v, out + i);
        v *= kHalfRoot;
        store(out + i, v);
    }
}

// ------------------------------------------------------------------ encoding

CODE_TARGET EdgeSums encode_body(const float *u, const float *v, uint32_t padded, uint32_t bits,
                                 uint8_t *code) {
    // The best boundary between 1 and 3 for a normal distribution, in standard deviations.
    constexpr float kBoundary = 0.98F;
    Float8 squares = {};
    for (uint32_t i = 0; i < padded; i += kLanes) {
        Float8 start, edge;
        load(start, u + i);
        load(edge, v + i);
        edge -= start;
        squares += edge * edge;
    }
    EdgeSums sums = {};
    sums.edge_edge = sum(squares);
    float boundary = kBoundary * std::sqrt(sums.edge_edge / static_cast<float>(padded));
    Float8 code_edge = {}, code_start = {}, edge_start = {};
    for (uint32_t i = 0; i < padded; i += kLanes) {
        Float8 start, edge;
        load(start, u + i);
        load(edge, v + i);
        edge -= start;
        edge_start += edge * start;
        Int8 positive = edge > 0;
        code[i / 8] = static_cast<uint8_t>(bits_of(positive));
        Int8 negative = ~positive & kSignBit;
        flip(edge, negative);
        flip(start, negative);
        if (bits == 2) {
            Int8 large = edge > boundary;
            // The second plane is a sign, too: 3 = 2 + 1, 1 = 2 - 1, mirrored below zero.
            code[(padded + i) / 8] = static_cast<uint8_t>(bits_of(~(large ^ positive)));
            Float8 magnitude = {1, 1, 1, 1, 1, 1, 1, 1};
            magnitude += reinterpret_cast<Float8>(
                large & reinterpret_cast<Int8>(Float8{2, 2, 2, 2, 2, 2, 2, 2}));
            edge *= magnitude;
            start *= magnitude;
        }
        code_edge += edge;
        code_start += start;
    }
    sums.code_edge = sum(code_edge);
    sums.code_start = sum(code_start);
    sums.edge_start = sum(edge_start);
    return sums;
}

// ------------------------------------------------------------------ query tables

CODE_TARGET float table_range_body(const float *query, uint32_t padded) {
    Float8 range = {};
    for (uint32_t i = 0; i < padded; i += kLanes) {
        Float8 v;
        load(v, query + i);
        absolute(v);
        v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
        v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
        Int8 wider = v > range;
        range = reinterpret_cast<Float8>((reinterpret_cast<Int8>(v) & wider) |
                                         (reinterpret_cast<Int8>(range) & ~wider));
    }
    return range[0] > range[4] ? range[0] : range[4];
}

CODE_INLINE void masked(Float8 &v, float value, const Int8 &mask) {
    Float8 all = {value, value, value, value, value, value, value, value};
    v = reinterpret_cast<Float8>(reinterpret_cast<Int8>(all) & mask);
}

// Sixteen integers from 0 to 255 as bytes.
CODE_INLINE void store_bytes(uint8_t *out, const Int8 &low, const Int8 &high) {
#if defined(__SSE2__)
    __m128i part[4];
    std::memcpy(part, &low, sizeof(low));
    std::memcpy(part + 2, &high, sizeof(high));
    __m128i bytes =
        _mm_packus_epi16(_mm_packs_epi32(part[0], part[1]), _mm_packs_epi32(part[2], part[3]));
    std::memcpy(out, &bytes, sizeof(bytes));
#else
    for (uint32_t i = 0; i < kLanes; i++) {
        out[i] = static_cast<uint8_t>(low[i]);
        out[kLanes + i] = static_cast<uint8_t>(high[i]);
    }
#endif
}

CODE_TARGET TableSums fill_table_body(const float *query, uint32_t padded, float inverse_step,
                                      uint8_t *sums) {
    constexpr Int8 kBit0 = {0, -1, 0, -1, 0, -1, 0, -1};
    constexpr Int8 kBit1 = {0, 0, -1, -1, 0, 0, -1, -1};
    constexpr Int8 kBit2 = {0, 0, 0, 0, -1, -1, -1, -1};
    // Added to a small number it leaves its nearest integer in the low bits.
    constexpr float kRound = 12582912;
    Float8 minima = {}, total = {};
    for (uint32_t i = 0; i < padded; i += kLanes, sums += 32) {
        Float8 q, below;
        load(q, query + i);
        total += q;
        q *= inverse_step;
        Int8 negative = q < 0;
        below = reinterpret_cast<Float8>(reinterpret_cast<Int8>(q) & negative);
        minima += below;
        for (uint32_t k = 0; k < kLanes; k += 4) {
            float least = (below[k] + below[k + 1]) + (below[k + 2] + below[k + 3]);
            Float8 low, term;
            masked(low, q[k], kBit0);
            masked(term, q[k + 1], kBit1);
            low += term;
            masked(term, q[k + 2], kBit2);
            low += term;
            low -= least;
            Float8 high = low + q[k + 3];
            low += kRound;
            high += kRound;
            store_bytes(sums + k * 4, reinterpret_cast<Int8>(low) & 0xFF,
                        reinterpret_cast<Int8>(high) & 0xFF);
        }
    }
    return {sum(minima), sum(total)};
}

} // namespace
} // namespace ann
