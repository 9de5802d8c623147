// The centroids of an index's lists, and k-means, which finds them.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

namespace ann {

// Finds for points the nearest of some rows, in tiles that stay in the processor's cache.
class NearestRows {
  public:
    // rows: row-major, `dim` floats each, the caller's and unchanged as long as this is in use.
    // By Euclidean distance, or by the greatest inner product.
    NearestRows(const float *rows, uint32_t count, uint32_t dim, bool by_inner_product);

    // For each point the nearest row and its score: half the squared distance less half the
    // point's squared length, or minus the inner product. Any thread.
    void find(const float *points, uint32_t count, uint32_t *rows, float *scores) const;

    static constexpr uint32_t kBatch = 64; // points that find() takes well at once

  private:
    void find_batch(const float *points, uint32_t count, uint32_t *rows, float *scores) const;
    void compare_one(const float *point, uint32_t first, uint32_t last, uint32_t *row,
                     float *score) const;

    const float *rows_;
    uint32_t count_;
    uint32_t dim_;
    std::vector<float> half_norms_; // 0 for inner products
};

struct KMeansTask {
    const float *points; // count x dim; unit vectors (or zero) when spherical
    uint32_t count;
    uint32_t dim;
    uint32_t clusters;
    bool spherical; // by inner product, centroids of unit length
    uint64_t seed;  // the same points and seed give the same centroids on one machine
};

// Runs work on at most `threads` threads, as many as the owner allows, and returns when all have
// ended; `stop` asks them to end soon. It may throw, and kmeans() then lets the exception through.
using ThreadWork = std::function<void(const std::atomic<bool> &stop)>;
using RunThreads = std::function<void(bool parallel, const ThreadWork &work)>;

// k-means: k-means++ (Arthur and Vassilvitskii 2007) on a part of the points, then Lloyd's
// iterations until few points move. More than kFlatClusters are found in two steps: about the root
// of as many, and within each its share. Returns the centroids, row-major: `clusters`, or fewer
// where there are fewer distinct points; none without points.
std::vector<float> kmeans(const KMeansTask &task, const RunThreads &run);

inline constexpr uint32_t kFlatClusters = 2048;

// Bytes that kmeans() needs beside the points.
size_t kmeans_bytes(uint32_t count, uint32_t dim, uint32_t clusters);

} // namespace ann
