// Operator classes: of which type and metric an index is, and its values in the form it keeps.
//
// Support function 1 is the distance: its C symbol ends with the metric's name. 2 is the norm, of
// cosine classes. 3 says what the type is, as in pgvector; there is none for vector.
#include "extension/hnsw/hnsw.h"
#include "extension/pg/boundary.h"
#include "extension/types/bit.h"
#include "extension/types/sparsevec.h"
#include "extension/types/vector.h"

extern "C" {
#include "catalog/pg_proc.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
}

namespace vec {
namespace {

constexpr ann::VectorForm kHalfForm = ann::VectorForm::kHalves;
constexpr ann::VectorForm kBitForm = ann::VectorForm::kBits;
constexpr ann::VectorForm kSparseForm = ann::VectorForm::kSparse;

SQL_FUNCTION(hnsw_halfvec_support) {
    PG_RETURN_POINTER(&kHalfForm);
}
SQL_FUNCTION(hnsw_bit_support) {
    PG_RETURN_POINTER(&kBitForm);
}
SQL_FUNCTION(hnsw_sparsevec_support) {
    PG_RETURN_POINTER(&kSparseForm);
}

// The C symbol of the class's support function; empty when there is none.
std::string_view support_symbol(Relation index, uint16 number) {
    Oid function = index_getprocid(index, 1, number);
    if (!OidIsValid(function))
        return {};
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for function %u", function);
    bool is_null;
    Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &is_null);
    char *symbol = is_null ? pstrdup("") : TextDatumGetCString(source);
    ReleaseSysCache(tuple);
    return symbol;
}

[[noreturn]] void refuse_class() {
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("hnsw does not support the distance function of this operator class"),
                    errhint("Use an operator class that the extension \"vector\" has for hnsw.")));
    pg_unreachable();
}

ann::Metric metric_of(std::string_view distance, bool has_norm) {
    if (distance.ends_with("l2_squared_distance"))
        return ann::Metric::kL2;
    if (distance.ends_with("l1_distance"))
        return ann::Metric::kL1;
    if (distance.ends_with("negative_inner_product"))
        return has_norm ? ann::Metric::kCosine : ann::Metric::kInnerProduct;
    if (distance == "hamming_distance")
        return ann::Metric::kHamming;
    if (distance == "jaccard_distance")
        return ann::Metric::kJaccard;
    refuse_class();
}

ann::VectorForm form_of(std::string_view support) {
    if (support.empty())
        return ann::VectorForm::kFloats;
    if (support == "hnsw_halfvec_support")
        return ann::VectorForm::kHalves;
    if (support == "hnsw_bit_support")
        return ann::VectorForm::kBits;
    if (support == "hnsw_sparsevec_support")
        return ann::VectorForm::kSparse;
    refuse_class();
}

void check_index_dim(const char *type, uint32 expected, int dim) {
    if (static_cast<uint32>(dim) != expected)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("different %s dimensions %d and %u", type, dim, expected)));
}

const void *float_vector(const ann::VectorSpace &space, Datum value) {
    Vector *vector = datum_get_dense<float>(value);
    check_index_dim("vector", space.dim, vector->dim);
    if (space.metric != ann::Metric::kCosine)
        return vector->x;
    double norm = std::sqrt(ann::squared_norm(vector->x, space.dim));
    if (norm == 0)
        return nullptr;
    auto *unit = static_cast<float *>(palloc(space.bytes()));
    for (uint32 i = 0; i < space.dim; i++)
        unit[i] = static_cast<float>(vector->x[i] / norm);
    return unit;
}

const void *half_vector(const ann::VectorSpace &space, Datum value) {
    HalfVector *vector = datum_get_dense<Half>(value);
    check_index_dim("halfvec", space.dim, vector->dim);
    if (space.metric != ann::Metric::kCosine)
        return vector->x;
    double norm = std::sqrt(ann::squared_norm(vector->x, space.dim));
    if (norm == 0)
        return nullptr;
    auto *scaled = static_cast<uint8 *>(palloc0(space.bytes()));
    float scale = static_cast<float>(1 / norm);
    memcpy(scaled, vector->x, space.dim * sizeof(Half));
    memcpy(scaled + space.scale_offset(), &scale, sizeof(scale));
    return scaled;
}

const void *bit_vector(const ann::VectorSpace &space, Datum value) {
    BitView bits = datum_view_bits(value);
    if (static_cast<uint32>(bits.bits) != space.dim)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("different bit lengths %d and %u", bits.bits, space.dim)));
    return bits.bytes;
}

const void *sparse_vector(const ann::VectorSpace &space, Datum value) {
    SparseDatum vector = datum_view_sparse(value);
    check_index_dim("sparsevec", space.dim, vector.dim);
    double norm = 1;
    if (space.metric == ann::Metric::kCosine)
        norm = std::sqrt(ann::sparse_squared_norm(vector));
    if (norm == 0)
        return nullptr;
    size_t bytes = ann::VectorSpace::sparse_bytes(vector.count);
    auto *words = static_cast<uint32 *>(palloc(bytes));
    words[0] = vector.count;
    memcpy(words + 1, vector.indices, vector.count * sizeof(int32));
    for (uint32 i = 0; i < vector.count; i++)
        words[1 + vector.count + i] =
            std::bit_cast<uint32>(static_cast<float>(vector.value(i) / norm));
    vector.release();
    return words;
}

} // namespace

ann::VectorSpace opclass_space(Relation index, uint32 dim) {
    bool has_norm = OidIsValid(index_getprocid(index, 1, 2));
    ann::VectorSpace space = {form_of(support_symbol(index, 3)),
                              metric_of(support_symbol(index, 1), has_norm), dim};
    bool of_bits = space.metric == ann::Metric::kHamming || space.metric == ann::Metric::kJaccard;
    if (of_bits != (space.form == ann::VectorForm::kBits))
        refuse_class();
    return space;
}

const void *index_vector(const ann::VectorSpace &space, Datum value) {
    switch (space.form) {
    case ann::VectorForm::kFloats:
        return float_vector(space, value);
    case ann::VectorForm::kHalves:
        return half_vector(space, value);
    case ann::VectorForm::kBits:
        return bit_vector(space, value);
    case ann::VectorForm::kSparse:
        break;
    }
    return sparse_vector(space, value);
}

} // namespace vec
