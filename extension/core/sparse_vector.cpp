#include "extension/core/sparse_vector.h"

#include <algorithm>
#include <cmath>

namespace ann {
namespace {

// Only common indices matter.
double dot(const SparseView &a, const SparseView &b) {
    double sum = 0;
    uint32_t i = 0;
    uint32_t j = 0;
    while (i < a.count && j < b.count) {
        int32_t x = a.index(i);
        int32_t y = b.index(j);
        if (x == y)
            sum += static_cast<double>(a.value(i)) * b.value(j);
        i += x <= y ? 1 : 0;
        j += y <= x ? 1 : 0;
    }
    return sum;
}

} // namespace

float sparse_l2_squared(const SparseView &a, const SparseView &b) {
    double sum = 0;
    for_each_pair(a, b, [&](int64_t, float u, float v) {
        double difference = static_cast<double>(u) - v;
        sum += difference * difference;
        return true;
    });
    return static_cast<float>(sum);
}

float sparse_inner_product(const SparseView &a, const SparseView &b) {
    return static_cast<float>(dot(a, b));
}

float sparse_l1(const SparseView &a, const SparseView &b) {
    double sum = 0;
    for_each_pair(a, b, [&](int64_t, float u, float v) {
        sum += std::fabs(static_cast<double>(u) - v);
        return true;
    });
    return static_cast<float>(sum);
}

double sparse_cosine_distance(const SparseView &a, const SparseView &b) {
    double lengths = std::sqrt(sparse_squared_norm(a)) * std::sqrt(sparse_squared_norm(b));
    double similarity = dot(a, b) / lengths;
    return std::isnan(similarity) ? similarity : 1 - std::clamp(similarity, -1.0, 1.0);
}

double sparse_squared_norm(const SparseView &a) {
    double sum = 0;
    for (uint32_t i = 0; i < a.count; i++)
        sum += static_cast<double>(a.value(i)) * a.value(i);
    return sum;
}

} // namespace ann
