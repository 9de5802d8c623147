// The vectors of an index: in which form their bytes are kept, and how far they are apart.
//
//   form      bytes
//   kFloats   dim floats; under cosine of unit length
//   kHalves   dim halves; under cosine as they came, followed by a float, 1 / their length, so that
//             nothing is lost to rounding
//   kBits     dim bits, eight a byte, unused ones 0
//   kSparse   uint32 count, then count indices and count float values; under cosine of unit length
#pragma once

#include <cstring>

#include "extension/core/distance.h"
#include "extension/core/sparse_vector.h"

namespace ann {

// Values are on disk.
enum class VectorForm : uint8_t { kFloats = 0, kHalves = 1, kBits = 2, kSparse = 3 };

struct VectorSpace {
    VectorForm form;
    Metric metric;
    uint32_t dim;

    // Of floats or halves.
    bool dense() const { return form <= VectorForm::kHalves; }
    // Of one size for all; that is bytes().
    bool fixed_size() const { return form != VectorForm::kSparse; }
    // Bytes of a vector; of sparse ones those of the zero vector.
    size_t bytes() const;
    // Of this vector.
    size_t bytes(const void *vector) const {
        return fixed_size() ? bytes() : sparse_bytes(sparse_count(vector));
    }
    // Of the largest one.
    size_t max_bytes() const { return fixed_size() ? bytes() : sparse_bytes(kMaxNonzeros); }

    // Distance in the index's sense: smaller is nearer. L2 is squared.
    float distance(const void *a, const void *b) const;

    // REQUIRES: dense(). The vector as `dim` floats, under cosine of unit length. Where it is kept
    // so, it is not copied and `room` (dim floats) is not used.
    const float *floats(const void *vector, float *room) const;

    static size_t sparse_bytes(uint32_t count) {
        return sizeof(uint32_t) + (sizeof(int32_t) + sizeof(float)) * static_cast<size_t>(count);
    }
    static uint32_t sparse_count(const void *vector) {
        uint32_t count;
        std::memcpy(&count, vector, sizeof(count));
        return count;
    }
    // REQUIRES: kSparse.
    static SparseView sparse(const void *vector) {
        const char *indices = static_cast<const char *>(vector) + sizeof(uint32_t);
        uint32_t count = sparse_count(vector);
        return {count, indices, indices + sizeof(int32_t) * static_cast<size_t>(count)};
    }

    // Where a half vector under cosine has 1 / its length.
    size_t scale_offset() const { return (dim * sizeof(Half) + 3) / 4 * 4; }
    float scale(const void *vector) const {
        float value;
        std::memcpy(&value, static_cast<const char *>(vector) + scale_offset(), sizeof(value));
        return value;
    }
};

// Of two vectors of floats; under cosine of unit length.
float metric_distance(Metric metric, const float *a, const float *b, size_t dim);

} // namespace ann
