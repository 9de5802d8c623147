#include "extension/core/vector_wire.h"

#include <bit>
#include <cmath>

namespace ann {
namespace {

template <typename Word> Word read_word(const char *bytes, size_t i) {
    Word word = 0;
    for (size_t k = 0; k < sizeof(Word); k++)
        word = static_cast<Word>(word << 8 | static_cast<uint8_t>(bytes[i * sizeof(Word) + k]));
    return word;
}

void read_element(const char *bytes, size_t i, float *out) {
    *out = std::bit_cast<float>(read_word<uint32_t>(bytes, i));
}

void read_element(const char *bytes, size_t i, Half *out) {
    *out = Half{read_word<uint16_t>(bytes, i)};
}

WireError check(float value) {
    if (std::isnan(value))
        return WireError::kNan;
    return std::isinf(value) ? WireError::kInfinite : WireError::kNone;
}

WireError check(Half value) {
    return check(to_float(value));
}

WireError check_index(const int32_t *indices, size_t i, int32_t dim) {
    if (indices[i] < 0 || indices[i] >= dim)
        return WireError::kIndex;
    if (i > 0 && indices[i] < indices[i - 1])
        return WireError::kOrder;
    return i > 0 && indices[i] == indices[i - 1] ? WireError::kDuplicate : WireError::kNone;
}

} // namespace

template <typename T> WireError read_wire(const char *bytes, size_t dim, T *out) {
    for (size_t i = 0; i < dim; i++) {
        read_element(bytes, i, out + i);
        if (WireError error = check(out[i]); error != WireError::kNone)
            return error;
    }
    return WireError::kNone;
}

template WireError read_wire(const char *bytes, size_t dim, float *out);
template WireError read_wire(const char *bytes, size_t dim, Half *out);

WireError read_sparse_wire(const char *bytes, size_t count, int32_t dim, int32_t *indices,
                           float *values) {
    for (size_t i = 0; i < count; i++) {
        indices[i] = static_cast<int32_t>(read_word<uint32_t>(bytes, i));
        if (WireError error = check_index(indices, i, dim); error != WireError::kNone)
            return error;
        read_element(bytes, count + i, values + i);
        if (WireError error = check(values[i]); error != WireError::kNone)
            return error;
        if (values[i] == 0)
            return WireError::kZero;
    }
    return WireError::kNone;
}

} // namespace ann
