#include "extension/core/vector_text.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace ann {
namespace {

// White space of the C locale.
bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

const char *skip_space(const char *at) {
    while (is_space(*at))
        at++;
    return at;
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// Reads one number at `at`, which ends at `end`; nullptr when there is none. `*overflow` says
// that it is beyond float32.
const char *read_float(const char *at, const char *end, float *value, bool *overflow) {
    *overflow = false;
    // from_chars is several times faster than strtof, but knows no "+" and no "0x", and does not
    // tell overflow from underflow; those are left to strtof, and so are nan and infinity.
    const char *digits = *at == '-' ? at + 1 : at;
    if (is_digit(*digits) || *digits == '.') {
        auto [next, error] = std::from_chars(at, end, *value);
        if (error == std::errc() && *next != 'x' && *next != 'X')
            return next;
    }
    char *next;
    errno = 0;
    *value = std::strtof(at, &next);
    if (next == at)
        return nullptr;
    *overflow = errno == ERANGE && std::isinf(*value);
    return next;
}

} // namespace

size_t count_vector_text(const char *text, size_t max_dim) {
    size_t count = 1;
    for (const char *at = text; count < max_dim && (at = std::strchr(at, ',')) != nullptr; at++)
        count++;
    return count;
}

VectorTextResult parse_vector_text(const char *text, float *out, size_t max_dim) {
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
        bool overflow;
        const char *next = read_float(at, end, &value, &overflow);
        if (next == nullptr)
            return failed(VectorTextError::kSyntax);
        if (overflow)
            return {VectorTextError::kOutOfRange, dim, at, static_cast<size_t>(next - at)};
        if (std::isnan(value))
            return failed(VectorTextError::kNan);
        if (std::isinf(value))
            return failed(VectorTextError::kInfinite);
        out[dim++] = value;

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

} // namespace ann
