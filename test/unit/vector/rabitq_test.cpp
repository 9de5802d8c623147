#include "extension/core/rabitq.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "extension/core/rabitq_sets.h"

namespace ann {
// rabitq_avx512_emulated.cpp
void scan_avx512_emulated(const uint8_t *codes, const uint8_t *table, uint32_t groups,
                          uint32_t *sums);
} // namespace ann

namespace {

using ann::EdgeFactors;
using ann::Metric;
using ann::QueryTable;
using Floats = std::vector<float>;

constexpr uint64_t kSeed = 42;
constexpr uint32_t kBlock = ann::kBlock;

const std::vector<uint32_t> kDims = {1,   2,    7,    8,    9,    12,   16,   24,   63,   64,
                                     100, 128,  200,  256,  300,  384,  512,  520,  768,  784,
                                     960, 1016, 1024, 1536, 2040, 2048, 3072, 4104, 16000};

Floats random_vector(size_t dim, unsigned seed, float spread = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, spread);
    Floats x(dim);
    for (float &value : x)
        value = normal(random);
    return x;
}

double dot(const Floats &a, const Floats &b) {
    double result = 0;
    for (size_t i = 0; i < a.size(); i++)
        result += static_cast<double>(a[i]) * b[i];
    return result;
}

Floats minus(const Floats &a, const Floats &b) {
    Floats result(a.size());
    for (size_t i = 0; i < a.size(); i++)
        result[i] = a[i] - b[i];
    return result;
}

Floats plus(const Floats &a, const Floats &b, float factor) {
    Floats result(a.size());
    for (size_t i = 0; i < a.size(); i++)
        result[i] = a[i] + factor * b[i];
    return result;
}

Floats rotated(const Floats &x, uint64_t seed = kSeed) {
    Floats out(ann::padded_dim(static_cast<uint32_t>(x.size())));
    ann::rotate(seed, x.data(), static_cast<uint32_t>(x.size()), out.data());
    return out;
}

// The index's distance, in double.
double distance(Metric metric, const Floats &a, const Floats &b) {
    if (metric == Metric::kL2)
        return dot(minus(a, b), minus(a, b));
    return metric == Metric::kCosine ? 1 - dot(a, b) : -dot(a, b);
}

Floats unit(Floats x) {
    double length = std::sqrt(dot(x, x));
    for (float &value : x)
        value = static_cast<float>(value / length);
    return x;
}

// An element, up to 32 neighbours of it, and a query, with everything that estimates them.
struct Fixture {
    Metric metric;
    uint32_t dim, padded, bits;
    Floats element, query;
    std::vector<Floats> neighbors;
    std::vector<uint8_t> block, sums;
    Floats constants, slopes;

    Fixture(Metric metric_, uint32_t dim_, uint32_t bits_, unsigned seed, size_t count = kBlock,
            float query_length = 1)
        : metric(metric_), dim(dim_), padded(ann::padded_dim(dim_)), bits(bits_),
          block(ann::block_bytes(padded, bits_)), sums(ann::table_bytes(padded)), constants(kBlock),
          slopes(kBlock) {
        Floats centre = random_vector(dim, seed);
        element = shaped(plus(centre, random_vector(dim, seed + 1), 0.7F));
        query = shaped(plus(centre, random_vector(dim, seed + 2), 0.7F));
        for (float &value : query)
            value *= query_length;
        for (unsigned i = 0; i < count; i++)
            neighbors.push_back(
                shaped(plus(centre, random_vector(dim, seed + 3 + i), 0.1F + 0.04F * i)));
        encode(kSeed);
    }
    Floats shaped(const Floats &x) const { return metric == Metric::kCosine ? unit(x) : x; }
    void encode(uint64_t rotation_seed) {
        Floats u = rotated(element, rotation_seed);
        std::vector<uint8_t> code(ann::code_bytes(padded, bits));
        for (uint32_t i = 0; i < neighbors.size(); i++) {
            Floats v = rotated(neighbors[i], rotation_seed);
            EdgeFactors factors =
                ann::encode_edge(metric, u.data(), v.data(), padded, bits, code.data());
            ann::put_code(block.data(), i, code.data(), padded, bits);
            constants[i] = factors.constant;
            slopes[i] = factors.slope;
        }
    }
    float weight() const {
        return ann::edge_weight(metric, static_cast<float>(distance(metric, query, element)),
                                static_cast<float>(dot(element, element)));
    }
    Floats estimate(uint64_t rotation_seed = kSeed) {
        Floats out(kBlock), q = rotated(query, rotation_seed);
        QueryTable table = ann::make_table(q.data(), padded, bits, sums.data());
        ann::estimate_block(table, block.data(), constants.data(), slopes.data(),
                            static_cast<float>(distance(metric, query, element)), weight(),
                            out.data());
        return out;
    }
    // The standard error of estimate i that README.md derives; of the table's rounding, too.
    double sigma(uint32_t i) const {
        Floats edge = minus(neighbors[i], element);
        Floats rest = plus(query, element, -weight());
        double length = std::sqrt(dot(edge, edge));
        double spread = bits == 1 ? 0.76 : 0.40;
        double scale = metric == Metric::kL2 ? 2 : 1;
        double coding = spread * std::sqrt(dot(rest, rest)) / std::sqrt(padded);
        double rounding = 0.02 * std::sqrt(dot(query, query)) / std::sqrt(padded);
        return scale * length * std::hypot(coding, rounding);
    }
};

