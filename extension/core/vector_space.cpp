#include "extension/core/vector_space.h"

#include "extension/core/bit_distance.h"

namespace ann {
namespace {

template <typename T>
float dense_distance(const DistanceSet<T, T> &set, Metric metric, const void *a, const void *b,
                     size_t dim) {
    const T *x = static_cast<const T *>(a);
    const T *y = static_cast<const T *>(b);
    switch (metric) {
    case Metric::kL2:
        return set.l2_squared(x, y, dim);
    case Metric::kL1:
        return set.l1(x, y, dim);
    case Metric::kCosine:
        return 1 - set.inner_product(x, y, dim);
    default:
        return -set.inner_product(x, y, dim);
    }
}

float half_distance(const VectorSpace &space, const void *a, const void *b) {
    if (space.metric != Metric::kCosine)
        return dense_distance(kernels().halves, space.metric, a, b, space.dim);
    float dot = kernels().halves.inner_product(static_cast<const Half *>(a),
                                               static_cast<const Half *>(b), space.dim);
    return 1 - space.scale(a) * space.scale(b) * dot;
}

float bit_distance(Metric metric, const void *a, const void *b, size_t bytes) {
    const auto *x = static_cast<const uint8_t *>(a);
    const auto *y = static_cast<const uint8_t *>(b);
    if (metric == Metric::kJaccard)
        return static_cast<float>(jaccard_distance(x, y, bytes));
    return static_cast<float>(hamming_distance(x, y, bytes));
}

float sparse_distance(Metric metric, const SparseView &a, const SparseView &b) {
    switch (metric) {
    case Metric::kL2:
        return sparse_l2_squared(a, b);
    case Metric::kL1:
        return sparse_l1(a, b);
    case Metric::kCosine:
        return 1 - sparse_inner_product(a, b);
    default:
        return -sparse_inner_product(a, b);
    }
}

} // namespace

float metric_distance(Metric metric, const float *a, const float *b, size_t dim) {
    return dense_distance<float>(kernels(), metric, a, b, dim);
}

size_t VectorSpace::bytes() const {
    switch (form) {
    case VectorForm::kFloats:
        return dim * sizeof(float);
    case VectorForm::kHalves:
        return metric == Metric::kCosine ? scale_offset() + sizeof(float) : dim * sizeof(Half);
    case VectorForm::kBits:
        return (dim + 7) / 8;
    case VectorForm::kSparse:
        break;
    }
    return sparse_bytes(0);
}

float VectorSpace::distance(const void *a, const void *b) const {
    switch (form) {
    case VectorForm::kFloats:
        return dense_distance<float>(kernels(), metric, a, b, dim);
    case VectorForm::kHalves:
        return half_distance(*this, a, b);
    case VectorForm::kBits:
        return bit_distance(metric, a, b, bytes());
    case VectorForm::kSparse:
        break;
    }
    return sparse_distance(metric, sparse(a), sparse(b));
}

const float *VectorSpace::floats(const void *vector, float *room) const {
    if (form == VectorForm::kFloats)
        return static_cast<const float *>(vector);
    kernels().to_floats(static_cast<const Half *>(vector), room, dim);
    if (metric == Metric::kCosine) {
        float factor = scale(vector);
        for (uint32_t i = 0; i < dim; i++)
            room[i] *= factor;
    }
    return room;
}

} // namespace ann
