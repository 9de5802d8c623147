#include <limits>

#include "extension/core/centroids.h"
#include "extension/core/distance.h"
#include "extension/core/dot_tile.h"

namespace ann {

NearestRows::NearestRows(const float *rows, uint32_t count, uint32_t dim, bool by_inner_product)
    : rows_(rows), count_(count), dim_(dim), half_norms_(count) {
    if (by_inner_product)
        return;
    for (uint32_t i = 0; i < count; i++)
        half_norms_[i] =
            static_cast<float>(squared_norm(rows + static_cast<size_t>(i) * dim, dim) / 2);
}

void NearestRows::find(const float *points, uint32_t count, uint32_t *rows, float *scores) const {
    for (uint32_t i = 0; i < count; i += kBatch)
        find_batch(points + static_cast<size_t>(i) * dim_, std::min(kBatch, count - i), rows + i,
                   scores + i);
}

void NearestRows::compare_one(const float *point, uint32_t first, uint32_t last, uint32_t *row,
                              float *score) const {
    for (uint32_t i = first; i < last; i++) {
        const float *other = rows_ + static_cast<size_t>(i) * dim_;
        float value = half_norms_[i] - kernels().inner_product(point, other, dim_);
        if (value < *score) {
            *score = value;
            *row = i;
        }
    }
}

void NearestRows::find_batch(const float *points, uint32_t count, uint32_t *rows,
                             float *scores) const {
    constexpr uint32_t kRowBlock = 32; // with the batch's points in the second-level cache
    DotTile tile = dot_tile();
    std::fill(rows, rows + count, 0);
    std::fill(scores, scores + count, std::numeric_limits<float>::infinity());
    for (uint32_t block = 0; block < count_; block += kRowBlock) {
        uint32_t end = std::min(count_, block + kRowBlock);
        uint32_t tiled = block + (end - block) / kTileRows * kTileRows;
        uint32_t paired = count / kTilePoints * kTilePoints;
        for (uint32_t p = 0; p < paired; p += kTilePoints) {
            const float *point0 = points + static_cast<size_t>(p) * dim_;
            for (uint32_t r = block; r < tiled; r += kTileRows) {
                float dots[kTilePoints * kTileRows];
                tile(point0, point0 + dim_, rows_ + static_cast<size_t>(r) * dim_, dim_, dim_,
                     dots);
                for (uint32_t k = 0; k < kTilePoints * kTileRows; k++) {
                    uint32_t row = r + k % kTileRows, point = p + k / kTileRows;
                    float value = half_norms_[row] - dots[k];
                    if (value < scores[point]) {
                        scores[point] = value;
                        rows[point] = row;
                    }
                }
            }
            for (uint32_t k = 0; k < kTilePoints; k++)
                compare_one(point0 + k * dim_, tiled, end, &rows[p + k], &scores[p + k]);
        }
        if (paired < count)
            compare_one(points + static_cast<size_t>(paired) * dim_, block, end, &rows[paired],
                        &scores[paired]);
    }
}

} // namespace ann