class CodesTest : public testing::TestWithParam<const char *> {
  protected:
    void SetUp() override {
        if (!ann::select_kernels(GetParam()))
            GTEST_SKIP() << "this CPU does not run " << GetParam();
    }
    void TearDown() override { ann::select_kernels("auto"); }
};

TEST_P(CodesTest, RotationKeepsLengthsProductsAndDifferences) {
    for (uint32_t dim : kDims) {
        SCOPED_TRACE(dim);
        Floats a = random_vector(dim, 1), b = random_vector(dim, 2);
        Floats ra = rotated(a), rb = rotated(b);
        double tolerance = 2e-6 * std::sqrt(dot(a, a) * dot(b, b));
        EXPECT_NEAR(dot(ra, ra), dot(a, a), 2e-6 * dot(a, a));
        EXPECT_NEAR(dot(ra, rb), dot(a, b), tolerance);
        Floats difference = minus(rotated(minus(a, b)), minus(ra, rb));
        EXPECT_LE(dot(difference, difference), 1e-10 * dot(a, a));
    }
}

TEST_P(CodesTest, RotationSpreadsEveryAxis) {
    for (uint32_t dim : {64U, 128U, 200U, 256U, 520U, 784U, 1536U}) {
        SCOPED_TRACE(dim);
        double greatest = 0;
        for (uint32_t axis = 0; axis < dim; axis++) {
            Floats x(dim);
            x[axis] = 1;
            Floats y = rotated(x);
            double absolute = 0;
            for (float value : y) {
                greatest = std::max<double>(greatest, std::fabs(value));
                absolute += std::fabs(value);
            }
            // sqrt(2/pi) = 0.798 for a random direction.
            EXPECT_GT(absolute / std::sqrt(y.size()), 0.6) << axis;
        }
        EXPECT_LT(greatest, 12 / std::sqrt(dim));
    }
}

TEST_P(CodesTest, SeedsGiveDifferentRotations) {
    Floats x = random_vector(784, 1);
    EXPECT_EQ(rotated(x, 5), rotated(x, 5));
    EXPECT_LT(std::fabs(dot(rotated(x, 5), rotated(x, 6))), 0.2 * dot(x, x));
}

// The values themselves are part of the index format.
TEST_P(CodesTest, RotationNeverChanges) {
    Floats x(12);
    for (size_t i = 0; i < x.size(); i++)
        x[i] = static_cast<float>(i + 1);
    Floats y = rotated(x, 7);
    ASSERT_EQ(y.size(), 16U);
    uint32_t bits = 0;
    for (size_t i = 0; i < y.size(); i++)
        bits |= static_cast<uint32_t>(y[i] > 0) << i;
    EXPECT_EQ(bits, 56999U);
    EXPECT_EQ(y[0], 1.125F);
    Floats power = rotated({1, 2, 3, 4, 5, 6, 7, 8}, 7);
    EXPECT_FLOAT_EQ(power[0], -2.12132F);
}

TEST_P(CodesTest, CodesAreWrittenInPlace) {
    for (uint32_t bits : {1U, 2U}) {
        for (uint32_t padded : {8U, 24U, 784U}) {
            std::mt19937 random(padded);
            uint32_t size = ann::code_bytes(padded, bits);
            std::vector<uint8_t> block(ann::block_bytes(padded, bits));
            std::vector<std::vector<uint8_t>> codes(kBlock, std::vector<uint8_t>(size));
            for (int round = 0; round < 100; round++) {
                uint32_t slot = random() % kBlock;
                for (uint8_t &byte : codes[slot])
                    byte = static_cast<uint8_t>(random());
                ann::put_code(block.data(), slot, codes[slot].data(), padded, bits);
                for (uint32_t i = 0; i < kBlock; i++) {
                    std::vector<uint8_t> code(size);
                    ann::get_code(block.data(), i, padded, bits, code.data());
                    ASSERT_EQ(code, codes[i]) << i;
                }
            }
        }
    }
}

