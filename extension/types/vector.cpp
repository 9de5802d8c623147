// The representation of `vector` and the checks that all of its functions share.
#include "extension/types/vector.h"

namespace vec {

void check_dim(int dim, const char *type, int max_dim) {
    if (unlikely(dim < 1))
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("%s must have at least 1 dimension", type)));
    if (unlikely(dim > max_dim))
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("%s cannot have more than %d dimensions", type, max_dim)));
}

void check_expected_dim(int32 typmod, int dim) {
    if (unlikely(typmod != -1 && typmod != dim))
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("expected %d dimensions, not %d", typmod, dim)));
}

void check_same_dims(int a, int b, const char *type) {
    if (unlikely(a != b))
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("different %s dimensions %d and %d", type, a, b)));
}

void check_element(float value, const char *type) {
    if (unlikely(std::isnan(value)))
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("NaN not allowed in %s", type)));
    if (unlikely(std::isinf(value)))
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("infinite value not allowed in %s", type)));
}

static void raise_damaged(Size size, int dim) {
    ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                    errmsg("vector value of %zu bytes has invalid dimension %d", size, dim)));
}

Vector *make_vector(int dim) {
    check_dim(dim);
    Vector *result = static_cast<Vector *>(palloc0(vector_size(dim)));
    SET_VARSIZE(result, vector_size(dim));
    result->dim = static_cast<int16>(dim);
    return result;
}

Vector *datum_get_vector(Datum datum) {
    Vector *result = reinterpret_cast<Vector *>(PG_DETOAST_DATUM(datum));
    Size size = VARSIZE(result);
    if (unlikely(size < vector_size(1) || result->dim < 1 || size != vector_size(result->dim)))
        raise_damaged(size, size < vector_size(0) ? 0 : result->dim);
    return result;
}

VectorView datum_view_vector(Datum datum) {
    varlena *value = PG_DETOAST_DATUM_PACKED(datum);
    constexpr Size kHeader = offsetof(Vector, x) - VARHDRSZ;
    Size size = VARSIZE_ANY_EXHDR(value);
    int16 dim = 0;
    if (likely(size >= kHeader))
        memcpy(&dim, VARDATA_ANY(value), sizeof(dim));
    if (unlikely(dim < 1 || size != kHeader + sizeof(float) * static_cast<Size>(dim)))
        raise_damaged(size + VARHDRSZ, dim);
    VectorView view;
    view.dim = dim;
    view.x = reinterpret_cast<const float *>(VARDATA_ANY(value) + kHeader);
    view.copy = reinterpret_cast<Pointer>(value) == DatumGetPointer(datum) ? nullptr : value;
    return view;
}

} // namespace vec
