// Distances between sparse vectors: indices in ascending order, each with its value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ann {

inline constexpr uint32_t kMaxNonzeros = 16000;

// A sparse vector where it lies; no alignment required. Owns nothing.
struct SparseView {
    uint32_t count;
    const void *indices; // count x int32, ascending
    const void *values;  // count x float

    int32_t index(uint32_t i) const { return load<int32_t>(indices, i); }
    float value(uint32_t i) const { return load<float>(values, i); }

  private:
    template <typename T> static T load(const void *from, uint32_t i) {
        T value;
        std::memcpy(&value, static_cast<const char *>(from) + sizeof(T) * static_cast<size_t>(i),
                    sizeof(T));
        return value;
    }
};

// Calls f(index, value of a, value of b) for each index that either has, in ascending order, until
// f returns false.
template <typename F> void for_each_pair(const SparseView &a, const SparseView &b, F f) {
    uint32_t i = 0;
    uint32_t j = 0;
    while (i < a.count || j < b.count) {
        int64_t x = i < a.count ? a.index(i) : INT64_MAX;
        int64_t y = j < b.count ? b.index(j) : INT64_MAX;
        float u = x <= y ? a.value(i++) : 0;
        float v = y <= x ? b.value(j++) : 0;
        if (!f(x < y ? x : y, u, v))
            return;
    }
}

// Sums are kept in double and rounded to float at the end.
float sparse_l2_squared(const SparseView &a, const SparseView &b);
float sparse_inner_product(const SparseView &a, const SparseView &b);
float sparse_l1(const SparseView &a, const SparseView &b);
// 1 - cos(a,b) in [0, 2]; NaN when either vector is zero.
double sparse_cosine_distance(const SparseView &a, const SparseView &b);
double sparse_squared_norm(const SparseView &a);

} // namespace ann
