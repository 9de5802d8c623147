// The text form of a sparse vector, `{1:1.5,3:2}/5`: numbers of elements, from 1, with their
// values, and the number of dimensions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ann {

enum class SparseTextError {
    kNone,
    kNoOpening,  // does not start with "{"
    kSyntax,     // not a number, or not what has to follow one
    kEnd,        // nothing after "}"
    kJunk,       // something after the dimensions
    kTooMany,    // more than `max_count` elements that are not 0
    kOutOfRange, // a value beyond float32, or too small for it; `token` says which
    kNan,
    kInfinite,
    kIndex,     // an index below 1 or beyond the dimensions
    kDuplicate, // two values for one index
};

struct SparseEntry {
    int32_t index; // from 0
    float value;   // not 0
};

struct SparseTextResult {
    SparseTextError error;
    size_t count;      // entries read
    long long dim;     // as written; what is allowed is up to the caller, who looks at it first
    const char *token; // kOutOfRange: the number, in the text
    size_t token_length;
};

// How many elements the text can hold at most: one more than its commas, limited to `max_count`.
size_t count_sparse_text(const char *text, size_t max_count);

// Reads `text`, which ends with a NUL, into out[0..count_sparse_text()), sorted by index, without
// values that are 0. White space may stand everywhere but within numbers.
SparseTextResult parse_sparse_text(const char *text, SparseEntry *out, size_t max_count);

} // namespace ann
