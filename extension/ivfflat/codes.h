// Codes of rows about their list's centre: scale x centroid, rotated.
#pragma once

#include "extension/core/member_code.h"
#include "extension/ivfflat/page.h"

namespace ivf {

struct MemberCode {
    ann::MemberFactors factors;
    uint8 *code; // NULL in an index without codes
};

// The code of a row in the list of that centroid; `floats` as in IndexedValue. Palloc'd.
MemberCode encode_row(const IvfIndex *index, const float *floats, const float *centroid,
                      float scale);

// scale x centroid, rotated; out: padded floats.
void rotate_center(const IvfIndex *index, const float *centroid, float scale, float *out);

// The squared length of scale x centroid.
float center_norm(const IvfIndex *index, const float *centroid, float scale);

} // namespace ivf
