// The kernels in the compiler's vector extensions: SSE2 on x86-64, NEON on aarch64, scalar code
// where there is nothing else.
#include <cstring>

#include "extension/core/distance_sets.h"

namespace ann {
namespace {

typedef float Float4 __attribute__((vector_size(16)));
typedef int Int4 __attribute__((vector_size(16)));
typedef unsigned short Half4 __attribute__((vector_size(8)));

constexpr size_t kLanes = 4;
constexpr size_t kUnroll = 4;

inline Float4 load(const float *x) {
    Float4 v;
    std::memcpy(&v, x, sizeof(v));
    return v;
}

inline Float4 load_tail(const float *x, size_t count) {
    Float4 v = {};
    std::memcpy(&v, x, count * sizeof(float));
    return v;
}

// The exponent and fraction of a half, shifted into a float's place, are 2^-112 times its value,
// subnormal ones as well.
inline Float4 widen(Half4 halves) {
    Int4 bits = __builtin_convertvector(halves, Int4);
    Int4 magnitude = (bits & 0x7fff) << 13;
    Int4 sign = (bits & 0x8000) << 16;
    Float4 value;
    std::memcpy(&value, &magnitude, sizeof(value));
    value *= 0x1p112F;
    std::memcpy(&magnitude, &value, sizeof(value));
    magnitude |= sign;
    std::memcpy(&value, &magnitude, sizeof(value));
    return value;
}

inline Float4 load(const Half *x) {
    Half4 halves;
    std::memcpy(&halves, x, sizeof(halves));
    return widen(halves);
}

inline Float4 load_tail(const Half *x, size_t count) {
    Half4 halves = {};
    std::memcpy(&halves, x, count * sizeof(Half));
    return widen(halves);
}

inline float sum(Float4 v) {
    return (v[0] + v[2]) + (v[1] + v[3]);
}

struct L2Squared {
    static Float4 term(Float4 a, Float4 b) { return (a - b) * (a - b); }
};

struct InnerProduct {
    static Float4 term(Float4 a, Float4 b) { return a * b; }
};

struct L1 {
    static Float4 term(Float4 a, Float4 b) {
        Float4 diff = a - b;
        Int4 bits;
        std::memcpy(&bits, &diff, sizeof(bits));
        bits &= 0x7fffffff;
        std::memcpy(&diff, &bits, sizeof(bits));
        return diff;
    }
};

template <typename Op, typename A, typename B> float reduce(const A *a, const B *b, size_t dim) {
    Float4 sums[kUnroll] = {};
    size_t i = 0;
    for (; i + kLanes * kUnroll <= dim; i += kLanes * kUnroll) {
        sums[0] += Op::term(load(a + i), load(b + i));
        sums[1] += Op::term(load(a + i + 4), load(b + i + 4));
        sums[2] += Op::term(load(a + i + 8), load(b + i + 8));
        sums[3] += Op::term(load(a + i + 12), load(b + i + 12));
    }
    for (; i + kLanes <= dim; i += kLanes)
        sums[0] += Op::term(load(a + i), load(b + i));
    if (i < dim)
        sums[1] += Op::term(load_tail(a + i, dim - i), load_tail(b + i, dim - i));
    return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <typename A, typename B> CosineTerms cosine_terms(const A *a, const B *b, size_t dim) {
    Float4 dot[2] = {}, aa[2] = {}, bb[2] = {};
    auto step = [&](Float4 x, Float4 y, int k) {
        dot[k] += x * y;
        aa[k] += x * x;
        bb[k] += y * y;
    };
    size_t i = 0;
    for (; i + 2 * kLanes <= dim; i += 2 * kLanes) {
        step(load(a + i), load(b + i), 0);
        step(load(a + i + kLanes), load(b + i + kLanes), 1);
    }
    if (i + kLanes <= dim) {
        step(load(a + i), load(b + i), 0);
        i += kLanes;
    }
    if (i < dim)
        step(load_tail(a + i, dim - i), load_tail(b + i, dim - i), 1);
    return {sum(dot[0] + dot[1]), sum(aa[0] + aa[1]), sum(bb[0] + bb[1])};
}

template <typename A, typename B> float cosine_distance(const A *a, const B *b, size_t dim) {
    return static_cast<float>(cosine_terms(a, b, dim).distance());
}

template <typename A, typename B> constexpr DistanceSet<A, B> distances() {
    return {reduce<L2Squared, A, B>, reduce<InnerProduct, A, B>, reduce<L1, A, B>,
            cosine_distance<A, B>, cosine_terms<A, B>};
}

void to_floats(const Half *in, float *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        Half value;
        std::memcpy(&value, in + i, sizeof(value));
        float wide = to_float(value);
        std::memcpy(out + i, &wide, sizeof(wide));
    }
}

void to_halves(const float *in, Half *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float value;
        std::memcpy(&value, in + i, sizeof(value));
        Half narrow = to_half(value);
        std::memcpy(out + i, &narrow, sizeof(narrow));
    }
}

} // namespace

const Kernels kPortableKernels = {
    distances<float, float>(),
    distances<Half, Half>(),
    distances<float, Half>(),
    to_floats,
    to_halves,
    "portable",
    SimdLevel::kPortable,
};

} // namespace ann
