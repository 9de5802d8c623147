// Order and hash: element by element, a prefix before what it begins; for btree, DISTINCT,
// GROUP BY and joins. -0 and 0 are equal, and hash alike.
#include "extension/pg/boundary.h"
#include "extension/types/vector.h"

extern "C" {
#include "common/hashfn.h"
}

namespace vec {
namespace {

int compare(const VectorView &a, const VectorView &b) {
    int common = std::min(a.dim, b.dim);
    for (int i = 0; i < common; i++) {
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    }
    return a.dim == b.dim ? 0 : (a.dim < b.dim ? -1 : 1);
}

// A btree comparison must not leak.
int compare_arguments(FunctionCallInfo fcinfo) {
    VectorView a = datum_view_vector(PG_GETARG_DATUM(0));
    VectorView b = datum_view_vector(PG_GETARG_DATUM(1));
    int order = compare(a, b);
    a.release();
    b.release();
    return order;
}

SQL_FUNCTION(vector_lt) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) < 0);
}
SQL_FUNCTION(vector_le) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) <= 0);
}
SQL_FUNCTION(vector_eq) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) == 0);
}
SQL_FUNCTION(vector_ne) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) != 0);
}
SQL_FUNCTION(vector_ge) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) >= 0);
}
SQL_FUNCTION(vector_gt) {
    PG_RETURN_BOOL(compare_arguments(fcinfo) > 0);
}
SQL_FUNCTION(vector_cmp) {
    PG_RETURN_INT32(compare_arguments(fcinfo));
}

// PostgreSQL's hash of the elements' bytes, a block at a time, each block's hash being the next
// one's seed. Nodes of one cluster route rows by it: it must not change between versions.
uint64 hash_argument(FunctionCallInfo fcinfo, uint64 seed) {
    constexpr int kBlock = 256;
    float block[kBlock];
    VectorView v = datum_view_vector(PG_GETARG_DATUM(0));
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
SQL_FUNCTION(vector_hash) {
    PG_RETURN_UINT32(static_cast<uint32>(hash_argument(fcinfo, 0)));
}

SQL_FUNCTION(vector_hash_extended) {
    PG_RETURN_UINT64(hash_argument(fcinfo, static_cast<uint64>(PG_GETARG_INT64(1))));
}

} // namespace
} // namespace vec
