// Casts: sparsevec(n), and between sparsevec and the dense types or arrays of numbers.
#include "extension/types/number_array.h"
#include "extension/types/sparsevec.h"
#include "extension/types/vector.h"

namespace vec {
namespace {

// sparsevec -> sparsevec(n): only checks.
SQL_FUNCTION(sparsevec) {
    Datum datum = PG_GETARG_DATUM(0);
    SparseDatum v = datum_view_sparse(datum);
    check_expected_dim(PG_GETARG_INT32(1), v.dim);
    v.release();
    return datum;
}

// The sparse vector of the elements that are not 0; `element` gives one of `dim`.
template <typename Element> SparseVector *from_elements(int dim, Element element) {
    int count = 0;
    for (int i = 0; i < dim; i++)
        count += element(i) != 0 ? 1 : 0;
    if (static_cast<uint32>(count) > ann::kMaxNonzeros)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("sparsevec cannot have more than %u non-zero elements",
                               ann::kMaxNonzeros)));
    SparseVector *result = make_sparse(dim, count);
    for (int i = 0, place = 0; i < dim; i++) {
        if (element(i) == 0)
            continue;
        result->indices[place] = i;
        result->values()[place++] = element(i);
    }
    return result;
}

template <typename T> Datum from_dense(FunctionCallInfo fcinfo) {
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(0));
    check_expected_dim(PG_GETARG_INT32(1), v.dim);
    SparseVector *result = from_elements(v.dim, [&](int i) { return v[i]; });
    v.release();
    PG_RETURN_POINTER(result);
}
DENSE_FUNCTIONS(from_dense, vector_to_sparsevec, halfvec_to_sparsevec)

template <typename T> Datum to_dense(FunctionCallInfo fcinfo) {
    SparseDatum v = datum_view_sparse(PG_GETARG_DATUM(0));
    check_expected_dim(PG_GETARG_INT32(1), v.dim);
    check_dim(v.dim, kTypeName<T>);
    Dense<T> *result = make_dense<T>(v.dim);
    for (uint32 i = 0; i < v.count; i++) {
        int32 index = v.index(i);
        if (unlikely(index < 0 || index >= v.dim))
            ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                            errmsg("sparsevec value has an invalid index %d", index)));
        result->x[index] = checked_narrow<T>(v.value(i));
    }
    v.release();
    PG_RETURN_POINTER(result);
}
DENSE_FUNCTIONS(to_dense, sparsevec_to_vector, sparsevec_to_halfvec)

SQL_FUNCTION(array_to_sparsevec) {
    NumberArray numbers =
        get_numbers(PG_GETARG_DATUM(0), kSparse, kMaxSparseDim, PG_GETARG_INT32(1));
    for (int i = 0; i < numbers.dim; i++)
        check_element(numbers.x[i], kSparse);
    SparseVector *result = from_elements(numbers.dim, [&](int i) { return numbers.x[i]; });
    pfree(numbers.x);
    PG_RETURN_POINTER(result);
}

} // namespace
} // namespace vec
