// Half precision: conversions against the definition of binary16, and the distance kernels on
// halves against those on the same numbers as floats.
#include "extension/core/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "extension/core/distance.h"

namespace ann {
const Kernels *emulated_avx512_kernels(); // distance_avx512_emulated.cpp
}

namespace {

using ann::Half;

// The value of a half by its definition.
double defined_value(uint16_t bits) {
    double sign = (bits & 0x8000) != 0 ? -1 : 1;
    int exponent = bits >> 10 & 31;
    int fraction = bits & 1023;
    if (exponent == 0)
        return sign * std::ldexp(fraction, -24);
    return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(Half, EveryOneWidensExactlyAndComesBack) {
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        Half half{static_cast<uint16_t>(bits)};
        float wide = ann::to_float(half);
        if (ann::is_finite(half)) {
            ASSERT_EQ(wide, defined_value(half.bits)) << bits;
            ASSERT_EQ(std::signbit(wide), (bits & 0x8000) != 0);
            ASSERT_EQ(ann::to_half(wide).bits, bits);
        } else if (ann::is_nan(half)) {
            ASSERT_TRUE(std::isnan(wide));
            ASSERT_TRUE(ann::is_nan(ann::to_half(wide)));
        } else {
            ASSERT_TRUE(std::isinf(wide));
            ASSERT_EQ(ann::to_half(wide).bits, bits);
        }
    }
}

TEST(Half, FloatsRoundToTheNearestAndToEvenInTheMiddle) {
    for (uint32_t bits = 0; bits < 0x7bff; bits++) {
        double low = defined_value(static_cast<uint16_t>(bits));
        double high = defined_value(static_cast<uint16_t>(bits + 1));
        float middle = static_cast<float>((low + high) / 2);
        ASSERT_EQ(middle, (low + high) / 2);
        ASSERT_EQ(ann::to_half(middle).bits, bits + (bits & 1)) << bits;
        ASSERT_EQ(ann::to_half(std::nextafter(middle, 0.0F)).bits, bits) << bits;
        ASSERT_EQ(ann::to_half(std::nextafter(middle, 1e9F)).bits, bits + 1) << bits;
        ASSERT_EQ(ann::to_half(-middle).bits, 0x8000 + bits + (bits & 1)) << bits;
    }
}

TEST(Half, BeyondTheGreatestIsInfinity) {
    EXPECT_EQ(ann::to_float(ann::to_half(ann::kMaxHalf)), ann::kMaxHalf);
    EXPECT_EQ(ann::to_float(ann::to_half(std::nextafter(65520.0F, 0.0F))), ann::kMaxHalf);
    for (float value : {65520.0F, 1e6F, std::numeric_limits<float>::max(),
                        std::numeric_limits<float>::infinity()}) {
        EXPECT_EQ(ann::to_half(value).bits, 0x7c00);
        EXPECT_EQ(ann::to_half(-value).bits, 0xfc00);
    }
    EXPECT_EQ(ann::to_half(std::numeric_limits<float>::denorm_min()).bits, 0);
    EXPECT_EQ(ann::to_half(-1e-10F).bits, 0x8000);
}

class HalfKernels : public testing::TestWithParam<const char *> {
  protected:
    void SetUp() override {
        kernels_ = std::string("avx512_emulated") == GetParam() ? ann::emulated_avx512_kernels()
                                                                : ann::find_kernels(GetParam());
        if (kernels_ == nullptr)
            GTEST_SKIP() << "this CPU does not run " << GetParam();
    }

    // Halves of all magnitudes, subnormal ones too.
    static std::vector<Half> random_halves(size_t count, unsigned seed) {
        std::mt19937 random(seed);
        std::vector<Half> halves(count);
        for (Half &half : halves) {
            half.bits = static_cast<uint16_t>(random());
            half.bits &= static_cast<uint16_t>((half.bits & 0x4000) != 0 ? 0xc7ff : 0xffff);
        }
        return halves;
    }

    static std::vector<float> wide(const std::vector<Half> &halves) {
        std::vector<float> floats(halves.size());
        for (size_t i = 0; i < halves.size(); i++)
            floats[i] = ann::to_float(halves[i]);
        return floats;
    }

    const ann::Kernels *kernels_ = nullptr;
};

// Halves in memory of exactly their size, at an odd address: AddressSanitizer sees a step too far.
struct Unaligned {
    explicit Unaligned(const std::vector<Half> &halves) : bytes(halves.size() * 2 + 1) {
        if (!halves.empty())
            std::memcpy(bytes.data() + 1, halves.data(), halves.size() * 2);
    }
    const Half *data() const { return reinterpret_cast<const Half *>(bytes.data() + 1); }
    std::vector<char> bytes;
};

// Widening is exact and the sums are the same ones in the same order.
TEST_P(HalfKernels, GiveWhatTheSameNumbersAsFloatsGive) {
    for (size_t dim = 0; dim <= 300; dim++) {
        std::vector<Half> a = random_halves(dim, 1), b = random_halves(dim, 2);
        std::vector<float> x = wide(a), y = wide(b);
        Unaligned u(a), v(b);
        auto same = [&](const auto &set, const auto *p, const Half *q) {
            ASSERT_EQ(set.l2_squared(p, q, dim), kernels_->l2_squared(x.data(), y.data(), dim));
            ASSERT_EQ(set.l1(p, q, dim), kernels_->l1(x.data(), y.data(), dim));
            ASSERT_EQ(set.inner_product(p, q, dim),
                      kernels_->inner_product(x.data(), y.data(), dim));
            auto terms = set.cosine_terms(p, q, dim);
            auto expected = kernels_->cosine_terms(x.data(), y.data(), dim);
            ASSERT_EQ(terms.dot, expected.dot);
            ASSERT_EQ(terms.a_squared, expected.a_squared);
            ASSERT_EQ(terms.b_squared, expected.b_squared);
            if (dim > 0) {
                ASSERT_EQ(set.cosine_distance(p, q, dim),
                          kernels_->cosine_distance(x.data(), y.data(), dim));
            }
        };
        SCOPED_TRACE(dim);
        same(kernels_->halves, u.data(), v.data());
        same(kernels_->mixed, x.data(), v.data());
    }
}

TEST_P(HalfKernels, ConvertAsTheDefinitionDoes) {
    std::mt19937 random(3);
    for (size_t count = 0; count <= 100; count++) {
        std::vector<Half> halves = random_halves(count, static_cast<unsigned>(count));
        std::vector<float> floats(count);
        kernels_->to_floats(Unaligned(halves).data(), floats.data(), count);
        ASSERT_EQ(floats, wide(halves));
        for (float &value : floats)
            value = std::ldexp(static_cast<float>(random()) - 2e9F,
                               static_cast<int>(random() % 64) - 56);
        kernels_->to_halves(floats.data(), halves.data(), count);
        for (size_t i = 0; i < count; i++)
            ASSERT_EQ(halves[i].bits, ann::to_half(floats[i]).bits) << floats[i];
    }
}

INSTANTIATE_TEST_SUITE_P(Sets, HalfKernels,
                         testing::Values("portable", "avx2", "avx512", "avx512_emulated"),
                         [](const auto &info) { return std::string(info.param); });

TEST(SquaredNorm, OfHalvesIsExact) {
    for (size_t dim : {0, 1, 7, 255, 256, 257, 784}) {
        std::vector<Half> x(dim, ann::to_half(-3));
        EXPECT_EQ(ann::squared_norm(x.data(), dim), 9.0 * static_cast<double>(dim));
    }
}

} // namespace
