// The representation of `vector` and `halfvec` and the checks that all of their functions share.
#include "extension/types/vector.h"

extern "C" {
#include "common/shortest_dec.h"
}

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

void raise_wire_error(ann::WireError error, const char *type) {
    const char *what = nullptr;
    switch (error) {
    case ann::WireError::kNone:
        return;
    case ann::WireError::kNan:
        check_element(std::numeric_limits<float>::quiet_NaN(), type);
        break;
    case ann::WireError::kInfinite:
        check_element(std::numeric_limits<float>::infinity(), type);
        break;
    case ann::WireError::kZero:
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("binary representation of %s cannot contain zero values", type)));
        break;
    case ann::WireError::kIndex:
        what = "index out of bounds";
        break;
    case ann::WireError::kOrder:
        what = "indices must be in ascending order";
        break;
    case ann::WireError::kDuplicate:
        what = "indices must not contain duplicates";
        break;
    }
    ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("%s %s", type, what)));
}

void check_unused(int32 unused) {
    if (unlikely(unused != 0))
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("expected unused to be 0, not %d", unused)));
}

int32 get_typmod(ArrayType *modifiers, const char *type, int max_dim) {
    int count;
    int32 *values = ArrayGetIntegerTypmods(modifiers, &count);
    if (count != 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid type modifier")));
    if (values[0] < 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("dimensions for type %s must be at least 1", type)));
    if (values[0] > max_dim)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("dimensions for type %s cannot exceed %d", type, max_dim)));
    return values[0];
}

template <typename T> T checked_narrow(float value) {
    T result = narrow<T>(value);
    if (unlikely(std::isinf(widen(result)) && !std::isinf(value))) {
        char text[FLOAT_SHORTEST_DECIMAL_LEN];
        float_to_shortest_decimal_buf(value, text);
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                        errmsg("\"%s\" is out of range for type %s", text, kTypeName<T>)));
    }
    return result;
}

template <typename T> static void raise_damaged(Size size, int dim) {
    ereport(ERROR,
            (errcode(ERRCODE_DATA_CORRUPTED),
             errmsg("%s value of %zu bytes has invalid dimension %d", kTypeName<T>, size, dim)));
}

template <typename T> Dense<T> *make_dense(int dim) {
    check_dim(dim, kTypeName<T>);
    auto *result = static_cast<Dense<T> *>(palloc0(dense_size<T>(dim)));
    SET_VARSIZE(result, dense_size<T>(dim));
    result->dim = static_cast<int16>(dim);
    return result;
}

template <typename T> Dense<T> *datum_get_dense(Datum datum) {
    auto *result = reinterpret_cast<Dense<T> *>(PG_DETOAST_DATUM(datum));
    Size size = VARSIZE(result);
    if (unlikely(size < dense_size<T>(1) || result->dim < 1 || size != dense_size<T>(result->dim)))
        raise_damaged<T>(size, size < dense_size<T>(0) ? 0 : result->dim);
    return result;
}

template <typename T> DenseView<T> datum_view_dense(Datum datum) {
    varlena *value = PG_DETOAST_DATUM_PACKED(datum);
    constexpr Size kHeader = offsetof(Dense<T>, x) - VARHDRSZ;
    Size size = VARSIZE_ANY_EXHDR(value);
    int16 dim = 0;
    if (likely(size >= kHeader))
        memcpy(&dim, VARDATA_ANY(value), sizeof(dim));
    if (unlikely(dim < 1 || size != kHeader + sizeof(T) * static_cast<Size>(dim)))
        raise_damaged<T>(size + VARHDRSZ, dim);
    DenseView<T> view;
    view.dim = dim;
    view.x = reinterpret_cast<const T *>(VARDATA_ANY(value) + kHeader);
    view.copy = reinterpret_cast<Pointer>(value) == DatumGetPointer(datum) ? nullptr : value;
    return view;
}

#define INSTANTIATE(T)                                                                             \
    template T checked_narrow<T>(float);                                                           \
    template Dense<T> *make_dense<T>(int);                                                         \
    template Dense<T> *datum_get_dense<T>(Datum);                                                  \
    template DenseView<T> datum_view_dense<T>(Datum);
INSTANTIATE(float)
INSTANTIATE(Half)

} // namespace vec
