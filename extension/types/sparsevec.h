// The `sparsevec` type: up to 16,000 finite float32 elements that are not 0, of up to a thousand
// million dimensions. Same bytes on disk and on the wire as pgvector 0.8.
#pragma once

#include "extension/core/sparse_vector.h"
#include "extension/pg/boundary.h"

namespace vec {

inline constexpr const char *kSparse = "sparsevec";
inline constexpr int kMaxSparseDim = 1000000000;

// The varlena as it lies in memory with a four-byte header: what detoasting gives.
struct SparseVector {
    int32 vl_len_; // set and read by SET_VARSIZE/VARSIZE only
    int32 dim;
    int32 count;
    int32 unused;                         // 0
    int32 indices[FLEXIBLE_ARRAY_MEMBER]; // from 0, ascending; then `count` float values

    float *values() { return reinterpret_cast<float *>(indices + count); }
};
static_assert(offsetof(SparseVector, indices) == 16);

constexpr Size sparse_size(int count) {
    return offsetof(SparseVector, indices) +
           (sizeof(int32) + sizeof(float)) * static_cast<Size>(count);
}

// A vector in CurrentMemoryContext, its elements zero, to be filled in.
SparseVector *make_sparse(int dim, int count);

// Takes elements that are 0 out of a vector just made.
SparseVector *drop_zeros(SparseVector *vector);

// Read access without a copy for a short header, too. `copy` is what was detoasted.
struct SparseDatum : ann::SparseView {
    int dim;
    void *copy;

    void release() const {
        if (copy != nullptr)
            pfree(copy);
    }
};

// A damaged value raises XX001.
SparseDatum datum_view_sparse(Datum datum);

} // namespace vec
