// Vectors of one dimension side by side in memory, as the benchmarks read and hand them around.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace bench {

class Vectors {
  public:
    explicit Vectors(size_t dim = 0) : dim_(dim) {}

    size_t dim() const { return dim_; }
    size_t size() const { return dim_ == 0 ? 0 : values_.size() / dim_; }
    std::span<const float> operator[](size_t i) const { return {values_.data() + i * dim_, dim_}; }

    // A new vector of zeros at the end, to be filled.
    std::span<float> add() {
        values_.resize(values_.size() + dim_);
        return {values_.data() + values_.size() - dim_, dim_};
    }
    void add(std::span<const float> vector);
    void reserve(size_t count) { values_.reserve(count * dim_); }
    // Vectors first to last - 1, and all without those.
    Vectors slice(size_t first, size_t last) const;
    void truncate(size_t count) { values_.resize(count * dim_); }
    // Each divided by its length; a vector of zeros stays what it is.
    Vectors normalized() const;

  private:
    size_t dim_;
    std::vector<float> values_;
};

} // namespace bench
