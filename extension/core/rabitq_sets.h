// The sets of code kernels there are; rabitq.cpp chooses among them by kernels().level.
#pragma once

#include <cstdint>

namespace ann {

// What an encoding finds out about the edge r = v - u and its code x.
struct EdgeSums {
    float code_edge;  // <x, r>
    float code_start; // <x, u>
    float edge_start; // <r, u>
    float edge_edge;  // <r, r>
};

struct TableSums {
    float minima; // of the table's groups
    float total;  // of q
};

struct CodeKernels {
    void (*rotate)(uint64_t seed, const float *x, uint32_t dim, float *out);
    EdgeSums (*encode)(const float *u, const float *v, uint32_t padded, uint32_t bits,
                       uint8_t *code);
    // The greatest sum |q| of four dimensions; then the table of q * inverse_step.
    float (*table_range)(const float *query, uint32_t padded);
    TableSums (*fill_table)(const float *query, uint32_t padded, float inverse_step, uint8_t *sums);
    // Adds up a plane's 32 codes: groups = padded / 4, even.
    void (*scan)(const uint8_t *codes, const uint8_t *table, uint32_t groups, uint32_t *sums);
};

void scan_avx512(const uint8_t *codes, const uint8_t *table, uint32_t groups, uint32_t *sums);

extern const CodeKernels kPortableCodes;
extern const CodeKernels kAvx2Codes;
extern const CodeKernels kAvx512Codes;

} // namespace ann
