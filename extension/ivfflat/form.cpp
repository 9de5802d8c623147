#include "extension/ivfflat/form.h"

#include "extension/core/bit_distance.h"
#include "extension/core/list_layout.h"
#include "extension/pg/boundary.h"
#include "extension/types/bit.h"
#include "extension/types/vector.h"

extern "C" {
#include "access/genam.h"

Datum vector_l2_squared_distance(PG_FUNCTION_ARGS);
Datum vector_negative_inner_product(PG_FUNCTION_ARGS);
Datum halfvec_l2_squared_distance(PG_FUNCTION_ARGS);
Datum halfvec_negative_inner_product(PG_FUNCTION_ARGS);
Datum hamming_distance(PG_FUNCTION_ARGS);
}

namespace ivf {
namespace {

using vec::Half;

constexpr int kMaxBits = 64000; // a member of a list without codes has to fit a page

struct KnownDistance {
    PGFunction function; // support function 1
    Element element;     // what support function 5 has to say
    ann::Metric metric;
};
constexpr KnownDistance kDistances[] = {
    {vector_l2_squared_distance, Element::kFloat, ann::Metric::kL2},
    {vector_negative_inner_product, Element::kFloat, ann::Metric::kInnerProduct},
    {halfvec_l2_squared_distance, Element::kHalf, ann::Metric::kL2},
    {halfvec_negative_inner_product, Element::kHalf, ann::Metric::kInnerProduct},
    {hamming_distance, Element::kBit, ann::Metric::kL2},
};

// What the operator class's support function 5 says; without one, floats.
Element opclass_element(Relation index) {
    if (!OidIsValid(index_getprocid(index, 1, 5)))
        return Element::kFloat;
    Datum element = FunctionCall1(index_getprocinfo(index, 1, 5), PointerGetDatum(nullptr));
    return static_cast<Element>(DatumGetInt32(element));
}

const KnownDistance &known_distance(Relation index) {
    PGFunction function = index_getprocinfo(index, 1, 1)->fn_addr;
    Element element = opclass_element(index);
    for (const KnownDistance &known : kDistances)
        if (known.function == function && known.element == element)
            return known;
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("ivfflat does not support the distance function of this operator class"),
             errhint("Use the l2, ip or cosine class of vector or halfvec, or bit_hamming_ops.")));
}

void check_dimensions(int32 typmod, Element element) {
    int most = element == Element::kBit ? kMaxBits : vec::kMaxVectorDim;
    if (typmod < 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("column does not have dimensions"),
                        errhint("Declare the column as its type with a number of dimensions, as "
                                "vector(n), or cast the expression to that.")));
    if (typmod < 1 || typmod > most)
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                 errmsg("column cannot have more than %d dimensions for ivfflat index", most)));
}

float *make_floats(const Form &form) {
    return static_cast<float *>(palloc(form.dim * sizeof(float)));
}

// `x` at length 1; NULL for zero. Room for it is x itself.
float *normalize(const Form &form, float *x, double norm) {
    if (norm == 0)
        return nullptr;
    for (uint32 i = 0; i < form.dim; i++)
        x[i] = static_cast<float>(x[i] / norm);
    return x;
}

// A float for each element, in memory of its own.
float *to_floats(const Form &form, const uint8 *bytes) {
    float *floats = make_floats(form);
    switch (form.element) {
    case Element::kFloat:
        memcpy(floats, bytes, form.dim * sizeof(float));
        break;
    case Element::kHalf:
        ann::kernels().to_floats(reinterpret_cast<const Half *>(bytes), floats, form.dim);
        break;
    case Element::kBit:
        for (uint32 i = 0; i < form.dim; i++)
            floats[i] = static_cast<float>(bytes[i / 8] >> (7 - i % 8) & 1);
        break;
    }
    return floats;
}

// Of floats the bytes themselves, unless they have to be normalized.
IndexedValue indexed(const Form &form, const uint8 *bytes) {
    IndexedValue value = {bytes, 1, nullptr};
    if (form.metric != ann::Metric::kCosine) {
        bool same = form.element == Element::kFloat;
        value.floats = same ? reinterpret_cast<const float *>(bytes) : to_floats(form, bytes);
        return value;
    }
    float *floats = to_floats(form, bytes);
    double norm = std::sqrt(ann::squared_norm(floats, form.dim));
    value.floats = normalize(form, floats, norm);
    if (norm > 0)
        value.multiplier = static_cast<float>(1 / norm);
    return value;
}

