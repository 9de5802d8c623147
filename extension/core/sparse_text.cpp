#include "extension/core/sparse_text.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "extension/core/number_text.h"

namespace ann {
namespace {

struct Parser {
    const char *at;
    const char *end;
    SparseEntry *out;
    size_t max_count;
    SparseTextResult result = {SparseTextError::kNone, 0, 0, nullptr, 0};
    bool index_below = false; // some index is below 1

    bool fail(SparseTextError error) {
        result.error = error;
        return false;
    }

    // Moves beyond `c` and the white space before it.
    bool expect(char c) {
        at = skip_space(at);
        if (*at != c)
            return fail(SparseTextError::kSyntax);
        at++;
        return true;
    }

    bool read_index(long long *index) {
        at = skip_space(at);
        const char *next = read_integer(at, index);
        if (next == nullptr)
            return fail(SparseTextError::kSyntax);
        at = next;
        return true;
    }

    bool read_value(float *value) {
        at = skip_space(at);
        bool overflow, underflow;
        const char *next = read_float(at, end, value, &overflow, &underflow);
        if (next == nullptr)
            return fail(SparseTextError::kSyntax);
        if (overflow || underflow) {
            result.token = at;
            result.token_length = static_cast<size_t>(next - at);
            return fail(SparseTextError::kOutOfRange);
        }
        at = next;
        if (std::isnan(*value))
            return fail(SparseTextError::kNan);
        return !std::isinf(*value) || fail(SparseTextError::kInfinite);
    }

    bool add(long long index, float value) {
        constexpr long long kGreatest = std::numeric_limits<int32_t>::max();
        index_below |= index < 1;
        greatest = std::max(greatest, index);
        if (value == 0)
            return true;
        if (result.count == max_count)
            return fail(SparseTextError::kTooMany);
        out[result.count++] = {static_cast<int32_t>(std::clamp(index - 1, 0LL, kGreatest)), value};
        return true;
    }

    bool read_entries() {
        at = skip_space(at);
        if (*at != '{')
            return fail(SparseTextError::kNoOpening);
        at = skip_space(at + 1);
        if (*at == '}') {
            at++;
            return true;
        }
        for (;;) {
            long long index;
            float value;
            if (!read_index(&index) || !expect(':') || !read_value(&value) || !add(index, value))
                return false;
            at = skip_space(at);
            if (*at == '}') {
                at++;
                return true;
            }
            if (!expect(','))
                return false;
        }
    }

    bool read_dim() {
        at = skip_space(at);
        if (*at == '\0')
            return fail(SparseTextError::kEnd);
        if (!expect('/') || !read_index(&result.dim))
            return false;
        return *skip_space(at) == '\0' || fail(SparseTextError::kJunk);
    }

    void finish() {
        auto before = [](const SparseEntry &a, const SparseEntry &b) { return a.index < b.index; };
        auto same = [](const SparseEntry &a, const SparseEntry &b) { return a.index == b.index; };
        if (index_below || greatest > result.dim) {
            fail(SparseTextError::kIndex);
            return;
        }
        std::sort(out, out + result.count, before);
        if (std::adjacent_find(out, out + result.count, same) != out + result.count)
            fail(SparseTextError::kDuplicate);
    }

    long long greatest = 0;
};

} // namespace

size_t count_sparse_text(const char *text, size_t max_count) {
    size_t count = 1;
    for (const char *at = text; count < max_count && (at = std::strchr(at, ',')) != nullptr; at++)
        count++;
    return count;
}

SparseTextResult parse_sparse_text(const char *text, SparseEntry *out, size_t max_count) {
    Parser parser{text, text + std::strlen(text), out, max_count};
    if (parser.read_entries() && parser.read_dim())
        parser.finish();
    return parser.result;
}

} // namespace ann