TEST_P(CodesTest, CodesAreTheSignsOfTheEdge) {
    constexpr uint32_t kDim = 40;
    Floats u = random_vector(kDim, 1), v = random_vector(kDim, 2);
    for (uint32_t bits : {1U, 2U}) {
        std::vector<uint8_t> code(ann::code_bytes(kDim, bits));
        ann::encode_edge(Metric::kL2, u.data(), v.data(), kDim, bits, code.data());
        Floats edge = minus(v, u);
        double deviation = std::sqrt(dot(edge, edge) / kDim);
        for (uint32_t i = 0; i < kDim; i++) {
            int sign = (code[i / 8] >> i % 8 & 1) != 0 ? 1 : -1;
            EXPECT_EQ(sign, edge[i] > 0 ? 1 : -1) << i;
            if (bits == 1)
                continue;
            int fine = (code[(kDim + i) / 8] >> i % 8 & 1) != 0 ? 1 : -1;
            EXPECT_EQ(2 * sign + fine, sign * (std::fabs(edge[i]) > 0.98 * deviation ? 3 : 1)) << i;
        }
    }
}

// The sums of a scan against one look-up after the other, at every size.
TEST_P(CodesTest, ScanIsExact) {
    for (uint32_t dim : kDims) {
        uint32_t padded = ann::padded_dim(dim);
        std::mt19937 random(dim);
        std::vector<uint8_t> block(ann::block_bytes(padded, 2)), sums(ann::table_bytes(padded));
        for (bool extreme : {false, true}) {
            for (uint8_t &byte : block)
                byte = static_cast<uint8_t>(random());
            for (uint8_t &byte : sums)
                byte = extreme ? 255 : static_cast<uint8_t>(random());
            for (uint32_t bits : {1U, 2U}) {
                QueryTable table = {sums.data(), padded, bits, 1, 0};
                Floats zero(kBlock), one(kBlock, 1), out(kBlock);
                ann::estimate_block(table, block.data(), zero.data(), one.data(), 0, 1, out.data());
                for (uint32_t i = 0; i < kBlock; i++) {
                    std::vector<uint8_t> code(ann::code_bytes(padded, bits));
                    ann::get_code(block.data(), i, padded, bits, code.data());
                    uint32_t expected = 0;
                    for (uint32_t group = 0; group < padded / 4 * bits; group++) {
                        uint32_t nibble = code[group / 2] >> group % 2 * 4 & 15;
                        uint32_t factor = bits == 2 && group < padded / 4 ? 2 : 1;
                        expected += factor * sums[group % (padded / 4) * 16 + nibble];
                    }
                    ASSERT_EQ(out[i], static_cast<float>(expected)) << dim << " " << i;
                }
            }
        }
    }
}

TEST(Codes, EmulatedAvx512ScanIsThePortableOne) {
    for (uint32_t dim : kDims) {
        uint32_t padded = ann::padded_dim(dim);
        std::mt19937 random(dim);
        std::vector<uint8_t> block(ann::block_bytes(padded, 1)), sums(ann::table_bytes(padded));
        for (uint8_t &byte : block)
            byte = static_cast<uint8_t>(random());
        for (bool extreme : {false, true}) {
            for (uint8_t &byte : sums)
                byte = extreme ? 255 : static_cast<uint8_t>(random());
            uint32_t expected[kBlock], found[kBlock];
            ann::kPortableCodes.scan(block.data(), sums.data(), padded / 4, expected);
            ann::scan_avx512_emulated(block.data(), sums.data(), padded / 4, found);
            ASSERT_EQ(std::memcmp(expected, found, sizeof(found)), 0) << dim;
        }
    }
}

TEST_P(CodesTest, EverySetGivesTheSameBits) {
    for (uint32_t dim : kDims) {
        for (uint32_t bits : {1U, 2U}) {
            for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
                if (dim > 2000 && metric != Metric::kL2)
                    continue;
                ann::select_kernels(GetParam());
                Fixture ours(metric, dim, bits, 3);
                Floats estimates = ours.estimate(), q = rotated(ours.query);
                ann::select_kernels("portable");
                Fixture theirs(metric, dim, bits, 3);
                ASSERT_EQ(q, rotated(theirs.query)) << dim;
                ASSERT_EQ(ours.block, theirs.block) << dim;
                ASSERT_EQ(ours.constants, theirs.constants) << dim;
                ASSERT_EQ(ours.slopes, theirs.slopes) << dim;
                ASSERT_EQ(estimates, theirs.estimate()) << dim;
                ASSERT_EQ(ours.sums, theirs.sums) << dim;
            }
        }
    }
}

