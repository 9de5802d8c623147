#include "extension/core/vector_text.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include "extension/core/number_text.h"

namespace ann {
namespace {

template <typename T> bool fits(float value) {
    return std::is_same_v<T, float> || !std::isfinite(value) || is_finite(to_half(value));
}

void store(float value, float *place) {
    *place = value;
}

void store(float value, Half *place) {
    *place = to_half(value);
}

} // namespace

size_t count_vector_text(const char *text, size_t max_dim) {
    size_t count = 1;
    for (const char *at = text; count < max_dim && (at = std::strchr(at, ',')) != nullptr; at++)
        count++;
    return count;
}

template <typename T> VectorTextResult parse_vector_text(const char *text, T *out, size_t max_dim) {
    size_t dim = 0;
    auto failed = [&](VectorTextError error) { return VectorTextResult{error, dim, nullptr, 0}; };

    const char *end = text + std::strlen(text);
    const char *at = skip_space(text);
    if (*at != '[')
        return failed(VectorTextError::kNoOpening);
    at = skip_space(at + 1);
    if (*at == ']')
        return failed(VectorTextError::kEmpty);

    for (;;) {
        if (dim == max_dim)
            return failed(VectorTextError::kTooMany);
        at = skip_space(at);
        float value;
        bool overflow, underflow;
        const char *next = read_float(at, end, &value, &overflow, &underflow);
        if (next == nullptr)
            return failed(VectorTextError::kSyntax);
        if (overflow || !fits<T>(value))
            return {VectorTextError::kOutOfRange, dim, at, static_cast<size_t>(next - at)};
        if (std::isnan(value))
            return failed(VectorTextError::kNan);
        if (std::isinf(value))
            return failed(VectorTextError::kInfinite);
        store(value, &out[dim++]);

        at = skip_space(next);
        if (*at == ']')
            break;
        if (*at != ',')
            return failed(VectorTextError::kSyntax);
        at++;
    }
    if (*skip_space(at + 1) != '\0')
        return failed(VectorTextError::kJunk);
    return {VectorTextError::kNone, dim, nullptr, 0};
}

template VectorTextResult parse_vector_text(const char *text, float *out, size_t max_dim);
template VectorTextResult parse_vector_text(const char *text, Half *out, size_t max_dim);

} // namespace ann
