// Inner products of two points with four rows at once: what k-means and the assignment of rows to
// lists spend their time with. Eight products share six loads.
#pragma once

#include <cstddef>

namespace ann {

inline constexpr size_t kTilePoints = 2, kTileRows = 4;

// out[p * kTileRows + r] = <point p, row r>. `rows` are `stride` floats apart. No alignment
// required, nothing is read past `dim` floats.
using DotTile = void (*)(const float *point0, const float *point1, const float *rows, size_t stride,
                         size_t dim, float *out);

// The best for kernels().level.
DotTile dot_tile();

void dot_tile_avx2(const float *point0, const float *point1, const float *rows, size_t stride,
                   size_t dim, float *out);
void dot_tile_avx512(const float *point0, const float *point1, const float *rows, size_t stride,
                     size_t dim, float *out);
void dot_tile_portable(const float *point0, const float *point1, const float *rows, size_t stride,
                       size_t dim, float *out);

} // namespace ann
