// IEEE 754 half precision (binary16), as `halfvec` stores it: one sign, five exponent, ten fraction
// bits. Up to 65504; the distance to the next number is about a thousandth of the number.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace ann {

struct Half {
    uint16_t bits;
};
static_assert(sizeof(Half) == 2);

inline constexpr float kMaxHalf = 65504;

constexpr bool is_finite(Half value) {
    return (value.bits & 0x7c00) != 0x7c00;
}

constexpr bool is_nan(Half value) {
    return (value.bits & 0x7fff) > 0x7c00;
}

// Exact.
constexpr float to_float(Half value) {
    uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
    uint32_t rest = value.bits & 0x7fffU;
    if (rest >= 0x7c00) // infinity and NaN
        return std::bit_cast<float>(sign | 0x7f800000U | (rest & 0x3ffU) << 13);
    if (rest < 0x400) { // subnormal: a multiple of 2^-24
        float magnitude = static_cast<float>(rest) * 0x1p-24F;
        return sign != 0 ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | ((rest << 13) + (112U << 23)));
}

// Rounded to the nearest, to even in the middle; infinity beyond 65504 and a half step.
constexpr Half to_half(float value) {
    uint32_t bits = std::bit_cast<uint32_t>(value);
    uint32_t sign = bits >> 16 & 0x8000U;
    uint32_t rest = bits & 0x7fffffffU;
    if (rest > 0x7f800000U)
        return {static_cast<uint16_t>(sign | 0x7e00U | (rest >> 13 & 0x3ffU))};
    if (rest >= 0x477ff000U)
        return {static_cast<uint16_t>(sign | 0x7c00U)};
    if (rest < 0x38800000U) {
        // Subnormal: adding 0.5 leaves the number of steps of 2^-24, rounded, in the lowest bits.
        float shifted = std::bit_cast<float>(rest) + 0.5F;
        return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000U))};
    }
    uint32_t rounded = rest - (112U << 23) + 0xfffU + (rest >> 13 & 1U);
    return {static_cast<uint16_t>(sign | rounded >> 13)};
}

} // namespace ann
