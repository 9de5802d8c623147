// The `vector` type: dimensions 1 to 16000, finite float32 elements. Same bytes on disk and on
// the wire as pgvector 0.8.
#pragma once

#include "extension/pg/pg.h"

namespace vec {

inline constexpr int kMaxVectorDim = 16000;

// The varlena as it lies in memory with a four-byte header: what detoasting gives.
struct Vector {
    int32 vl_len_; // set and read by SET_VARSIZE/VARSIZE only
    int16 dim;
    int16 unused; // 0
    float x[FLEXIBLE_ARRAY_MEMBER];
};
static_assert(offsetof(Vector, x) == 8);

constexpr Size vector_size(int dim) {
    return offsetof(Vector, x) + sizeof(float) * static_cast<Size>(dim);
}

// A vector in CurrentMemoryContext, its elements zero. Raises as check_dim() does.
Vector *make_vector(int dim);

// The vector of a datum, detoasted (a copy only when the datum is toasted or has a short header).
// Its dimension is known to agree with its size: a damaged value raises XX001.
Vector *datum_get_vector(Datum datum);

// Read access without a copy for a short header, too: `x` has no alignment, so only the kernels
// of extension/core/distance.h, memcpy and operator[] may touch it. `copy` is what was detoasted.
struct VectorView {
    int dim;
    const float *x;
    void *copy;

    float operator[](int i) const {
        float value;
        memcpy(&value, x + i, sizeof(value));
        return value;
    }
    // Gives the detoasted copy back: for callers that run many times in one memory context
    // (comparisons in a sort, support functions of an index).
    void release() const {
        if (copy != nullptr)
            pfree(copy);
    }
};
VectorView datum_view_vector(Datum datum);

// Each raises the error that pgvector has for it; `type` is the SQL type's name.
void check_dim(int dim, const char *type = "vector", int max_dim = kMaxVectorDim); // 22000, 54000
void check_expected_dim(int32 typmod, int dim);                  // 22000; typmod -1: any
void check_same_dims(int a, int b, const char *type = "vector"); // 22000
void check_element(float value, const char *type = "vector");    // NaN, infinity: 22000

// Settings of the types (vector.simd). Called by _PG_init.
void init_types();

} // namespace vec
