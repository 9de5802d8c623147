// What an operator class makes of a value: its bytes in the index, and floats for centroids.
#pragma once

#include "extension/core/distance.h"
#include "extension/pg/pg.h"

extern "C" {
#include "utils/rel.h"
}

namespace ivf {

// Of what vectors are made; values are on disk.
enum class Element : uint8 { kFloat = 0, kHalf = 1, kBit = 2 };

struct Form {
    // kL2, kInnerProduct or kCosine. Of bits kL2: squared, it is the number of those that differ.
    ann::Metric metric;
    Element element;
    uint32 dim;

    // Centroids are chosen and codes are made by this one. Under cosine vectors have length 1.
    ann::Metric code_metric() const {
        return metric == ann::Metric::kL2 ? metric : ann::Metric::kInnerProduct;
    }
    bool spherical() const { return metric != ann::Metric::kL2; }
};

// The form of the index's operator class; raises 0A000 for a class that has none of ours, 22023 for
// a column without dimensions, 54000 for too many.
Form index_form(Relation index);

uint32 vector_bytes(const Form &form);

// Bits per dimension of the codes of centroids and of members; 0: none.
uint8 choose_root_bits(const Form &form);
uint8 choose_list_bits(const Form &form);

// A value as it goes into the index, in CurrentMemoryContext.
struct IndexedValue {
    const uint8 *bytes;  // vector_bytes()
    float multiplier;    // of inner products
    const float *floats; // dim, as code_metric() wants them; NULL: the value is not indexed
};
// Raises 22000 when the value's dimensions are not the index's.
IndexedValue read_value(const Form &form, Datum value);

// A query, likewise; `floats` is NULL for one without direction under cosine.
inline IndexedValue read_query(const Form &form, Datum value) {
    return read_value(form, value);
}

// The query that stands for none: zeros.
IndexedValue no_query(const Form &form);

// The distance of a query from a vector in the index: L2 squared, or minus the inner product (under
// cosine of unit vectors).
float distance(const Form &form, const IndexedValue &query, const uint8 *vector, float multiplier);

// `floats` of a vector as the index has it; palloc'd where they are not its bytes.
const float *stored_floats(const Form &form, const uint8 *vector);

// What the ORDER BY operator says for such a distance.
double operator_value(const Form &form, float distance);

} // namespace ivf
