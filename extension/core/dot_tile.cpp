// The choice of a tile kernel, and the portable one.
#include "extension/core/dot_tile.h"

#include <cstring>

#include "extension/core/distance.h"

namespace ann {
namespace {

typedef float Float4 __attribute__((vector_size(16)));

void add(Float4 &sums, const Float4 &a, const float *b) {
    Float4 v;
    std::memcpy(&v, b, sizeof(v));
    sums += a * v;
}

} // namespace

void dot_tile_portable(const float *point0, const float *point1, const float *rows, size_t stride,
                       size_t dim, float *out) {
    Float4 sums[kTilePoints * kTileRows] = {};
    size_t i = 0;
    for (; i + 4 <= dim; i += 4) {
        Float4 a, b;
        std::memcpy(&a, point0 + i, sizeof(a));
        std::memcpy(&b, point1 + i, sizeof(b));
        for (size_t r = 0; r < kTileRows; r++) {
            add(sums[r], a, rows + r * stride + i);
            add(sums[kTileRows + r], b, rows + r * stride + i);
        }
    }
    for (size_t k = 0; k < kTilePoints * kTileRows; k++) {
        const float *point = k < kTileRows ? point0 : point1;
        const float *row = rows + k % kTileRows * stride;
        float sum = (sums[k][0] + sums[k][2]) + (sums[k][1] + sums[k][3]);
        for (size_t j = i; j < dim; j++)
            sum += point[j] * row[j];
        out[k] = sum;
    }
}

DotTile dot_tile() {
#if defined(__x86_64__)
    switch (kernels().level) {
    case SimdLevel::kAvx512:
        return dot_tile_avx512;
    case SimdLevel::kAvx2:
        return dot_tile_avx2;
    case SimdLevel::kPortable:
        break;
    }
#endif
    return dot_tile_portable;
}

} // namespace ann
