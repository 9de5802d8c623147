// Codes of a graph's edges: one or two bits per dimension that estimate the distance of a
// neighbour from that of the element expanded (RaBitQ, arXiv 2405.12497 and 2409.09913, as used
// in SymphonyQG, arXiv 2411.12229). README.md derives the formulas and the error.
//
// Everything here works on rotated vectors (rotation.h) of padded_dim() dimensions. Results are
// the same bits whatever kernels() are in use. Nothing allocates, nothing has a destructor.
#pragma once

#include <cstdint>

#include "extension/core/distance.h"
#include "extension/core/rotation.h"

namespace ann {

inline constexpr uint32_t kBlock = 32; // codes of one block
inline constexpr uint32_t kMaxCodeBits = 2;

// Bytes of a code on its own: `bits` planes of one bit per dimension, dimension i at bit i % 8 of
// byte i / 8.
constexpr uint32_t code_bytes(uint32_t padded, uint32_t bits) {
    return padded / 8 * bits;
}

// Bytes of a block of 32 codes: per plane and per four dimensions 16 bytes, byte j with code j's
// bits in its low half and code j + 16's in its high half.
constexpr uint32_t block_bytes(uint32_t padded, uint32_t bits) {
    return code_bytes(padded, bits) * kBlock;
}

// What turns a scan's sum into a distance; README.md has the meaning.
struct EdgeFactors {
    float constant;
    float slope;
};

// Encodes the edge from `u` to `v`, both rotated. code: code_bytes(padded, bits) bytes. An edge
// of length zero, or one that overflows, gets factors that make its estimate u's own distance.
// L1 has no codes.
EdgeFactors encode_edge(Metric metric, const float *u, const float *v, uint32_t padded,
                        uint32_t bits, uint8_t *code);

// What each byte of a block is when a code is its number `slot` < 32 and the others stay: calls
// `set` with a byte's place and its new value.
template <typename Set>
void for_code_bytes(const uint8_t *block, uint32_t slot, const uint8_t *code, uint32_t padded,
                    uint32_t bits, Set set) {
    uint32_t shift = slot < 16 ? 0 : 4;
    auto keep = static_cast<uint8_t>(slot < 16 ? 0xF0 : 0x0F);
    const uint8_t *at = block + slot % 16;
    for (uint32_t i = 0; i < code_bytes(padded, bits); i++, at += 32) {
        set(at, static_cast<uint8_t>((at[0] & keep) | (code[i] & 15) << shift));
        set(at + 16, static_cast<uint8_t>((at[16] & keep) | (code[i] >> 4) << shift));
    }
}

// The code alone, and its inner products with the edge and with `u`.
struct CodeProducts {
    float code_edge;
    float code_start;
};
CodeProducts encode_products(const float *u, const float *v, uint32_t padded, uint32_t bits,
                             uint8_t *code);

// Writes a code as number `slot` < 32 of a block, in place; the others stay. A block starts as
// zeroes.
void put_code(uint8_t *block, uint32_t slot, const uint8_t *code, uint32_t padded, uint32_t bits);
void get_code(const uint8_t *block, uint32_t slot, uint32_t padded, uint32_t bits, uint8_t *code);

// A query ready to be compared with codes: for every four dimensions 16 sums of a byte each.
struct QueryTable {
    uint8_t *sums; // the caller's memory: table_bytes()
    uint32_t padded;
    uint32_t bits;
    float scale;
    float offset;
};
constexpr uint32_t table_bytes(uint32_t padded) {
    return padded * 4;
}

// Makes the table of a rotated query.
QueryTable make_table(const float *query, uint32_t padded, uint32_t bits, uint8_t *sums);

// Estimates the distances of the 32 neighbours of a block, in the index's sense (L2 squared, minus
// the inner product, 1 - cosine). constants, slopes, out: 32 floats. `distance`: the query's exact
// distance from the element; `weight`: edge_weight().
void estimate_block(const QueryTable &table, const uint8_t *block, const float *constants,
                    const float *slopes, float distance, float weight, float *out);

// The share of an edge's constant in the estimate. squared_norm: of the element, for the inner
// product only (needs_norm()).
constexpr bool needs_norm(Metric metric) {
    return metric == Metric::kInnerProduct;
}
inline float edge_weight(Metric metric, float distance, float squared_norm) {
    if (metric == Metric::kCosine)
        return 1 - distance;
    if (metric == Metric::kInnerProduct)
        return squared_norm > 0 ? -distance / squared_norm : 0;
    return 1;
}

} // namespace ann
