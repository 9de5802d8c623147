// The representation of `sparsevec`.
#include "extension/types/sparsevec.h"

#include "extension/types/vector.h"

namespace vec {

SparseVector *make_sparse(int dim, int count) {
    check_dim(dim, kSparse, kMaxSparseDim);
    auto *result = static_cast<SparseVector *>(palloc0(sparse_size(count)));
    SET_VARSIZE(result, sparse_size(count));
    result->dim = dim;
    result->count = count;
    return result;
}

SparseVector *drop_zeros(SparseVector *vector) {
    int count = 0;
    const float *values = vector->values();
    for (int i = 0; i < vector->count; i++)
        count += values[i] != 0 ? 1 : 0;
    if (count == vector->count)
        return vector;
    SparseVector *result = make_sparse(vector->dim, count);
    for (int i = 0, place = 0; i < vector->count; i++) {
        if (values[i] == 0)
            continue;
        result->indices[place] = vector->indices[i];
        result->values()[place++] = values[i];
    }
    pfree(vector);
    return result;
}

SparseDatum datum_view_sparse(Datum datum) {
    varlena *value = PG_DETOAST_DATUM_PACKED(datum);
    struct Header {
        int32 dim, count, unused;
    } header = {};
    constexpr Size kHeader = offsetof(SparseVector, indices) - VARHDRSZ;
    static_assert(sizeof(Header) == kHeader);
    Size size = VARSIZE_ANY_EXHDR(value);
    if (likely(size >= kHeader))
        memcpy(&header, VARDATA_ANY(value), kHeader);
    if (unlikely(header.dim < 1 || header.count < 0 ||
                 static_cast<uint32>(header.count) > ann::kMaxNonzeros ||
                 size + VARHDRSZ != sparse_size(header.count)))
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("sparsevec value of %zu bytes has invalid dimensions %d or count %d",
                               size + VARHDRSZ, header.dim, header.count)));
    SparseDatum view;
    view.dim = header.dim;
    view.count = static_cast<uint32_t>(header.count);
    view.indices = VARDATA_ANY(value) + kHeader;
    view.values = VARDATA_ANY(value) + kHeader + sizeof(int32) * static_cast<Size>(header.count);
    view.copy = reinterpret_cast<Pointer>(value) == DatumGetPointer(datum) ? nullptr : value;
    return view;
}

} // namespace vec
