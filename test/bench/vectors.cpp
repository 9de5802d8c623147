#include "test/bench/vectors.h"

#include <algorithm>
#include <cmath>

namespace bench {

void Vectors::add(std::span<const float> vector) {
    std::ranges::copy(vector, add().begin());
}

Vectors Vectors::slice(size_t first, size_t last) const {
    Vectors part(dim_);
    part.values_.assign(values_.begin() + static_cast<ptrdiff_t>(first * dim_),
                        values_.begin() + static_cast<ptrdiff_t>(last * dim_));
    return part;
}

Vectors Vectors::normalized() const {
    Vectors unit(dim_);
    unit.reserve(size());
    for (size_t i = 0; i < size(); i++) {
        double sum = 0;
        for (float value : (*this)[i])
            sum += double{value} * value;
        float scale = sum > 0 ? static_cast<float>(1 / std::sqrt(sum)) : 1;
        std::ranges::transform((*this)[i], unit.add().begin(),
                               [scale](float value) { return value * scale; });
    }
    return unit;
}

} // namespace bench
