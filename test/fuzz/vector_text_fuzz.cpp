// Random text into the parsers of `vector` and `halfvec`. Every accepted text must give as many
// finite elements as it was promised to, and print to something that parses to the same again.
#include <charconv>
#include <cmath>
#include <cstring>
#include <vector>

#include "extension/core/vector_text.h"
#include "test/fuzz/fuzz.h"

namespace {

constexpr size_t kMaxDim = 16000;

float widen(float value) {
    return value;
}
float widen(ann::Half value) {
    return ann::to_float(value);
}

template <typename T> bool check_type(const std::string &text) {
    using fuzz::require;
    // Exactly as large as promised, so that AddressSanitizer sees a step too far.
    std::vector<char> terminated(text.c_str(), text.c_str() + std::strlen(text.c_str()) + 1);
    std::vector<T> x(ann::count_vector_text(terminated.data(), kMaxDim));
    auto parsed = ann::parse_vector_text(terminated.data(), x.data(), kMaxDim);
    if (parsed.error != ann::VectorTextError::kNone) {
        if (parsed.error == ann::VectorTextError::kOutOfRange)
            require(parsed.token >= terminated.data() && parsed.token_length > 0 &&
                        parsed.token + parsed.token_length < terminated.data() + terminated.size(),
                    "token outside of the text", text);
        return false;
    }
    require(parsed.dim == x.size(), "not as many elements as promised", text);
    std::string printed = "[";
    for (T element : x) {
        float value = widen(element);
        require(std::isfinite(value), "accepted a value that is not finite", text);
        char number[32];
        char *end = std::to_chars(number, number + sizeof(number), value).ptr;
        printed += (printed.size() > 1 ? "," : "") + std::string(number, end);
    }
    printed += "]";
    std::vector<T> again(x.size());
    auto reparsed = ann::parse_vector_text(printed.c_str(), again.data(), kMaxDim);
    require(reparsed.error == ann::VectorTextError::kNone && reparsed.dim == x.size() &&
                std::memcmp(x.data(), again.data(), x.size() * sizeof(T)) == 0,
            "does not survive a round trip", text);
    return true;
}

bool check(const std::string &text) {
    bool as_halves = check_type<ann::Half>(text);
    bool as_floats = check_type<float>(text);
    fuzz::require(as_floats || !as_halves, "of halves, but not of floats", text);
    return as_floats;
}

// A text made of pieces that a vector may consist of, most of the time in a sensible order.
[[maybe_unused]] std::string make(fuzz::Random &random) {
    static const char *const kPieces[] = {",", "[", "]", " ", "\t", "\n",   "e",    "x", "-", "+",
                                          ".", "p", "(", "n", "i",  "\x80", "\xff", "0", "9"};
    std::string text = random() % 8 == 0 ? "" : "[";
    size_t count = random() % 64 == 0 ? random() % 20000 : random() % 8;
    for (size_t i = 0; i < count; i++)
        text += (i > 0 ? "," : "") + fuzz::make_number(random);
    if (random() % 8 != 0)
        text += "]";
    fuzz::mutate(random, kPieces, text);
    return text;
}

} // namespace

FUZZ_MAIN(make, check)
