#include "extension/core/byte_vectors.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "extension/core/rotation.h"

namespace ann {
namespace {

constexpr uint64_t kSeed = 0x5DEECE66D;
constexpr uint32_t kSample = 4096;
constexpr uint32_t kProbes = 64;
// Of the sample's longest vector's root mean square: what is beyond is cut off.
constexpr float kWidest = 5;
constexpr int kLargest = 127;
// The largest relative error of the squared distance of near neighbours.
constexpr float kTolerance = 0.02F;

uint32_t sample_size(const BuildRows &rows) {
    return std::min(rows.size(), kSample);
}

// One of a sample taken evenly from all; `room`: dim floats.
const float *sample(const BuildRows &rows, uint32_t i, std::vector<float> &room) {
    uint64_t entry = static_cast<uint64_t>(i) * rows.size() / sample_size(rows);
    return rows.space().floats(rows.vector(static_cast<uint32_t>(entry)), room.data());
}

} // namespace

uint32_t byte_l2_portable(const uint8_t *a, const uint8_t *b, size_t count) {
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        int difference = static_cast<int8_t>(a[i]) - static_cast<int8_t>(b[i]);
        sum += static_cast<uint32_t>(difference * difference);
    }
    return sum;
}

ByteDistance byte_l2() {
#if defined(__x86_64__)
    switch (kernels().level) {
    case SimdLevel::kAvx512:
        return byte_l2_avx512;
    case SimdLevel::kAvx2:
        return byte_l2_avx2;
    case SimdLevel::kPortable:
        break;
    }
#endif
    return byte_l2_portable;
}

ByteVectors::ByteVectors(Metric metric, const BuildRows &rows)
    : metric_(metric), dim_(rows.dim()), center_(rows.dim()), l2_squared_(byte_l2()) {
    if (rows.size() == 0)
        return;
    choose_step(rows);
    if (std::isfinite(squared_step_) && squared_step_ > 0)
        compare_with_sample(rows);
}

void ByteVectors::choose_step(const BuildRows &rows) {
    uint32_t size = sample_size(rows);
    std::vector<double> sums(dim_);
    std::vector<float> room(dim_);
    for (uint32_t i = 0; i < size; i++) {
        const float *vector = sample(rows, i, room);
        for (uint32_t k = 0; k < dim_; k++)
            sums[k] += vector[k];
    }
    for (uint32_t k = 0; k < dim_; k++)
        center_[k] = static_cast<float>(sums[k] / size);
    float longest = 0;
    for (uint32_t i = 0; i < size; i++)
        longest =
            std::max(longest, kernels().l2_squared(sample(rows, i, room), center_.data(), dim_));
    step_ = kWidest * std::sqrt(longest / static_cast<float>(dim_)) / kLargest;
    squared_step_ = step_ * step_;
}

void ByteVectors::compare_with_sample(const BuildRows &rows) {
    uint32_t size = sample_size(rows), probes = std::min(size, kProbes);
    std::vector<float> nearest, own_room(dim_), room(dim_);
    for (uint32_t probe = 0; probe < probes; probe++) {
        uint32_t own = static_cast<uint32_t>(static_cast<uint64_t>(probe) * size / probes);
        const float *own_vector = sample(rows, own, own_room);
        float squared = std::numeric_limits<float>::infinity();
        for (uint32_t i = 0; i < size; i++)
            if (i != own)
                squared = std::min(squared,
                                   kernels().l2_squared(own_vector, sample(rows, i, room), dim_));
        nearest.push_back(squared);
    }
    // Some may have a near duplicate, of which nothing hangs.
    std::sort(nearest.begin(), nearest.end());
    float near = std::sqrt(nearest[probes / 10]);
    fine_enough_ = 0.82F * step_ <= kTolerance * near;
}

float ByteVectors::norm(const uint8_t *encoded) const {
    float norm;
    std::memcpy(&norm, encoded + padded(dim_), sizeof(norm));
    return norm;
}

void ByteVectors::encode(const float *vector, float *room, uint8_t *out) const {
    float *rotated = room + padded_dim(dim_);
    for (uint32_t i = 0; i < dim_; i++)
        room[i] = vector[i] - center_[i];
    rotate(kSeed, room, dim_, rotated);
    float inverse_step = 1 / step_;
    constexpr float kMost = kLargest;
    uint32_t count = padded_dim(dim_);
    for (uint32_t i = 0; i < count; i++) {
        float scaled = std::min(std::max(rotated[i] * inverse_step, -kMost), kMost);
        out[i] = static_cast<uint8_t>(static_cast<int8_t>(std::lrint(scaled)));
    }
    std::memset(out + count, 0, padded(dim_) - count);
    auto squared = static_cast<float>(squared_norm(vector, dim_));
    std::memcpy(out + padded(dim_), &squared, sizeof(squared));
}

} // namespace ann
