#include "extension/core/number_text.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace ann {
namespace {

bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

} // namespace

const char *skip_space(const char *at) {
    while (is_space(*at))
        at++;
    return at;
}

const char *read_float(const char *at, const char *end, float *value, bool *overflow,
                       bool *underflow) {
    *overflow = *underflow = false;
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
    *underflow = errno == ERANGE && *value == 0;
    return next;
}

const char *read_integer(const char *at, long long *value) {
    const char *digits = *at == '-' || *at == '+' ? at + 1 : at;
    if (!is_digit(*digits))
        return nullptr;
    char *next;
    *value = std::strtoll(at, &next, 10);
    return next;
}

} // namespace ann
