// Random text into the parser of `sparsevec`. Every accepted text must give ascending indices
// within the dimensions with finite values that are not 0, and print to something that parses to
// the same again.
#include <charconv>
#include <cmath>
#include <cstring>
#include <vector>

#include "extension/core/sparse_text.h"
#include "test/fuzz/fuzz.h"

namespace {

constexpr size_t kMaxCount = 16000;

std::string print(const std::vector<ann::SparseEntry> &entries, size_t count, long long dim) {
    std::string printed = "{";
    for (size_t i = 0; i < count; i++) {
        char number[32];
        char *end = std::to_chars(number, number + sizeof(number), entries[i].value).ptr;
        printed += (i > 0 ? "," : "") + std::to_string(entries[i].index + 1LL) + ":" +
                   std::string(number, end);
    }
    return printed + "}/" + std::to_string(dim);
}

bool check(const std::string &text) {
    using fuzz::require;
    // Exactly as large as promised, so that AddressSanitizer sees a step too far.
    std::vector<char> terminated(text.c_str(), text.c_str() + std::strlen(text.c_str()) + 1);
    std::vector<ann::SparseEntry> entries(ann::count_sparse_text(terminated.data(), kMaxCount));
    auto parsed = ann::parse_sparse_text(terminated.data(), entries.data(), kMaxCount);
    require(parsed.count <= entries.size(), "more elements than promised", text);
    if (parsed.error != ann::SparseTextError::kNone) {
        if (parsed.error == ann::SparseTextError::kOutOfRange)
            require(parsed.token >= terminated.data() && parsed.token_length > 0 &&
                        parsed.token + parsed.token_length < terminated.data() + terminated.size(),
                    "token outside of the text", text);
        return false;
    }
    if (parsed.dim < 1 || parsed.dim > 1000000000) // the caller refuses these
        return false;
    for (size_t i = 0; i < parsed.count; i++) {
        const ann::SparseEntry &entry = entries[i];
        require(std::isfinite(entry.value) && entry.value != 0, "accepted an invalid value", text);
        require(entry.index >= 0 && entry.index < parsed.dim &&
                    (i == 0 || entry.index > entries[i - 1].index),
                "accepted an invalid index", text);
    }
    std::string printed = print(entries, parsed.count, parsed.dim);
    std::vector<ann::SparseEntry> again(ann::count_sparse_text(printed.c_str(), kMaxCount));
    auto reparsed = ann::parse_sparse_text(printed.c_str(), again.data(), kMaxCount);
    require(reparsed.error == ann::SparseTextError::kNone && reparsed.count == parsed.count &&
                reparsed.dim == parsed.dim && print(again, reparsed.count, reparsed.dim) == printed,
            "does not survive a round trip", text);
    return true;
}

// A text made of pieces that a sparse vector may consist of, most of the time in a sensible order.
[[maybe_unused]] std::string make(fuzz::Random &random) {
    static const char *const kPieces[] = {",", "{", "}", ":", "/", " ", "\t",   "e",    "x", "-",
                                          "+", ".", "[", "n", "i", "0", "\x80", "\xff", "9"};
    static const char *const kIntegers[] = {"0",          "-1",         "+1",
                                            "2147483647", "2147483648", "1000000000",
                                            "1000000001", "0x1",        "99999999999999999999"};
    auto integer = [&](size_t limit) {
        return random() % 16 == 0 ? std::string(fuzz::pick(random, kIntegers))
                                  : std::to_string(1 + random() % limit);
    };
    std::string text = random() % 16 == 0 ? "" : "{";
    size_t count = random() % 64 == 0 ? random() % 20000 : random() % 8;
    for (size_t i = 0; i < count; i++)
        text += (i > 0 ? "," : "") + integer(count > 100 ? 10000000 : 100) + ":" +
                fuzz::make_number(random);
    if (random() % 16 != 0)
        text += "}/" + (random() % 2 == 0 ? integer(200) : "1000000000");
    fuzz::mutate(random, kPieces, text);
    return text;
}

} // namespace

FUZZ_MAIN(make, check)
