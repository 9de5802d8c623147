// Casts: vector(n), and between vectors and arrays of numbers.
#include "extension/pg/boundary.h"
#include "extension/types/vector.h"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
}

namespace vec {
namespace {

// vector -> vector(n): only checks.
SQL_FUNCTION(vector) {
    Vector *v = datum_get_vector(PG_GETARG_DATUM(0));
    check_expected_dim(PG_GETARG_INT32(1), v->dim);
    PG_RETURN_POINTER(v);
}

// Element `i` of an array without nulls whose elements all have the width of T.
template <typename T> T element_at(const ArrayType *array, int i) {
    T value;
    memcpy(&value, ARR_DATA_PTR(array) + sizeof(T) * static_cast<Size>(i), sizeof(T));
    return value;
}

void numeric_elements(ArrayType *array, float *x, int dim) {
    Datum *elements;
    int count;
    deconstruct_array(array, NUMERICOID, -1, false, TYPALIGN_INT, &elements, nullptr, &count);
    PANVEL_ASSERT(count == dim);
    for (int i = 0; i < dim; i++)
        x[i] = DatumGetFloat4(DirectFunctionCall1(numeric_float4, elements[i]));
    pfree(elements);
}

SQL_FUNCTION(array_to_vector) {
    ArrayType *array = PG_GETARG_ARRAYTYPE_P(0);
    int32 typmod = PG_GETARG_INT32(1);

    if (ARR_NDIM(array) > 1)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("array must be 1-D")));
    if (ARR_HASNULL(array) && array_contains_nulls(array))
        ereport(ERROR,
                (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("array must not contain nulls")));
    int dim = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
    check_dim(dim);
    check_expected_dim(typmod, dim);

    Vector *result = make_vector(dim);
    switch (ARR_ELEMTYPE(array)) {
    case INT4OID:
        for (int i = 0; i < dim; i++)
            result->x[i] = static_cast<float>(element_at<int32>(array, i));
        break;
    case FLOAT4OID:
        memcpy(result->x, ARR_DATA_PTR(array), sizeof(float) * static_cast<Size>(dim));
        break;
    case FLOAT8OID:
        for (int i = 0; i < dim; i++)
            result->x[i] = static_cast<float>(element_at<double>(array, i));
        break;
    case NUMERICOID:
        numeric_elements(array, result->x, dim);
        break;
    default:
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("unsupported array type")));
    }
    for (int i = 0; i < dim; i++)
        check_element(result->x[i]);
    PG_RETURN_POINTER(result);
}

SQL_FUNCTION(vector_to_float4) {
    VectorView v = datum_view_vector(PG_GETARG_DATUM(0));
    Size size = ARR_OVERHEAD_NONULLS(1) + sizeof(float) * static_cast<Size>(v.dim);
    ArrayType *result = static_cast<ArrayType *>(palloc0(size));
    SET_VARSIZE(result, size);
    result->ndim = 1;
    result->elemtype = FLOAT4OID;
    ARR_DIMS(result)[0] = v.dim;
    ARR_LBOUND(result)[0] = 1;
    memcpy(ARR_DATA_PTR(result), v.x, sizeof(float) * static_cast<Size>(v.dim));
    v.release();
    PG_RETURN_ARRAYTYPE_P(result);
}

} // namespace
} // namespace vec
