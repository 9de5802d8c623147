#include "extension/core/distance.h"

#include <cmath>
#include <cstring>

namespace ann {
namespace {

float l2_squared(const float *a, const float *b, size_t dim) {
    float sum = 0;
    for (size_t i = 0; i < dim; i++) {
        float diff = a[i] - b[i];
        sum += diff * diff;
    }
    return sum;
}

float inner_product(const float *a, const float *b, size_t dim) {
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * b[i];
    return sum;
}

float l1(const float *a, const float *b, size_t dim) {
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += std::fabs(a[i] - b[i]);
    return sum;
}

float cosine_distance(const float *a, const float *b, size_t dim) {
    double dot = inner_product(a, b, dim);
    double norms = static_cast<double>(inner_product(a, a, dim)) * inner_product(b, b, dim);
    return static_cast<float>(1 - dot / std::sqrt(norms));
}

const Kernels portable = {"portable", l2_squared, inner_product, l1, cosine_distance};

} // namespace

const Kernels &kernels() { return portable; }

bool select_kernels(const char *name) {
    return std::strcmp(name, "auto") == 0 || std::strcmp(name, "portable") == 0;
}

} // namespace ann
