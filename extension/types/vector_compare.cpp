// Order and hash: element by element, a prefix before what it begins; for btree, DISTINCT,
// GROUP BY and joins. -0 and 0 are equal, and hash alike.
#include "extension/pg/boundary.h"
#include "extension/types/vector.h"

extern "C" {
#include "common/hashfn.h"
}

namespace vec {
namespace {

template <typename T> int compare(const DenseView<T> &a, const DenseView<T> &b) {
    int common = std::min(a.dim, b.dim);
    for (int i = 0; i < common; i++) {
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    }
    return a.dim == b.dim ? 0 : (a.dim < b.dim ? -1 : 1);
}

// A btree comparison must not leak.
template <typename T> int compare_arguments(FunctionCallInfo fcinfo) {
    DenseView<T> a = datum_view_dense<T>(PG_GETARG_DATUM(0));
    DenseView<T> b = datum_view_dense<T>(PG_GETARG_DATUM(1));
    int order = compare(a, b);
    a.release();
    b.release();
    return order;
}

template <typename T> Datum less(FunctionCallInfo fcinfo) {
    PG_RETURN_BOOL(compare_arguments<T>(fcinfo) < 0);
}
template <typename T> Datum less_or_equal(FunctionCallInfo fcinfo) {
    PG_RETURN_BOOL(compare_arguments<T>(fcinfo) <= 0);
}
template <typename T> Datum equal(FunctionCallInfo fcinfo) {
    PG_RETURN_BOOL(compare_arguments<T>(fcinfo) == 0);
}
template <typename T> Datum not_equal(FunctionCallInfo fcinfo) {
    PG_RETURN_BOOL(compare_arguments<T>(fcinfo) != 0);
}
template <typename T> Datum greater_or_equal(FunctionCallInfo fcinfo) {
    PG_RETURN_BOOL(compare_arguments<T>(fcinfo) >= 0);
}
template <typename T> Datum greater(FunctionCallInfo fcinfo) {
    PG_RETURN_BOOL(compare_arguments<T>(fcinfo) > 0);
}
template <typename T> Datum order(FunctionCallInfo fcinfo) {
    PG_RETURN_INT32(compare_arguments<T>(fcinfo));
}
DENSE_FUNCTIONS(less, vector_lt, halfvec_lt)
DENSE_FUNCTIONS(less_or_equal, vector_le, halfvec_le)
DENSE_FUNCTIONS(equal, vector_eq, halfvec_eq)
DENSE_FUNCTIONS(not_equal, vector_ne, halfvec_ne)
DENSE_FUNCTIONS(greater_or_equal, vector_ge, halfvec_ge)
DENSE_FUNCTIONS(greater, vector_gt, halfvec_gt)
DENSE_FUNCTIONS(order, vector_cmp, halfvec_cmp)

// PostgreSQL's hash of the elements' bytes as floats, a block at a time, each block's hash being
// the next one's seed. Nodes of one cluster route rows by it: it must not change between versions.
template <typename T> uint64 hash_argument(FunctionCallInfo fcinfo, uint64 seed) {
    constexpr int kBlock = 256;
    float block[kBlock];
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(0));
    uint64 hash = seed;
    for (int start = 0; start < v.dim; start += kBlock) {
        int count = std::min(kBlock, v.dim - start);
        for (int i = 0; i < count; i++)
            block[i] = v[start + i] + 0.0F; // -0 becomes 0
        hash = hash_bytes_extended(reinterpret_cast<const unsigned char *>(block),
                                   count * static_cast<int>(sizeof(float)), hash);
    }
    v.release();
    return hash;
}

// The lower half of the extended hash with seed 0, as PostgreSQL wants it.
template <typename T> Datum hash(FunctionCallInfo fcinfo) {
    PG_RETURN_UINT32(static_cast<uint32>(hash_argument<T>(fcinfo, 0)));
}
DENSE_FUNCTIONS(hash, vector_hash, halfvec_hash)

template <typename T> Datum hash_extended(FunctionCallInfo fcinfo) {
    PG_RETURN_UINT64(hash_argument<T>(fcinfo, static_cast<uint64>(PG_GETARG_INT64(1))));
}
DENSE_FUNCTIONS(hash_extended, vector_hash_extended, halfvec_hash_extended)

} // namespace
} // namespace vec
