#include "extension/core/distance.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace ann {
const Kernels *emulated_avx512_kernels(); // distance_avx512_emulated.cpp
}

namespace {

using ann::CosineTerms;
using ann::Kernels;

// The same in double, one addition after the other.
struct Reference {
    double l2_squared = 0, inner_product = 0, l1 = 0, a_squared = 0, b_squared = 0;
    double product_magnitude = 0; // sum |a*b|: what the error of the inner product scales with

    Reference(const float *a, const float *b, size_t dim) {
        for (size_t i = 0; i < dim; i++) {
            double x = a[i], y = b[i];
            l2_squared += (x - y) * (x - y);
            inner_product += x * y;
            l1 += std::fabs(x - y);
            a_squared += x * x;
            b_squared += y * y;
            product_magnitude += std::fabs(x * y);
        }
    }
    double cosine() const { return 1 - inner_product / std::sqrt(a_squared * b_squared); }
};

std::vector<size_t> dims() {
    std::vector<size_t> all;
    for (size_t dim = 0; dim <= 200; dim++)
        all.push_back(dim);
    for (size_t dim : {255, 256, 257, 784, 1023, 1536, 3072, 4095, 16000})
        all.push_back(dim);
    return all;
}

std::vector<float> random_vector(size_t dim, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> x(dim);
    for (float &value : x)
        value = normal(random);
    return x;
}

// A block of floats that ends exactly where an unreadable page begins.
class GuardedFloats {
  public:
    explicit GuardedFloats(const std::vector<float> &values) {
        size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        size_t bytes = values.size() * sizeof(float);
        size_ = (bytes + page - 1) / page * page + page;
        base_ = static_cast<char *>(
            mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (base_ == MAP_FAILED)
            throw std::bad_alloc();
        mprotect(base_ + size_ - page, page, PROT_NONE);
        data_ = base_ + size_ - page - bytes;
        if (bytes > 0)
            std::memcpy(data_, values.data(), bytes);
    }
    GuardedFloats(const GuardedFloats &) = delete;
    GuardedFloats &operator=(const GuardedFloats &) = delete;
    ~GuardedFloats() { munmap(base_, size_); }
    const float *data() const { return reinterpret_cast<const float *>(data_); }

  private:
    size_t size_;
    char *base_;
    char *data_;
};

class DistanceTest : public testing::TestWithParam<const char *> {
  protected:
    void SetUp() override {
        kernels_ = std::string("avx512_emulated") == GetParam() ? ann::emulated_avx512_kernels()
                                                                : ann::find_kernels(GetParam());
        if (kernels_ == nullptr)
            GTEST_SKIP() << "this CPU does not run " << GetParam();
    }

    void expect_near_reference(const float *a, const float *b, const float *plain_a,
                               const float *plain_b, size_t dim) {
        SCOPED_TRACE("dim " + std::to_string(dim));
        Reference reference(plain_a, plain_b, dim);
        double epsilon = 1e-6 * (1 + std::sqrt(static_cast<double>(dim)) / 8);
        ASSERT_NEAR(kernels_->l2_squared(a, b, dim), reference.l2_squared,
                    epsilon * reference.l2_squared);
        ASSERT_NEAR(kernels_->l1(a, b, dim), reference.l1, epsilon * reference.l1);
        ASSERT_NEAR(kernels_->inner_product(a, b, dim), reference.inner_product,
                    epsilon * reference.product_magnitude);
        CosineTerms terms = kernels_->cosine_terms(a, b, dim);
        ASSERT_NEAR(terms.dot, reference.inner_product, epsilon * reference.product_magnitude);
        ASSERT_NEAR(terms.a_squared, reference.a_squared, epsilon * reference.a_squared);
        ASSERT_NEAR(terms.b_squared, reference.b_squared, epsilon * reference.b_squared);
        if (dim > 0) {
            ASSERT_NEAR(kernels_->cosine_distance(a, b, dim), reference.cosine(), 2 * epsilon);
            ASSERT_NEAR(terms.distance(), reference.cosine(), 2 * epsilon);
        }
    }

