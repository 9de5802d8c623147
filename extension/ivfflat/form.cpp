#include "extension/ivfflat/form.h"

#include "extension/core/list_layout.h"
#include "extension/hnsw/hnsw.h"
#include "extension/types/vector.h"

namespace ivf {
namespace {

void check_dimensions(int32 typmod) {
    if (typmod < 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("column does not have dimensions"),
                        errhint("Declare the column as vector(n), or cast the expression to it.")));
    if (typmod < 1 || typmod > vec::kMaxVectorDim)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("column cannot have more than %d dimensions for ivfflat index",
                               vec::kMaxVectorDim)));
}

// NULL for zero.
const float *unit_vector(const Form &form, const float *x) {
    double norm = std::sqrt(ann::squared_norm(x, form.dim));
    if (norm == 0)
        return nullptr;
    auto *unit = static_cast<float *>(palloc(form.dim * sizeof(float)));
    for (uint32 i = 0; i < form.dim; i++)
        unit[i] = static_cast<float>(x[i] / norm);
    return unit;
}

} // namespace

Form index_form(Relation index) {
    int32 typmod = TupleDescAttr(RelationGetDescr(index), 0)->atttypmod;
    check_dimensions(typmod);
    return {vec::opclass_metric(index), Element::kFloat, static_cast<uint32>(typmod)};
}

uint32 vector_bytes(const Form &form) {
    return form.dim * sizeof(float);
}

uint8 choose_root_bits(const Form &form) {
    return form.dim < ann::kMinListCodedDim ? 0 : 1;
}

uint8 choose_list_bits(const Form &form) {
    return form.dim < ann::kMinListCodedDim ? 0 : 1;
}

IndexedValue read_value(const Form &form, Datum value) {
    vec::Vector *vector = vec::datum_get_vector(value);
    if (static_cast<uint32>(vector->dim) != form.dim)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("different vector dimensions %u and %d", form.dim, vector->dim)));
    IndexedValue result = {reinterpret_cast<uint8 *>(vector->x), 1, vector->x};
    if (form.metric != ann::Metric::kCosine)
        return result;
    result.floats = unit_vector(form, vector->x);
    if (result.floats != nullptr)
        result.multiplier =
            static_cast<float>(1 / std::sqrt(ann::squared_norm(vector->x, form.dim)));
    return result;
}

const float *stored_floats(const Form &form, const uint8 *vector) {
    const auto *x = reinterpret_cast<const float *>(vector);
    return form.metric == ann::Metric::kCosine ? unit_vector(form, x) : x;
}

float distance(const Form &form, const IndexedValue &query, const uint8 *vector, float multiplier) {
    const auto *x = reinterpret_cast<const float *>(vector);
    if (form.metric == ann::Metric::kL2)
        return ann::kernels().l2_squared(query.floats, x, form.dim);
    return -ann::kernels().inner_product(query.floats, x, form.dim) * multiplier;
}

IndexedValue no_query(const Form &form) {
    auto *zeros = static_cast<float *>(palloc0(form.dim * sizeof(float)));
    return {reinterpret_cast<uint8 *>(zeros), 1, zeros};
}

double operator_value(const Form &form, float distance) {
    switch (form.metric) {
    case ann::Metric::kL2:
        return std::sqrt(static_cast<double>(distance));
    case ann::Metric::kCosine:
        return std::clamp(1.0 + distance, 0.0, 2.0);
    default:
        return distance;
    }
}

} // namespace ivf
