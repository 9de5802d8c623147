// What the fuzz programs share. With Clang each is a libFuzzer program; otherwise it makes its own
// inputs:
//     cmake -S . -B build-fuzz -DPANVEL_SANITIZE=ON && ninja -C build-fuzz NAME
//     build-fuzz/test/NAME [SECONDS [SEED]]
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

namespace fuzz {

using Random = std::mt19937_64;

inline void require(bool condition, const char *what, const std::string &input) {
    if (condition)
        return;
    std::fprintf(stderr, "%s:", what);
    for (unsigned char c : input)
        std::fprintf(stderr, c >= 32 && c < 127 ? "%c" : "\\x%02x", c);
    std::fprintf(stderr, "\n");
    std::abort();
}

template <typename From> auto pick(Random &random, const From &from) {
    return from[random() % std::size(from)];
}

// Inserts one of `pieces`, takes a little away, or overwrites a byte, up to three times.
template <typename Pieces> void mutate(Random &random, const Pieces &pieces, std::string &input) {
    for (size_t changes = random() % 4; changes > 0; changes--) {
        size_t at = random() % (input.size() + 1);
        switch (random() % 3) {
        case 0:
            input.insert(at, pick(random, pieces));
            break;
        case 1:
            input.erase(at, random() % 3);
            break;
        default:
            if (at < input.size())
                input[at] = static_cast<char>(random());
        }
    }
}

inline constexpr const char *kNumbers[] = {"1",
                                           "-2.5",
                                           "+3",
                                           ".5",
                                           "1.",
                                           "1e-3",
                                           "0x1p3",
                                           "65504",
                                           "65520",
                                           "6e-8",
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

inline std::string make_number(Random &random) {
    return random() % 3 == 0 ? pick(random, kNumbers) : std::to_string(random() % 1000);
}

// Runs check(make(random)), which says whether the input was accepted, for some seconds.
template <typename Make, typename Check> int run(int argc, char **argv, Make make, Check check) {
    double seconds = argc > 1 ? std::atof(argv[1]) : 10;
    Random random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device{}());
    auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    size_t inputs = 0, accepted = 0;
    while (std::chrono::steady_clock::now() < end) {
        for (int i = 0; i < 100; i++, inputs++)
            accepted += check(make(random)) ? 1 : 0;
    }
    std::printf("%zu inputs, %zu accepted, no failure\n", inputs, accepted);
    return 0;
}

} // namespace fuzz

#if defined(PANVEL_LIBFUZZER)
#define FUZZ_MAIN(make, check)                                                                     \
    extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {                      \
        check(std::string(reinterpret_cast<const char *>(data), size));                            \
        return 0;                                                                                  \
    }
#else
#define FUZZ_MAIN(make, check)                                                                     \
    int main(int argc, char **argv) {                                                              \
        return fuzz::run(argc, argv, make, check);                                                 \
    }
#endif