    const Kernels *kernels_ = nullptr;
};

TEST_P(DistanceTest, AgreesWithDoublePrecisionAndReadsNothingBeyondTheEnd) {
    for (size_t dim : dims()) {
        std::vector<float> a = random_vector(dim, 1), b = random_vector(dim, 2);
        GuardedFloats guarded_a(a), guarded_b(b);
        expect_near_reference(guarded_a.data(), guarded_b.data(), a.data(), b.data(), dim);
    }
}

TEST_P(DistanceTest, NeedsNoAlignment) {
    for (size_t dim : {1, 3, 8, 17, 100, 784}) {
        std::vector<float> a = random_vector(dim, 3), b = random_vector(dim, 4);
        std::vector<char> memory_a(dim * sizeof(float) + 8), memory_b(dim * sizeof(float) + 8);
        for (size_t offset = 0; offset < 8; offset++) {
            char *at_a = memory_a.data() + offset, *at_b = memory_b.data() + (offset * 3) % 8;
            std::memcpy(at_a, a.data(), dim * sizeof(float));
            std::memcpy(at_b, b.data(), dim * sizeof(float));
            expect_near_reference(reinterpret_cast<const float *>(at_a),
                                  reinterpret_cast<const float *>(at_b), a.data(), b.data(), dim);
        }
    }
}

TEST_P(DistanceTest, IsExactOnSmallIntegers) {
    std::mt19937 random(5);
    std::uniform_int_distribution<int> digit(-9, 9);
    for (size_t dim : dims()) {
        std::vector<float> a(dim), b(dim);
        for (size_t i = 0; i < dim; i++) {
            a[i] = static_cast<float>(digit(random));
            b[i] = static_cast<float>(digit(random));
        }
        Reference reference(a.data(), b.data(), dim);
        ASSERT_EQ(kernels_->l2_squared(a.data(), b.data(), dim), reference.l2_squared);
        ASSERT_EQ(kernels_->inner_product(a.data(), b.data(), dim), reference.inner_product);
        ASSERT_EQ(kernels_->l1(a.data(), b.data(), dim), reference.l1);
        CosineTerms terms = kernels_->cosine_terms(a.data(), b.data(), dim);
        ASSERT_EQ(terms.dot, reference.inner_product);
        ASSERT_EQ(terms.a_squared, reference.a_squared);
        ASSERT_EQ(terms.b_squared, reference.b_squared);
    }
}

TEST_P(DistanceTest, EveryElementCountsOnce) {
    for (size_t dim = 1; dim <= 200; dim++) {
        std::vector<float> zero(dim), one(dim);
        for (size_t i = 0; i < dim; i++) {
            one[i] = -2;
            ASSERT_EQ(kernels_->l2_squared(zero.data(), one.data(), dim), 4) << dim << " " << i;
            ASSERT_EQ(kernels_->l1(zero.data(), one.data(), dim), 2) << dim << " " << i;
            ASSERT_EQ(kernels_->inner_product(one.data(), one.data(), dim), 4) << dim << " " << i;
            ASSERT_EQ(kernels_->cosine_distance(one.data(), one.data(), dim), 0) << dim << " " << i;
            one[i] = 0;
        }
    }
}

TEST_P(DistanceTest, CosineStaysInItsRange) {
    for (size_t dim : dims()) {
        if (dim == 0)
            continue;
        std::vector<float> a = random_vector(dim, 6), scaled(a), negative(a);
        for (size_t i = 0; i < dim; i++) {
            scaled[i] *= 1.1F;
            negative[i] *= -0.7F;
        }
        for (const auto &b : {a, scaled, negative}) {
            double distance = kernels_->cosine_terms(a.data(), b.data(), dim).distance();
            ASSERT_GE(distance, 0);
            ASSERT_LE(distance, 2);
        }
        ASSERT_NEAR(kernels_->cosine_distance(a.data(), scaled.data(), dim), 0, 1e-6);
        ASSERT_NEAR(kernels_->cosine_distance(a.data(), negative.data(), dim), 2, 1e-6);
    }
}

TEST_P(DistanceTest, CosineOfAZeroVectorIsNaN) {
    for (size_t dim : {0, 1, 7, 8, 40}) {
        std::vector<float> zero(dim), one(dim, 1.0F);
        EXPECT_TRUE(std::isnan(kernels_->cosine_distance(zero.data(), one.data(), dim)));
        EXPECT_TRUE(std::isnan(kernels_->cosine_distance(one.data(), zero.data(), dim)) ||
                    dim == 0);
    }
}

TEST_P(DistanceTest, OverflowIsInfinity) {
    for (size_t dim : {1, 9, 100}) {
        std::vector<float> a(dim, 3e38F), b(dim, -3e38F);
        float infinity = std::numeric_limits<float>::infinity();
        EXPECT_EQ(kernels_->l2_squared(a.data(), b.data(), dim), infinity);
        EXPECT_EQ(kernels_->l1(a.data(), b.data(), dim), infinity);
        EXPECT_EQ(kernels_->inner_product(a.data(), a.data(), dim), infinity);
        EXPECT_EQ(kernels_->inner_product(a.data(), b.data(), dim), -infinity);
        EXPECT_TRUE(std::isnan(kernels_->cosine_distance(a.data(), a.data(), dim)));
    }
}

INSTANTIATE_TEST_SUITE_P(Sets, DistanceTest,
                         testing::Values("portable", "avx2", "avx512", "avx512_emulated"),
                         [](const auto &info) { return std::string(info.param); });

TEST(Kernels, AreSelectedByName) {
    ASSERT_TRUE(ann::select_kernels("portable"));
    EXPECT_STREQ(ann::kernels().name, "portable");
    EXPECT_EQ(ann::kernels().level, ann::SimdLevel::kPortable);
    EXPECT_FALSE(ann::select_kernels("sse9"));
    EXPECT_FALSE(ann::select_kernels(""));
    EXPECT_STREQ(ann::kernels().name, "portable");
    for (const char *name : {"avx2", "avx512"}) {
        if (ann::find_kernels(name) != nullptr) {
            EXPECT_TRUE(ann::select_kernels(name));
            EXPECT_STREQ(ann::kernels().name, name);
        } else {
            EXPECT_FALSE(ann::select_kernels(name));
        }
    }
    ASSERT_TRUE(ann::select_kernels("auto"));
    EXPECT_EQ(&ann::kernels(), ann::find_kernels("auto"));
}

TEST(Kernels, AutoTakesTheBestThatThisCpuRuns) {
    const Kernels *best = ann::find_kernels("auto");
    for (const char *name : {"portable", "avx2", "avx512"}) {
        const Kernels *set = ann::find_kernels(name);
        if (set != nullptr) {
            EXPECT_GE(best->level, set->level);
        }
    }
}

TEST(SquaredNorm, DoesNotOverflow) {
    for (size_t dim : {0, 1, 3, 4, 5, 784}) {
        std::vector<float> x(dim, 3e38F);
        double square = static_cast<double>(3e38F) * 3e38F;
        EXPECT_NEAR(ann::squared_norm(x.data(), dim), square * static_cast<double>(dim),
                    square * 1e-12 * static_cast<double>(dim));
    }
}

} // namespace
