// The dense types: `vector` with finite float32 elements and `halfvec` with finite float16 ones,
// dimensions 1 to 16000. Same bytes on disk and on the wire as pgvector 0.8.
#pragma once

#include "extension/core/half.h"
#include "extension/core/vector_wire.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "utils/array.h"
}

namespace vec {

inline constexpr int kMaxVectorDim = 16000;

using ann::Half;

// T is float for `vector`, Half for `halfvec`.
template <typename T> inline constexpr const char *kTypeName = "vector";
template <> inline constexpr const char *kTypeName<Half> = "halfvec";

// The varlena as it lies in memory with a four-byte header: what detoasting gives.
template <typename T> struct Dense {
    int32 vl_len_; // set and read by SET_VARSIZE/VARSIZE only
    int16 dim;
    int16 unused; // 0
    T x[FLEXIBLE_ARRAY_MEMBER];
};
using Vector = Dense<float>;
using HalfVector = Dense<Half>;
static_assert(offsetof(Vector, x) == 8 && offsetof(HalfVector, x) == 8);

template <typename T> constexpr Size dense_size(int dim) {
    return offsetof(Dense<T>, x) + sizeof(T) * static_cast<Size>(dim);
}

// An element as a float, and a float as an element: rounded, infinite where it is out of range.
inline float widen(float value) {
    return value;
}
inline float widen(Half value) {
    return ann::to_float(value);
}
template <typename T> T narrow(float value) {
    if constexpr (std::is_same_v<T, Half>)
        return ann::to_half(value);
    else
        return value;
}

// A vector in CurrentMemoryContext, its elements zero. Raises as check_dim() does.
template <typename T> Dense<T> *make_dense(int dim);

// The vector of a datum, detoasted (a copy only when the datum is toasted or has a short header).
// Its dimension is known to agree with its size: a damaged value raises XX001.
template <typename T> Dense<T> *datum_get_dense(Datum datum);

// Read access without a copy for a short header, too: `x` has no alignment, so only the kernels
// of extension/core/distance.h, memcpy and operator[] may touch it. `copy` is what was detoasted.
template <typename T> struct DenseView {
    int dim;
    const T *x;
    void *copy;

    float operator[](int i) const {
        T value;
        memcpy(&value, x + i, sizeof(value));
        return widen(value);
    }
    // Gives the detoasted copy back: for callers that run many times in one memory context
    // (comparisons in a sort, support functions of an index).
    void release() const {
        if (copy != nullptr)
            pfree(copy);
    }
};
template <typename T> DenseView<T> datum_view_dense(Datum datum);

using VectorView = DenseView<float>;
inline VectorView datum_view_vector(Datum datum) {
    return datum_view_dense<float>(datum);
}

// Each raises the error that pgvector has for it; `type` is the SQL type's name.
void check_dim(int dim, const char *type = "vector", int max_dim = kMaxVectorDim); // 22000, 54000
void check_expected_dim(int32 typmod, int dim);                  // 22000; typmod -1: any
void check_same_dims(int a, int b, const char *type = "vector"); // 22000
void check_element(float value, const char *type = "vector");    // NaN, infinity: 22000

void raise_wire_error(ann::WireError error, const char *type); // 22000 unless it is none
void check_unused(int32 unused); // the reserved field on the wire: 22000 unless it is 0

// The dimensions of a type modifier; 22023.
int32 get_typmod(ArrayType *modifiers, const char *type, int max_dim);

// The float as an element of T, rounded; 22003 where it is finite and too large for T.
template <typename T> T checked_narrow(float value);

// Settings of the types (vector.simd). Called by _PG_init.
void init_types();

} // namespace vec

// Defines one SQL function for `vector` and one for `halfvec` by a template on the element's type.
#define DENSE_FUNCTIONS(body, vector_name, halfvec_name)                                           \
    SQL_FUNCTION(vector_name) {                                                                    \
        return body<float>(fcinfo);                                                                \
    }                                                                                              \
    SQL_FUNCTION(halfvec_name) {                                                                   \
        return body<Half>(fcinfo);                                                                 \
    }
