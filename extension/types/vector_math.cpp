// Arithmetic on vectors: element by element, concatenation, norms, parts.
#include "extension/core/distance.h"
#include "extension/pg/boundary.h"
#include "extension/types/vector.h"

extern "C" {
#include "utils/float.h"
#include "utils/varbit.h"
}

namespace vec {
namespace {

// The sum or difference, computed by `element`. Within an aggregate the first argument is its
// running value, which may be overwritten: sum(vector) allocates nothing per row.
template <typename Element> Datum add_elements(FunctionCallInfo fcinfo, Element element) {
    Vector *a = datum_get_vector(PG_GETARG_DATUM(0));
    VectorView b = datum_view_vector(PG_GETARG_DATUM(1));
    check_same_dims(a->dim, b.dim);
    Vector *result = AggCheckCallContext(fcinfo, nullptr) != 0 ? a : make_vector(a->dim);
    for (int i = 0; i < b.dim; i++)
        result->x[i] = element(a->x[i], b[i]);
    for (int i = 0; i < b.dim; i++) {
        if (unlikely(std::isinf(result->x[i])))
            float_overflow_error();
    }
    b.release();
    PG_RETURN_POINTER(result);
}

SQL_FUNCTION(vector_add) {
    return add_elements(fcinfo, [](float a, float b) { return a + b; });
}

SQL_FUNCTION(vector_sub) {
    return add_elements(fcinfo, [](float a, float b) { return a - b; });
}

SQL_FUNCTION(vector_mul) {
    VectorView a = datum_view_vector(PG_GETARG_DATUM(0));
    VectorView b = datum_view_vector(PG_GETARG_DATUM(1));
    check_same_dims(a.dim, b.dim);
    Vector *result = make_vector(a.dim);
    for (int i = 0; i < a.dim; i++) {
        float product = a[i] * b[i];
        if (unlikely(std::isinf(product)))
            float_overflow_error();
        if (unlikely(product == 0 && a[i] != 0 && b[i] != 0))
            float_underflow_error();
        result->x[i] = product;
    }
    PG_RETURN_POINTER(result);
}

SQL_FUNCTION(vector_concat) {
    VectorView a = datum_view_vector(PG_GETARG_DATUM(0));
    VectorView b = datum_view_vector(PG_GETARG_DATUM(1));
    Vector *result = make_vector(a.dim + b.dim);
    memcpy(result->x, a.x, sizeof(float) * static_cast<Size>(a.dim));
    memcpy(result->x + a.dim, b.x, sizeof(float) * static_cast<Size>(b.dim));
    PG_RETURN_POINTER(result);
}

SQL_FUNCTION(vector_dims) {
    VectorView v = datum_view_vector(PG_GETARG_DATUM(0));
    v.release();
    PG_RETURN_INT32(v.dim);
}

SQL_FUNCTION(vector_norm) {
    VectorView v = datum_view_vector(PG_GETARG_DATUM(0));
    double norm = std::sqrt(ann::squared_norm(v.x, static_cast<size_t>(v.dim)));
    v.release();
    PG_RETURN_FLOAT8(norm);
}

// A zero vector stays as it is.
SQL_FUNCTION(l2_normalize) {
    VectorView v = datum_view_vector(PG_GETARG_DATUM(0));
    double norm = std::sqrt(ann::squared_norm(v.x, static_cast<size_t>(v.dim)));
    Vector *result = make_vector(v.dim);
    if (norm > 0) {
        for (int i = 0; i < v.dim; i++) {
            result->x[i] = static_cast<float>(v[i] / norm);
            if (unlikely(std::isinf(result->x[i])))
                float_overflow_error();
        }
    }
    v.release();
    PG_RETURN_POINTER(result);
}

// One bit per element, the first one leftmost: 1 where the element is positive.
SQL_FUNCTION(binary_quantize) {
    VectorView v = datum_view_vector(PG_GETARG_DATUM(0));
    VarBit *result = static_cast<VarBit *>(palloc0(VARBITTOTALLEN(v.dim)));
    SET_VARSIZE(result, VARBITTOTALLEN(v.dim));
    VARBITLEN(result) = v.dim;
    bits8 *bits = VARBITS(result);
    for (int i = 0; i < v.dim; i++)
        bits[i / 8] |= static_cast<bits8>((v[i] > 0 ? 1 : 0) << (7 - i % 8));
    v.release();
    PG_RETURN_VARBIT_P(result);
}

// The elements from `start` (1-based) on, at most `count`; what lies outside is left out, as in
// substring().
SQL_FUNCTION(subvector) {
    VectorView v = datum_view_vector(PG_GETARG_DATUM(0));
    int64 first = PG_GETARG_INT32(1);
    int64 count = PG_GETARG_INT32(2);
    int64 end = std::min<int64>(first + count, int64{v.dim} + 1);
    first = std::max<int64>(first, 1);
    Vector *result = make_vector(static_cast<int>(std::max<int64>(end - first, 0)));
    memcpy(result->x, v.x + (first - 1), sizeof(float) * static_cast<Size>(result->dim));
    v.release();
    PG_RETURN_POINTER(result);
}

} // namespace
} // namespace vec
