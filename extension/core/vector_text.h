// The text form of a dense vector, `[1,2.5,-3e-2]`, read without a copy of the text.
#pragma once

#include <cstddef>

#include "extension/core/half.h"

namespace ann {

enum class VectorTextError {
    kNone,
    kNoOpening,  // does not start with "["
    kSyntax,     // not a number, or neither "," nor "]" after one, or no end
    kJunk,       // something after "]"
    kEmpty,      // "[]"
    kTooMany,    // more than max_dim elements
    kOutOfRange, // a number beyond the element's range; `token` says which
    kNan,
    kInfinite,
};

struct VectorTextResult {
    VectorTextError error;
    size_t dim;        // elements read
    const char *token; // kOutOfRange: the number, in the text
    size_t token_length;
};

// How many elements the text can hold at most: one more than its commas, limited to `max_dim`. A
// text that parses has exactly as many.
size_t count_vector_text(const char *text, size_t max_dim);

// Reads `text`, which ends with a NUL, into out[0..count_vector_text()). White space may stand
// around brackets, commas and numbers. Numbers are those of C (`1`, `+1.`, `.5`, `1e-3`,
// `0x1p3`), correctly rounded; what is too small for a float is 0 or -0. Needs LC_NUMERIC "C",
// which PostgreSQL and a C++ program's start keep.
// T is float or Half; a half is rounded from the float, and out of range beyond 65504.
template <typename T> VectorTextResult parse_vector_text(const char *text, T *out, size_t max_dim);

} // namespace ann
