// Codes of the members of an inverted list about the list's centre, and a bound of the distances
// that they estimate. extension/ivfflat/README.md, "Codes of members", has the formulas.
#pragma once

#include "extension/core/list_layout.h"
#include "extension/core/rabitq.h"

namespace ann {

struct MemberFactors {
    float constant;
    float slope;
    float error; // standard error of the estimate for a query of length 1 about the centre
};

// Encodes member `v` of a list with centre `u`, both rotated, `padded` dimensions, of which the
// first `coded` are in the code. code: code_bytes(coded, bits). Metric: L2 or inner product.
MemberFactors encode_member(Metric metric, const float *u, const float *v, uint32_t padded,
                            uint32_t coded, uint32_t bits, uint8_t *code);

// Writes a member's code and factors to its place in a block.
void put_member(const ListBlock &block, uint32_t place, const MemberFactors &factors,
                const uint8_t *code);

// A query as a list's members' estimates need it.
struct MemberQuery {
    float distance;     // from the centre, exact
    float weight;       // edge_weight()
    float error_factor; // of the members' errors: confidence x the query's length about the centre
    float slope_factor; // of the slopes: confidence x the table's rounding error

    // squared_norm: of the centre; query_norm: squared, of the query. Both for inner products only.
    MemberQuery(Metric metric, const QueryTable &table, float distance, float squared_norm,
                float query_norm);
};

// For each member of a block a distance that it most likely exceeds, by kConfidence standard
// errors; NaN where there is no member. out: kBlock floats.
void member_bounds(const QueryTable &table, const ListBlock &block, const MemberQuery &query,
                   float *out);

} // namespace ann