TEST_P(CodesTest, EstimatesAreWithinTheirError) {
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
        for (uint32_t bits : {1U, 2U}) {
            for (uint32_t dim : {64U, 128U, 256U, 784U, 1536U}) {
                SCOPED_TRACE(testing::Message()
                             << static_cast<int>(metric) << " bits " << bits << " dim " << dim);
                double squares = 0;
                size_t count = 0;
                for (unsigned seed = 0; seed < 20; seed++) {
                    Fixture f(metric, dim, bits, seed * 100 + 1, kBlock,
                              metric == Metric::kInnerProduct ? 0.01F : 1);
                    Floats estimates = f.estimate();
                    for (uint32_t i = 0; i < kBlock; i++, count++) {
                        double error = estimates[i] - distance(metric, f.query, f.neighbors[i]);
                        double scaled = error / f.sigma(i);
                        ASSERT_LT(std::fabs(scaled), 5) << i;
                        squares += scaled * scaled;
                    }
                }
                EXPECT_LT(squares / static_cast<double>(count), 1.2);
                // Not so far from it that the error named were an empty promise.
                EXPECT_GT(squares / static_cast<double>(count), 0.5);
            }
        }
    }
}

// Over many rotations the estimate's mean is the distance.
TEST_P(CodesTest, EstimatesAreUnbiased) {
    constexpr int kRotations = 200;
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
        Fixture f(metric, 200, 1, 9);
        std::vector<double> mean(kBlock);
        for (int seed = 0; seed < kRotations; seed++) {
            f.encode(static_cast<uint64_t>(seed));
            Floats estimates = f.estimate(static_cast<uint64_t>(seed));
            for (uint32_t i = 0; i < kBlock; i++)
                mean[i] += estimates[i] / kRotations;
        }
        for (uint32_t i = 0; i < kBlock; i++)
            EXPECT_NEAR(mean[i], distance(metric, f.query, f.neighbors[i]),
                        4 * f.sigma(i) / std::sqrt(kRotations))
                << i;
    }
}

TEST_P(CodesTest, EstimatesRankNeighbors) {
    for (uint32_t bits : {1U, 2U}) {
        int right = 0, pairs = 0;
        for (unsigned seed = 0; seed < 20; seed++) {
            Fixture f(Metric::kL2, 256, bits, seed * 100);
            Floats estimates = f.estimate();
            for (uint32_t i = 0; i < kBlock; i++) {
                for (uint32_t j = 0; j < i; j++, pairs++)
                    right += (estimates[i] < estimates[j]) ==
                             (distance(f.metric, f.query, f.neighbors[i]) <
                              distance(f.metric, f.query, f.neighbors[j]));
            }
        }
        EXPECT_GT(right, pairs * (bits == 1 ? 0.88 : 0.92)) << bits;
    }
}

// Adding the same number to every dimension of everything changes the distances as little as the
// rounding of the table lets it.
TEST_P(CodesTest, EstimatesStandAnOffset) {
    Fixture f(Metric::kL2, 256, 1, 5);
    for (Floats *x : {&f.element, &f.query})
        for (float &value : *x)
            value += 10;
    for (Floats &x : f.neighbors)
        for (float &value : x)
            value += 10;
    f.encode(kSeed);
    Floats estimates = f.estimate();
    for (uint32_t i = 0; i < kBlock; i++)
        EXPECT_NEAR(estimates[i], distance(f.metric, f.query, f.neighbors[i]), 5 * f.sigma(i));
}

TEST_P(CodesTest, EdgesOfNoLengthOrTooMuchAreTheElementItself) {
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
        for (float size : {0.0F, 3e38F, 1e30F, std::numeric_limits<float>::quiet_NaN(),
                           std::numeric_limits<float>::infinity()}) {
            Floats u(16), v(16);
            for (size_t i = 0; i < u.size(); i++)
                v[i] = i % 3 == 0 ? size : -size;
            std::vector<uint8_t> code(ann::code_bytes(16, 2));
            for (uint32_t bits : {1U, 2U}) {
                EdgeFactors factors =
                    ann::encode_edge(metric, u.data(), v.data(), 16, bits, code.data());
                EXPECT_TRUE(std::isfinite(factors.constant)) << size;
                EXPECT_TRUE(std::isfinite(factors.slope)) << size;
                if (size == 0) {
                    EXPECT_EQ(factors.constant, 0);
                    EXPECT_EQ(factors.slope, 0);
                }
            }
        }
    }
}

TEST_P(CodesTest, TablesOfQueriesWithoutASizeAreEmpty) {
    for (float size : {0.0F, 1e-44F, 3e38F, std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::quiet_NaN()}) {
        Floats query(24, size);
        std::vector<uint8_t> sums(ann::table_bytes(24), 77);
        QueryTable table = ann::make_table(query.data(), 24, 1, sums.data());
        EXPECT_EQ(table.scale, 0);
        EXPECT_EQ(table.offset, 0);
        EXPECT_EQ(*std::max_element(sums.begin(), sums.end()), 0);
    }
}

INSTANTIATE_TEST_SUITE_P(Sets, CodesTest, testing::Values("portable", "avx2", "avx512"),
                         [](const auto &info) { return std::string(info.param); });

} // namespace
