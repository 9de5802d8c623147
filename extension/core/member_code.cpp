#include "extension/core/member_code.h"

#include <bit>
#include <cmath>
#include <limits>

namespace ann {
namespace {

// In standard errors. A member nearer than its bound comes too late and is left out: one in 30,000.
constexpr float kConfidence = 4;

// The squared length of a code as a vector of -1 and 1, with two bits of -3, -1, 1 and 3.
double code_norm(const uint8_t *code, uint32_t coded, uint32_t bits) {
    uint32_t large = 0;
    for (uint32_t i = 0; bits == 2 && i < coded / 8; i++) {
        auto differ = static_cast<uint8_t>(code[i] ^ code[coded / 8 + i]);
        large += static_cast<uint32_t>(std::popcount(static_cast<uint8_t>(~differ)));
    }
    return static_cast<double>(coded) + 8.0 * large;
}

} // namespace

MemberFactors encode_member(Metric metric, const float *u, const float *v, uint32_t padded,
                            uint32_t coded, uint32_t bits, uint8_t *code) {
    CodeProducts products = encode_products(u, v, coded, bits, code);
    double squared = kernels().l2_squared(u, v, padded);
    bool l2 = metric == Metric::kL2;
    double rest = l2 ? squared
                     : static_cast<double>(kernels().inner_product(u, u, padded)) -
                           kernels().inner_product(u, v, padded);
    double ratio = products.code_edge > 0 ? squared / products.code_edge : 0;
    double scale = l2 ? 2 : 1;
    double cosine_squared = squared > 0
                                ? products.code_edge * static_cast<double>(products.code_edge) /
                                      (squared * code_norm(code, coded, bits))
                                : 1;
    double tangent = std::sqrt(std::max(1 / cosine_squared - 1, 0.0));
    MemberFactors factors = {
        static_cast<float>(rest + scale * ratio * products.code_start),
        static_cast<float>(-scale * ratio),
        static_cast<float>(scale * std::sqrt(squared) * tangent / std::sqrt(padded - 1.0)),
    };
    // Numbers that overflow: an estimate that excludes nothing.
    if (!std::isfinite(factors.constant) || !std::isfinite(factors.slope) ||
        !std::isfinite(factors.error))
        factors = {0, 0, std::numeric_limits<float>::infinity()};
    return factors;
}

void put_member(const ListBlock &block, uint32_t place, const MemberFactors &factors,
                const uint8_t *code) {
    put_code(block.codes(), place, code, block.layout->coded, block.layout->bits);
    block.constants()[place] = factors.constant;
    block.slopes()[place] = factors.slope;
    block.errors()[place] = factors.error;
}

MemberQuery::MemberQuery(Metric metric, const QueryTable &table, float exact_distance,
                         float squared_norm, float query_norm)
    : distance(exact_distance), weight(edge_weight(metric, exact_distance, squared_norm)) {
    double squared = exact_distance;
    if (metric != Metric::kL2)
        squared = query_norm - (squared_norm > 0 ? static_cast<double>(exact_distance) *
                                                       exact_distance / squared_norm
                                                 : 0);
    error_factor = kConfidence * static_cast<float>(std::sqrt(std::max(squared, 0.0)));
    // A table's entries are rounded to whole steps, the error of each uniform.
    float planes = table.bits == 2 ? std::sqrt(5.0F) : 1.0F;
    slope_factor =
        kConfidence * table.scale * planes * std::sqrt(static_cast<float>(table.padded) / 48);
}

void member_bounds(const QueryTable &table, const ListBlock &block, const MemberQuery &query,
                   float *out) {
    constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();
    estimate_block(table, block.codes(), block.constants(), block.slopes(), query.distance,
                   query.weight, out);
    const float *slopes = block.slopes(), *errors = block.errors();
    for (uint32_t i = 0; i < kBlock; i++) {
        float bound =
            out[i] - (errors[i] * query.error_factor + std::fabs(slopes[i]) * query.slope_factor);
        out[i] = bound == bound ? bound : -std::numeric_limits<float>::infinity();
    }
    if (block.live() == 0xFFFFFFFF)
        return;
    for (uint32_t i = 0; i < kBlock; i++)
        if ((block.live() >> i & 1) == 0)
            out[i] = kNothing;
}

} // namespace ann
