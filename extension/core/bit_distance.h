// Distances between bit strings of equal length, eight bits a byte; bits beyond the length are 0 in
// both, as in PostgreSQL's bit type. No alignment required; nothing is read past `bytes`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ann {

// How many bits differ.
uint64_t hamming_distance(const uint8_t *a, const uint8_t *b, size_t bytes);

// 1 - (bits set in both) / (bits set in either), in [0, 1]; 1 when none is set in both.
double jaccard_distance(const uint8_t *a, const uint8_t *b, size_t bytes);

} // namespace ann
