// Random text into the parser of `vector`. Every accepted text must give as many finite elements
// as it was promised to, and print to something that parses to the same again.
//
// With Clang this is a libFuzzer program; otherwise it makes its own inputs:
//     cmake -S . -B build-fuzz -DPANVEL_SANITIZE=ON && ninja -C build-fuzz vector_text_fuzz
//     build-fuzz/test/vector_text_fuzz [SECONDS [SEED]]
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "extension/core/vector_text.h"

namespace {

constexpr size_t kMaxDim = 16000;

void require(bool condition, const char *what, const std::string &text) {
    if (condition)
        return;
    std::fprintf(stderr, "%s: %s\n", what, text.c_str());
    std::abort();
}

// True when `text` was accepted.
bool check(const std::string &text) {
    // Exactly as large as promised, so that AddressSanitizer sees a step too far.
    std::vector<char> terminated(text.c_str(), text.c_str() + std::strlen(text.c_str()) + 1);
    std::vector<float> x(ann::count_vector_text(terminated.data(), kMaxDim));
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
    for (float value : x) {
        require(std::isfinite(value), "accepted a value that is not finite", text);
        char number[32];
        char *end = std::to_chars(number, number + sizeof(number), value).ptr;
        printed += (printed.size() > 1 ? "," : "") + std::string(number, end);
    }
    printed += "]";
    std::vector<float> again(x.size());
    auto reparsed = ann::parse_vector_text(printed.c_str(), again.data(), kMaxDim);
    require(reparsed.error == ann::VectorTextError::kNone && reparsed.dim == x.size() &&
                std::memcmp(x.data(), again.data(), x.size() * sizeof(float)) == 0,
            "does not survive a round trip", text);
    return true;
}

} // namespace

#if defined(PANVEL_LIBFUZZER)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check(std::string(reinterpret_cast<const char *>(data), size));
    return 0;
}

#else

namespace {

// A text made of pieces that a vector may consist of, most of the time in a sensible order.
std::string make_text(std::mt19937_64 &random) {
    static const char *const kNumbers[] = {"1",
                                           "-2.5",
                                           "+3",
                                           ".5",
                                           "1.",
                                           "1e-3",
                                           "0x1p3",
                                           "4e38",
                                           "1e-46",
                                           "1e400",
                                           "nan",
                                           "-inf",
                                           "0",
                                           "-0",
                                           "3.4028235e38",
                                           "1e99999",
                                           "0x",
                                           "1e",
                                           "infinity",
                                           "123456789012345678901234567890",
                                           "0.00000000000000000000000000000000000000000001"};
    static const char *const kPieces[] = {",", "[", "]", " ", "\t", "\n",   "e",    "x", "-", "+",
                                          ".", "p", "(", "n", "i",  "\x80", "\xff", "0", "9"};
    auto pick = [&](auto &from) { return from[random() % std::size(from)]; };
    std::string text = random() % 8 == 0 ? "" : "[";
    size_t count = random() % 64 == 0 ? random() % 20000 : random() % 8;
    for (size_t i = 0; i < count; i++)
        text += (i > 0 ? "," : "") +
                (random() % 3 == 0 ? std::string(pick(kNumbers)) : std::to_string(random() % 1000));
    if (random() % 8 != 0)
        text += "]";
    for (size_t changes = random() % 4; changes > 0; changes--) {
        size_t at = random() % (text.size() + 1);
        switch (random() % 3) {
        case 0:
            text.insert(at, pick(kPieces));
            break;
        case 1:
            text.erase(at, random() % 3);
            break;
        default:
            if (at < text.size())
                text[at] = static_cast<char>(random());
        }
    }
    return text;
}

} // namespace

int main(int argc, char **argv) {
    double seconds = argc > 1 ? std::atof(argv[1]) : 10;
    std::mt19937_64 random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device{}());
    auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    size_t texts = 0, accepted = 0;
    while (std::chrono::steady_clock::now() < end) {
        for (int i = 0; i < 100; i++, texts++)
            accepted += check(make_text(random)) ? 1 : 0;
    }
    std::printf("%zu texts, %zu accepted, no failure\n", texts, accepted);
    return 0;
}

#endif