template <typename T> const uint8 *dense_bytes(const Form &form, Datum value) {
    vec::Dense<T> *vector = vec::datum_get_dense<T>(value);
    if (static_cast<uint32>(vector->dim) != form.dim)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("different %s dimensions %u and %d", vec::kTypeName<T>, form.dim,
                               vector->dim)));
    return reinterpret_cast<const uint8 *>(vector->x);
}

const uint8 *bit_bytes(const Form &form, Datum value) {
    vec::BitView view = vec::datum_view_bits(value);
    if (static_cast<uint32>(view.bits) != form.dim)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("different bit lengths %u and %d", form.dim, view.bits)));
    return view.bytes;
}

template <typename T>
float dense_distance(const Form &form, const IndexedValue &query, const uint8 *vector,
                     float multiplier) {
    const auto &kernels = ann::kernels().between<float, T>();
    const auto *x = reinterpret_cast<const T *>(vector);
    if (form.metric == ann::Metric::kL2)
        return kernels.l2_squared(query.floats, x, form.dim);
    return -kernels.inner_product(query.floats, x, form.dim) * multiplier;
}

bool has_codes(const Form &form) {
    return form.dim >= ann::kMinListCodedDim;
}

} // namespace

Form index_form(Relation index) {
    const KnownDistance &known = known_distance(index);
    int32 typmod = TupleDescAttr(RelationGetDescr(index), 0)->atttypmod;
    check_dimensions(typmod, known.element);
    bool normalized = OidIsValid(index_getprocid(index, 1, 2));
    return {normalized ? ann::Metric::kCosine : known.metric, known.element,
            static_cast<uint32>(typmod)};
}

uint32 vector_bytes(const Form &form) {
    switch (form.element) {
    case Element::kHalf:
        return form.dim * sizeof(Half);
    case Element::kBit:
        return (form.dim + 7) / 8;
    default:
        return form.dim * sizeof(float);
    }
}

uint8 choose_root_bits(const Form &form) {
    return has_codes(form) ? 1 : 0;
}

// Bits are as short as their codes would be.
uint8 choose_list_bits(const Form &form) {
    return has_codes(form) && form.element != Element::kBit ? 1 : 0;
}

IndexedValue read_value(const Form &form, Datum value) {
    switch (form.element) {
    case Element::kHalf:
        return indexed(form, dense_bytes<Half>(form, value));
    case Element::kBit:
        return indexed(form, bit_bytes(form, value));
    default:
        return indexed(form, dense_bytes<float>(form, value));
    }
}

const float *stored_floats(const Form &form, const uint8 *vector) {
    return indexed(form, vector).floats;
}

float distance(const Form &form, const IndexedValue &query, const uint8 *vector, float multiplier) {
    switch (form.element) {
    case Element::kHalf:
        return dense_distance<Half>(form, query, vector, multiplier);
    case Element::kBit:
        return static_cast<float>(ann::hamming_distance(query.bytes, vector, vector_bytes(form)));
    default:
        return dense_distance<float>(form, query, vector, multiplier);
    }
}

IndexedValue no_query(const Form &form) {
    auto *zeros = static_cast<float *>(palloc0(form.dim * sizeof(float)));
    return {reinterpret_cast<uint8 *>(zeros), 1, zeros};
}

double operator_value(const Form &form, float distance) {
    if (form.element == Element::kBit || form.metric == ann::Metric::kInnerProduct)
        return distance;
    if (form.metric == ann::Metric::kCosine)
        return std::clamp(1.0 + distance, 0.0, 2.0);
    return std::sqrt(static_cast<double>(distance));
}

SQL_FUNCTION(ivfflat_halfvec_support) {
    PG_RETURN_INT32(static_cast<int32>(Element::kHalf));
}

SQL_FUNCTION(ivfflat_bit_support) {
    PG_RETURN_INT32(static_cast<int32>(Element::kBit));
}

} // namespace ivf
