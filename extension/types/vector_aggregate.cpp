// avg(vector) and avg(halfvec): the state is double precision[] {count, sum of x[1], ..., sum of
// x[dim]}, or {0} before the first row, as in pgvector. sum() is vector_add or halfvec_add.
#include "extension/pg/boundary.h"
#include "extension/types/vector.h"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/float.h"
}

namespace vec {
namespace {

struct State {
    ArrayType *array;
    double *values; // values[0] is the count
    int dim;
};

// The state in argument `n` of `function`, checked: anybody may call these functions.
State get_state(FunctionCallInfo fcinfo, int n, const char *function) {
    State state;
    state.array = PG_GETARG_ARRAYTYPE_P(n);
    if (ARR_NDIM(state.array) != 1 || ARR_DIMS(state.array)[0] < 1 || ARR_HASNULL(state.array) ||
        ARR_ELEMTYPE(state.array) != FLOAT8OID)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s: expected state array", function)));
    state.values = reinterpret_cast<double *>(ARR_DATA_PTR(state.array));
    state.dim = ARR_DIMS(state.array)[0] - 1;
    if (state.dim > kMaxVectorDim)
        check_dim(state.dim);
    return state;
}

State make_state(int dim) {
    check_dim(dim);
    Size size = ARR_OVERHEAD_NONULLS(1) + sizeof(double) * (static_cast<Size>(dim) + 1);
    State state;
    state.array = static_cast<ArrayType *>(palloc0(size));
    SET_VARSIZE(state.array, size);
    state.array->ndim = 1;
    state.array->elemtype = FLOAT8OID;
    ARR_DIMS(state.array)[0] = dim + 1;
    ARR_LBOUND(state.array)[0] = 1;
    state.values = reinterpret_cast<double *>(ARR_DATA_PTR(state.array));
    state.dim = dim;
    return state;
}

// Within an aggregate the state is ours to overwrite.
State result_state(FunctionCallInfo fcinfo, const State &state, int dim) {
    return state.dim == dim && AggCheckCallContext(fcinfo, nullptr) != 0 ? state : make_state(dim);
}

void check_sums(const State &state) {
    for (int i = 0; i <= state.dim; i++) {
        if (unlikely(std::isinf(state.values[i])))
            float_overflow_error();
    }
}

template <typename T> Datum accumulate(FunctionCallInfo fcinfo) {
    State state = get_state(fcinfo, 0, std::is_same_v<T, Half> ? "halfvec_accum" : "vector_accum");
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(1));
    bool first = state.dim == 0;
    if (!first)
        check_expected_dim(state.dim, v.dim);
    State result = result_state(fcinfo, state, v.dim);
    result.values[0] = state.values[0] + 1;
    for (int i = 0; i < v.dim; i++)
        result.values[i + 1] = (first ? 0 : state.values[i + 1]) + v[i];
    check_sums(result);
    v.release();
    PG_RETURN_ARRAYTYPE_P(result.array);
}
DENSE_FUNCTIONS(accumulate, vector_accum, halfvec_accum)

// Of both types.
SQL_FUNCTION(vector_combine) {
    State a = get_state(fcinfo, 0, "vector_combine");
    State b = get_state(fcinfo, 1, "vector_combine");
    // A worker that saw no row hands in {0}.
    if (b.dim == 0)
        PG_RETURN_ARRAYTYPE_P(a.array);
    if (a.dim == 0)
        PG_RETURN_ARRAYTYPE_P(b.array);
    check_expected_dim(a.dim, b.dim);
    State result = result_state(fcinfo, a, a.dim);
    for (int i = 0; i <= a.dim; i++)
        result.values[i] = a.values[i] + b.values[i];
    check_sums(result);
    PG_RETURN_ARRAYTYPE_P(result.array);
}

template <typename T> Datum average(FunctionCallInfo fcinfo) {
    State state = get_state(fcinfo, 0, std::is_same_v<T, Half> ? "halfvec_avg" : "vector_avg");
    double count = state.values[0];
    if (count == 0)
        PG_RETURN_NULL();
    Dense<T> *result = make_dense<T>(state.dim);
    for (int i = 0; i < state.dim; i++) {
        result->x[i] = checked_narrow<T>(static_cast<float>(state.values[i + 1] / count));
        check_element(widen(result->x[i]), kTypeName<T>);
    }
    PG_RETURN_POINTER(result);
}
DENSE_FUNCTIONS(average, vector_avg, halfvec_avg)

} // namespace
} // namespace vec
