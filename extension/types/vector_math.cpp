// Arithmetic on vectors and halfvecs: element by element, concatenation, norms, parts.
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
template <typename T, typename Element>
Datum add_elements(FunctionCallInfo fcinfo, Element element) {
    Dense<T> *a = datum_get_dense<T>(PG_GETARG_DATUM(0));
    DenseView<T> b = datum_view_dense<T>(PG_GETARG_DATUM(1));
    check_same_dims(a->dim, b.dim, kTypeName<T>);
    Dense<T> *result = AggCheckCallContext(fcinfo, nullptr) != 0 ? a : make_dense<T>(a->dim);
    for (int i = 0; i < b.dim; i++)
        result->x[i] = narrow<T>(element(widen(a->x[i]), b[i]));
    for (int i = 0; i < b.dim; i++) {
        if (unlikely(std::isinf(widen(result->x[i]))))
            float_overflow_error();
    }
    b.release();
    PG_RETURN_POINTER(result);
}

template <typename T> Datum add(FunctionCallInfo fcinfo) {
    return add_elements<T>(fcinfo, [](float a, float b) { return a + b; });
}
DENSE_FUNCTIONS(add, vector_add, halfvec_add)

template <typename T> Datum subtract(FunctionCallInfo fcinfo) {
    return add_elements<T>(fcinfo, [](float a, float b) { return a - b; });
}
DENSE_FUNCTIONS(subtract, vector_sub, halfvec_sub)

template <typename T> Datum multiply(FunctionCallInfo fcinfo) {
    DenseView<T> a = datum_view_dense<T>(PG_GETARG_DATUM(0));
    DenseView<T> b = datum_view_dense<T>(PG_GETARG_DATUM(1));
    check_same_dims(a.dim, b.dim, kTypeName<T>);
    Dense<T> *result = make_dense<T>(a.dim);
    for (int i = 0; i < a.dim; i++) {
        result->x[i] = narrow<T>(a[i] * b[i]);
        float product = widen(result->x[i]);
        if (unlikely(std::isinf(product)))
            float_overflow_error();
        if (unlikely(product == 0 && a[i] != 0 && b[i] != 0))
            float_underflow_error();
    }
    PG_RETURN_POINTER(result);
}
DENSE_FUNCTIONS(multiply, vector_mul, halfvec_mul)

template <typename T> Datum concatenate(FunctionCallInfo fcinfo) {
    DenseView<T> a = datum_view_dense<T>(PG_GETARG_DATUM(0));
    DenseView<T> b = datum_view_dense<T>(PG_GETARG_DATUM(1));
    Dense<T> *result = make_dense<T>(a.dim + b.dim);
    memcpy(result->x, a.x, sizeof(T) * static_cast<Size>(a.dim));
    memcpy(result->x + a.dim, b.x, sizeof(T) * static_cast<Size>(b.dim));
    PG_RETURN_POINTER(result);
}
DENSE_FUNCTIONS(concatenate, vector_concat, halfvec_concat)

template <typename T> Datum dimensions(FunctionCallInfo fcinfo) {
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(0));
    v.release();
    PG_RETURN_INT32(v.dim);
}
DENSE_FUNCTIONS(dimensions, vector_dims, halfvec_vector_dims)

// In double, so that nothing overflows.
template <typename T> double norm_of(const DenseView<T> &v) {
    return std::sqrt(ann::squared_norm(v.x, static_cast<size_t>(v.dim)));
}

template <typename T> Datum norm(FunctionCallInfo fcinfo) {
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(0));
    double result = norm_of(v);
    v.release();
    PG_RETURN_FLOAT8(result);
}
DENSE_FUNCTIONS(norm, vector_norm, halfvec_l2_norm)

// A zero vector stays as it is.
template <typename T> Datum normalize(FunctionCallInfo fcinfo) {
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(0));
    double length = norm_of(v);
    Dense<T> *result = make_dense<T>(v.dim);
    if (length > 0) {
        for (int i = 0; i < v.dim; i++) {
            result->x[i] = narrow<T>(static_cast<float>(v[i] / length));
            if (unlikely(std::isinf(widen(result->x[i]))))
                float_overflow_error();
        }
    }
    v.release();
    PG_RETURN_POINTER(result);
}
DENSE_FUNCTIONS(normalize, l2_normalize, halfvec_l2_normalize)

// One bit per element, the first one leftmost: 1 where the element is positive.
template <typename T> Datum quantize(FunctionCallInfo fcinfo) {
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(0));
    VarBit *result = static_cast<VarBit *>(palloc0(VARBITTOTALLEN(v.dim)));
    SET_VARSIZE(result, VARBITTOTALLEN(v.dim));
    VARBITLEN(result) = v.dim;
    bits8 *bits = VARBITS(result);
    for (int i = 0; i < v.dim; i++)
        bits[i / 8] |= static_cast<bits8>((v[i] > 0 ? 1 : 0) << (7 - i % 8));
    v.release();
    PG_RETURN_VARBIT_P(result);
}
DENSE_FUNCTIONS(quantize, binary_quantize, halfvec_binary_quantize)

// The elements from `start` (1-based) on, at most `count`; what lies outside is left out, as in
// substring().
template <typename T> Datum part(FunctionCallInfo fcinfo) {
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(0));
    int64 first = PG_GETARG_INT32(1);
    int64 count = PG_GETARG_INT32(2);
    int64 end = std::min<int64>(first + count, int64{v.dim} + 1);
    first = std::max<int64>(first, 1);
    Dense<T> *result = make_dense<T>(static_cast<int>(std::max<int64>(end - first, 0)));
    memcpy(result->x, v.x + (first - 1), sizeof(T) * static_cast<Size>(result->dim));
    v.release();
    PG_RETURN_POINTER(result);
}
DENSE_FUNCTIONS(part, subvector, halfvec_subvector)

} // namespace
} // namespace vec
