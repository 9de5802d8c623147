// The elements of a vector in binary form, as they come over the wire: big-endian. What is in front
// of them (dimensions, count) is the caller's to check.
#pragma once

#include <cstddef>
#include <cstdint>

#include "extension/core/half.h"

namespace ann {

enum class WireError { kNone, kNan, kInfinite, kZero, kIndex, kOrder, kDuplicate };

// Reads `dim` elements of T, float or Half, without alignment.
template <typename T> WireError read_wire(const char *bytes, size_t dim, T *out);

// Reads `count` indices, which must ascend from 0 on below `dim`, and as many values other than 0.
WireError read_sparse_wire(const char *bytes, size_t count, int32_t dim, int32_t *indices,
                           float *values);

} // namespace ann
