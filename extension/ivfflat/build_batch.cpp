#include "extension/ivfflat/build.h"

namespace ivf {

BuildBatch::BuildBatch(const IvfIndex &index, const BuildLists &lists)
    : index_(index), build_lists_(lists),
      nearest_(lists.centroids.data(), lists.count(), index.meta.dim, index.form.spherical()),
      capacity_(capacity(index)), vector_bytes_(index.list.vector_bytes),
      code_bytes_(ann::code_bytes(index.list.coded, index.list.bits)),
      floats_(static_cast<size_t>(capacity_) * index.meta.dim),
      vectors_(static_cast<size_t>(capacity_) * vector_bytes_),
      codes_(static_cast<size_t>(capacity_) * code_bytes_), multipliers_(capacity_),
      scores_(capacity_), tids_(capacity_), lists_(capacity_), factors_(capacity_) {}

// A few MB: large enough for the start of threads to be nothing, small beside any memory.
uint32 BuildBatch::capacity(const IvfIndex &index) {
    constexpr uint32 kBytes = 2 * 1024 * 1024, kMost = 4096;
    uint32 bytes = index.meta.dim * static_cast<uint32>(sizeof(float)) + index.list.vector_bytes;
    return Min(Max(kBytes / bytes, 1), kMost);
}

void BuildBatch::add(const IndexedValue &value, ann::Tid tid) {
    memcpy(&floats_[static_cast<size_t>(count_) * index_.meta.dim], value.floats,
           index_.meta.dim * sizeof(float));
    memcpy(&vectors_[static_cast<size_t>(count_) * vector_bytes_], value.bytes, vector_bytes_);
    multipliers_[count_] = value.multiplier;
    tids_[count_] = tid;
    count_++;
}

void BuildBatch::encode(uint32 row, float *rotated) {
    const ann::ListLayout &l = index_.list;
    ann::rotate(index_.meta.rotation_seed, &floats_[static_cast<size_t>(row) * l.dim], l.dim,
                rotated);
    const float *center = &build_lists_.centers[static_cast<size_t>(lists_[row]) * l.padded];
    factors_[row] =
        ann::encode_member(index_.form.code_metric(), center, rotated, l.padded, l.coded, l.bits,
                           &codes_[static_cast<size_t>(row) * code_bytes_]);
}

void BuildBatch::work(const std::atomic<bool> &stop) {
    constexpr uint32 kShare = ann::NearestRows::kBatch;
    std::vector<float> rotated(index_.list.padded);
    for (uint32 first; !stop && (first = next_.fetch_add(kShare)) < count_;) {
        uint32 rows = Min(kShare, count_ - first);
        nearest_.find(&floats_[static_cast<size_t>(first) * index_.meta.dim], rows, &lists_[first],
                      &scores_[first]);
        for (uint32 i = 0; index_.list.has_codes() && i < rows; i++)
            encode(first + i, rotated.data());
    }
}

BuildRow BuildBatch::row(uint32 row) const {
    return {tids_[row], multipliers_[row], factors_[row],
            codes_.data() + static_cast<size_t>(row) * code_bytes_,
            vectors_.data() + static_cast<size_t>(row) * vector_bytes_};
}

} // namespace ivf
