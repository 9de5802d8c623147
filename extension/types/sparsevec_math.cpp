// Distances, norms, order and hash of sparsevec.
#include "extension/types/sparsevec.h"
#include "extension/types/vector.h"

extern "C" {
#include "common/hashfn.h"
#include "utils/float.h"
}

namespace vec {
namespace {

// `distance` of the two arguments; it calls nothing of PostgreSQL.
template <typename Distance> Datum distance_of(FunctionCallInfo fcinfo, Distance distance) {
    SparseDatum a = datum_view_sparse(PG_GETARG_DATUM(0));
    SparseDatum b = datum_view_sparse(PG_GETARG_DATUM(1));
    check_same_dims(a.dim, b.dim, kSparse);
    double result = distance(a, b);
    a.release();
    b.release();
    return Float8GetDatum(result);
}

SQL_FUNCTION(sparsevec_l2_distance) {
    return distance_of(fcinfo, [](const auto &a, const auto &b) {
        return std::sqrt(static_cast<double>(ann::sparse_l2_squared(a, b)));
    });
}

SQL_FUNCTION(sparsevec_l2_squared_distance) {
    return distance_of(fcinfo, ann::sparse_l2_squared);
}

SQL_FUNCTION(sparsevec_inner_product) {
    return distance_of(fcinfo, ann::sparse_inner_product);
}

SQL_FUNCTION(sparsevec_negative_inner_product) {
    return distance_of(fcinfo, [](const auto &a, const auto &b) {
        return -static_cast<double>(ann::sparse_inner_product(a, b));
    });
}

SQL_FUNCTION(sparsevec_cosine_distance) {
    return distance_of(fcinfo, ann::sparse_cosine_distance);
}

SQL_FUNCTION(sparsevec_l1_distance) {
    return distance_of(fcinfo, ann::sparse_l1);
}

SQL_FUNCTION(sparsevec_l2_norm) {
    SparseDatum v = datum_view_sparse(PG_GETARG_DATUM(0));
    double norm = std::sqrt(ann::sparse_squared_norm(v));
    v.release();
    PG_RETURN_FLOAT8(norm);
}

// A zero vector stays as it is; elements that become 0 are left out.
SQL_FUNCTION(sparsevec_l2_normalize) {
    SparseDatum v = datum_view_sparse(PG_GETARG_DATUM(0));
    double norm = std::sqrt(ann::sparse_squared_norm(v));
    SparseVector *result = make_sparse(v.dim, norm > 0 ? static_cast<int>(v.count) : 0);
    for (int i = 0; i < result->count; i++) {
        result->indices[i] = v.index(static_cast<uint32>(i));
        result->values()[i] = static_cast<float>(v.value(static_cast<uint32>(i)) / norm);
        if (unlikely(std::isinf(result->values()[i])))
            float_overflow_error();
    }
    v.release();
    PG_RETURN_POINTER(drop_zeros(result));
}

// Element by element, those not there being 0; then the one of fewer dimensions first.
int compare(const SparseDatum &a, const SparseDatum &b) {
    int order = 0;
    int64 common = std::min(a.dim, b.dim);
    ann::for_each_pair(a, b, [&](int64 index, float x, float y) {
        if (index >= common)
            return false;
        order = x == y ? 0 : (x < y ? -1 : 1);
        return order == 0;
    });
    if (order != 0 || a.dim == b.dim)
        return order;
    return a.dim < b.dim ? -1 : 1;
}

// A btree comparison must not leak.
int compare_arguments(FunctionCallInfo fcinfo) {
    SparseDatum a = datum_view_sparse(PG_GETARG_DATUM(0));
    SparseDatum b = datum_view_sparse(PG_GETARG_DATUM(1));
    int order = compare(a, b);
    a.release();
    b.release();
    return order;
}

SQL_FUNCTION(sparsevec_lt) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) < 0);
}
SQL_FUNCTION(sparsevec_le) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) <= 0);
}
SQL_FUNCTION(sparsevec_eq) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) == 0);
}
SQL_FUNCTION(sparsevec_ne) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) != 0);
}
SQL_FUNCTION(sparsevec_ge) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) >= 0);
}
SQL_FUNCTION(sparsevec_gt) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) > 0);
}
SQL_FUNCTION(sparsevec_cmp) {
    PG_RETURN_INT32(compare_arguments(fcinfo));
}

// PostgreSQL's hash of dimensions, indices and values, each one's hash being the next one's seed.
// No value is 0, so equal vectors have equal bytes. Nodes of one cluster route rows by it: it must
// not change between versions.
uint64 hash_argument(FunctionCallInfo fcinfo, uint64 seed) {
    SparseDatum v = datum_view_sparse(PG_GETARG_DATUM(0));
    auto hash = [](const void *bytes, Size size, uint64 before) {
        return hash_bytes_extended(static_cast<const unsigned char *>(bytes),
                                   static_cast<int>(size), before);
    };
    uint64 result = hash(&v.dim, sizeof(v.dim), seed);
    result = hash(v.indices, v.count * sizeof(int32), result);
    result = hash(v.values, v.count * sizeof(float), result);
    v.release();
    return result;
}

// The lower half of the extended hash with seed 0, as PostgreSQL wants it.
SQL_FUNCTION(sparsevec_hash) {
    PG_RETURN_UINT32(static_cast<uint32>(hash_argument(fcinfo, 0)));
}

SQL_FUNCTION(sparsevec_hash_extended) {
    PG_RETURN_UINT64(hash_argument(fcinfo, static_cast<uint64>(PG_GETARG_INT64(1))));
}

} // namespace
} // namespace vec
