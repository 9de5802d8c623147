// One source, compiled for the baseline and for CPUs with a population count instruction, which
// every CPU with AVX2 has.
#include "extension/core/bit_distance.h"

#include <bit>
#include <cstring>

#include "extension/core/distance.h"

#define INLINE __attribute__((always_inline)) inline

namespace ann {
namespace {

struct Counts {
    uint64_t first;
    uint64_t second;

    INLINE void operator+=(Counts other) {
        first += other.first;
        second += other.second;
    }
};

INLINE uint64_t load(const uint8_t *bytes, size_t count) {
    uint64_t word = 0;
    std::memcpy(&word, bytes, count);
    return word;
}

// The sums over all words of `count(a, b)`; the last word is filled up with zeros.
template <typename Count>
INLINE Counts sum_words(const uint8_t *a, const uint8_t *b, size_t bytes, Count count) {
    constexpr size_t kWord = sizeof(uint64_t);
    Counts sums = {};
    size_t i = 0;
    for (; i + kWord <= bytes; i += kWord)
        sums += count(load(a + i, kWord), load(b + i, kWord));
    if (i < bytes)
        sums += count(load(a + i, bytes - i), load(b + i, bytes - i));
    return sums;
}

INLINE uint64_t ones(uint64_t word) {
    return static_cast<uint64_t>(std::popcount(word));
}

struct Differing {
    INLINE Counts operator()(uint64_t x, uint64_t y) const { return {ones(x ^ y), 0}; }
};

struct BothAndEither {
    INLINE Counts operator()(uint64_t x, uint64_t y) const { return {ones(x & y), ones(x | y)}; }
};

template <typename Count> Counts count_portable(const uint8_t *a, const uint8_t *b, size_t bytes) {
    return sum_words(a, b, bytes, Count{});
}

#if defined(__x86_64__)
template <typename Count>
__attribute__((target("popcnt"))) Counts count_popcnt(const uint8_t *a, const uint8_t *b,
                                                      size_t bytes) {
    return sum_words(a, b, bytes, Count{});
}
#endif

template <typename Count> Counts count(const uint8_t *a, const uint8_t *b, size_t bytes) {
#if defined(__x86_64__)
    if (kernels().level >= SimdLevel::kAvx2)
        return count_popcnt<Count>(a, b, bytes);
#endif
    return count_portable<Count>(a, b, bytes);
}

} // namespace

uint64_t hamming_distance(const uint8_t *a, const uint8_t *b, size_t bytes) {
    return count<Differing>(a, b, bytes).first;
}

double jaccard_distance(const uint8_t *a, const uint8_t *b, size_t bytes) {
    auto [both, either] = count<BothAndEither>(a, b, bytes);
    return both == 0 ? 1 : 1 - static_cast<double>(both) / static_cast<double>(either);
}

} // namespace ann
