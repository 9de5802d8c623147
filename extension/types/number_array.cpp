#include "extension/types/number_array.h"

#include "extension/types/vector.h"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
}

namespace vec {
namespace {

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

} // namespace

NumberArray get_numbers(Datum datum, const char *type, int max_dim, int32 typmod) {
    ArrayType *array = DatumGetArrayTypeP(datum);
    if (ARR_NDIM(array) > 1)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("array must be 1-D")));
    if (ARR_HASNULL(array) && array_contains_nulls(array))
        ereport(ERROR,
                (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("array must not contain nulls")));
    NumberArray numbers;
    numbers.dim = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
    check_dim(numbers.dim, type, max_dim);
    check_expected_dim(typmod, numbers.dim);
    numbers.x = static_cast<float *>(MemoryContextAllocHuge(
        CurrentMemoryContext, sizeof(float) * static_cast<Size>(numbers.dim)));
    switch (ARR_ELEMTYPE(array)) {
    case INT4OID:
        for (int i = 0; i < numbers.dim; i++)
            numbers.x[i] = static_cast<float>(element_at<int32>(array, i));
        break;
    case FLOAT4OID:
        memcpy(numbers.x, ARR_DATA_PTR(array), sizeof(float) * static_cast<Size>(numbers.dim));
        break;
    case FLOAT8OID:
        for (int i = 0; i < numbers.dim; i++)
            numbers.x[i] = static_cast<float>(element_at<double>(array, i));
        break;
    case NUMERICOID:
        numeric_elements(array, numbers.x, numbers.dim);
        break;
    default:
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("unsupported array type")));
    }
    return numbers;
}

} // namespace vec
