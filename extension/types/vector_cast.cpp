// Casts: vector(n), halfvec(n), between the two, and between them and arrays of numbers.
#include "extension/pg/boundary.h"
#include "extension/types/number_array.h"
#include "extension/types/vector.h"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace vec {
namespace {

// vector -> vector(n), halfvec -> halfvec(n): only checks.
template <typename T> Datum with_typmod(FunctionCallInfo fcinfo) {
    Dense<T> *v = datum_get_dense<T>(PG_GETARG_DATUM(0));
    check_expected_dim(PG_GETARG_INT32(1), v->dim);
    PG_RETURN_POINTER(v);
}
DENSE_FUNCTIONS(with_typmod, vector, halfvec)

template <typename T> Datum from_array(FunctionCallInfo fcinfo) {
    NumberArray numbers =
        get_numbers(PG_GETARG_DATUM(0), kTypeName<T>, kMaxVectorDim, PG_GETARG_INT32(1));
    Dense<T> *result = make_dense<T>(numbers.dim);
    for (int i = 0; i < numbers.dim; i++) {
        check_element(numbers.x[i], kTypeName<T>);
        result->x[i] = checked_narrow<T>(numbers.x[i]);
    }
    pfree(numbers.x);
    PG_RETURN_POINTER(result);
}
DENSE_FUNCTIONS(from_array, array_to_vector, array_to_halfvec)

template <typename T> Datum to_float4(FunctionCallInfo fcinfo) {
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(0));
    Size size = ARR_OVERHEAD_NONULLS(1) + sizeof(float) * static_cast<Size>(v.dim);
    ArrayType *result = static_cast<ArrayType *>(palloc0(size));
    SET_VARSIZE(result, size);
    result->ndim = 1;
    result->elemtype = FLOAT4OID;
    ARR_DIMS(result)[0] = v.dim;
    ARR_LBOUND(result)[0] = 1;
    float *x = reinterpret_cast<float *>(ARR_DATA_PTR(result));
    for (int i = 0; i < v.dim; i++)
        x[i] = v[i];
    v.release();
    PG_RETURN_ARRAYTYPE_P(result);
}
DENSE_FUNCTIONS(to_float4, vector_to_float4, halfvec_to_float4)

template <typename From, typename To> Datum convert(FunctionCallInfo fcinfo) {
    DenseView<From> v = datum_view_dense<From>(PG_GETARG_DATUM(0));
    check_expected_dim(PG_GETARG_INT32(1), v.dim);
    Dense<To> *result = make_dense<To>(v.dim);
    for (int i = 0; i < v.dim; i++)
        result->x[i] = checked_narrow<To>(v[i]);
    v.release();
    PG_RETURN_POINTER(result);
}

SQL_FUNCTION(vector_to_halfvec) {
    return convert<float, Half>(fcinfo);
}
SQL_FUNCTION(halfvec_to_vector) {
    return convert<Half, float>(fcinfo);
}

} // namespace
} // namespace vec
