// Codes: the choice of kernels, factors, layout, estimates; the portable kernels.
#include "extension/core/rabitq.h"

#include <cmath>
#include <cstring>

#define CODE_TARGET
#include "extension/core/rabitq_body.h"

namespace ann {
namespace {

void scan_portable(const uint8_t *codes, const uint8_t *table, uint32_t groups, uint32_t *sums) {
    uint32_t local[kBlock] = {};
    for (uint32_t group = 0; group < groups; group++, codes += 16, table += 16) {
        for (uint32_t i = 0; i < 16; i++) {
            local[i] += table[codes[i] & 15];
            local[i + 16] += table[codes[i] >> 4];
        }
    }
    std::memcpy(sums, local, sizeof(local));
}

const CodeKernels &code_kernels() {
#if defined(__x86_64__)
    switch (kernels().level) {
    case SimdLevel::kAvx512:
        return kAvx512Codes;
    case SimdLevel::kAvx2:
        return kAvx2Codes;
    case SimdLevel::kPortable:
        break;
    }
#endif
    return kPortableCodes;
}

} // namespace

const CodeKernels kPortableCodes = {
    rotate_body, encode_body, table_range_body, fill_table_body, scan_portable,
};

void rotate(uint64_t seed, const float *x, uint32_t dim, float *out) {
    code_kernels().rotate(seed, x, dim, out);
}

EdgeFactors encode_edge(Metric metric, const float *u, const float *v, uint32_t padded,
                        uint32_t bits, uint8_t *code) {
    EdgeSums sums = code_kernels().encode(u, v, padded, bits, code);
    if (!(sums.code_edge > 0))
        return {0, 0};
    double ratio = static_cast<double>(sums.edge_edge) / sums.code_edge;
    double constant = ratio * sums.code_start;
    EdgeFactors factors;
    if (metric == Metric::kL2)
        factors = {static_cast<float>(sums.edge_edge + 2 * constant),
                   static_cast<float>(-2 * ratio)};
    else
        factors = {static_cast<float>(constant - sums.edge_start), static_cast<float>(-ratio)};
    if (!std::isfinite(factors.constant) || !std::isfinite(factors.slope))
        return {0, 0};
    return factors;
}

CodeProducts encode_products(const float *u, const float *v, uint32_t padded, uint32_t bits,
                             uint8_t *code) {
    EdgeSums sums = code_kernels().encode(u, v, padded, bits, code);
    return {sums.code_edge, sums.code_start};
}

void put_code(uint8_t *block, uint32_t slot, const uint8_t *code, uint32_t padded, uint32_t bits) {
    for_code_bytes(block, slot, code, padded, bits,
                   [block](const uint8_t *place, uint8_t value) { block[place - block] = value; });
}

void get_code(const uint8_t *block, uint32_t slot, uint32_t padded, uint32_t bits, uint8_t *code) {
    uint32_t shift = slot < 16 ? 0 : 4;
    const uint8_t *at = block + slot % 16;
    for (uint32_t i = 0; i < code_bytes(padded, bits); i++, at += 32)
        code[i] = static_cast<uint8_t>((at[0] >> shift & 15) | (at[16] >> shift & 15) << 4);
}

QueryTable make_table(const float *query, uint32_t padded, uint32_t bits, uint8_t *sums) {
    const CodeKernels &set = code_kernels();
    QueryTable table = {sums, padded, bits, 0, 0};
    float step = set.table_range(query, padded) / 255;
    float inverse_step = 1 / step;
    if (!(step > 0) || !std::isfinite(step) || !std::isfinite(inverse_step)) {
        std::memset(sums, 0, table_bytes(padded)); // all estimates: the constants alone
        return table;
    }
    TableSums table_sums = set.fill_table(query, padded, inverse_step, sums);
    // A plane's signed sum is twice that of the dimensions whose bit is set, less that of all.
    float planes = bits == 2 ? 3 : 1;
    table.scale = 2 * step;
    table.offset = planes * (2 * step * table_sums.minima - table_sums.total);
    return table;
}

void estimate_block(const QueryTable &table, const uint8_t *block, const float *constants,
                    const float *slopes, float distance, float weight, float *out) {
    typedef float Float4 __attribute__((vector_size(16)));
    typedef int32_t Int4 __attribute__((vector_size(16)));
    alignas(64) uint32_t sums[kBlock];
    const CodeKernels &set = code_kernels();
    set.scan(block, table.sums, table.padded / 4, sums);
    if (table.bits == 2) {
        alignas(64) uint32_t fine[kBlock];
        set.scan(block + block_bytes(table.padded, 1), table.sums, table.padded / 4, fine);
        for (uint32_t i = 0; i < kBlock; i++)
            sums[i] = sums[i] * 2 + fine[i];
    }
    for (uint32_t i = 0; i < kBlock; i += 4) {
        Int4 integers;
        Float4 constant, slope;
        std::memcpy(&integers, sums + i, sizeof(integers));
        std::memcpy(&constant, constants + i, sizeof(constant));
        std::memcpy(&slope, slopes + i, sizeof(slope));
        Float4 dot = __builtin_convertvector(integers, Float4) * table.scale + table.offset;
        Float4 estimate = (constant * weight + slope * dot) + distance;
        std::memcpy(out + i, &estimate, sizeof(estimate));
    }
}

} // namespace ann
