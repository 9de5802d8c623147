// Vectors as bytes, by which a build finds neighbours: a quarter of the memory to read for each
// distance, which is what a build waits for.
//
// A vector is taken from the sample's mean, rotated (so that every dimension is about equally
// wide) and rounded to one step for all: x = step * b, b from -127 to 127. Then
//
//   |x - y|^2  ~  step^2 * sum (b_x - b_y)^2
//   -<x, y>    =  (|x - y|^2 - |x|^2 - |y|^2) / 2, |x|^2 being kept as a float
//
// with a standard error of 0.82 step / |x - y|, relative to |x - y|^2.
#pragma once

#include <cstdint>
#include <vector>

#include "extension/core/build_rows.h"
#include "extension/core/distance.h"

namespace ann {

class ByteVectors {
  public:
    // Chooses the step from a sample. Throws std::bad_alloc. REQUIRES: not L1; rows not consumed.
    ByteVectors(Metric metric, const BuildRows &rows);

    // Whether bytes tell the nearest neighbours apart: vectors of very different lengths, or
    // clusters far smaller than the whole, need floats.
    bool are_fine_enough() const { return fine_enough_; }

    // Bytes of an encoded vector.
    static size_t bytes(uint32_t dim) { return padded(dim) + sizeof(float); }
    size_t bytes() const { return bytes(dim_); }
    // `room`: 2 * dim rounded up to 8 floats. Thread-safe.
    void encode(const float *vector, float *room, uint8_t *out) const;
    // Approximates metric_distance() of two encoded vectors.
    float distance(const uint8_t *a, const uint8_t *b) const {
        float squared = static_cast<float>(l2_squared_(a, b, padded(dim_))) * squared_step_;
        return metric_ == Metric::kL2       ? squared
               : metric_ == Metric::kCosine ? squared / 2
                                            : (squared - norm(a) - norm(b)) / 2;
    }

  private:
    static constexpr uint32_t kLanes = 64;
    static size_t padded(uint32_t dim) { return (dim + kLanes - 1) / kLanes * kLanes; }
    float norm(const uint8_t *encoded) const;
    void choose_step(const BuildRows &rows);
    void compare_with_sample(const BuildRows &rows);

    Metric metric_;
    uint32_t dim_;
    float step_ = 0;
    float squared_step_ = 0;
    bool fine_enough_ = false;
    std::vector<float> center_;
    uint32_t (*l2_squared_)(const uint8_t *a, const uint8_t *b, size_t count);
};

// Sum (a-b)^2 of signed bytes. count: a multiple of 64, at most 32,768.
using ByteDistance = uint32_t (*)(const uint8_t *a, const uint8_t *b, size_t count);
uint32_t byte_l2_portable(const uint8_t *a, const uint8_t *b, size_t count);
#if defined(__x86_64__)
uint32_t byte_l2_avx2(const uint8_t *a, const uint8_t *b, size_t count);
uint32_t byte_l2_avx512(const uint8_t *a, const uint8_t *b, size_t count);
#endif
// That of the kernels() in use.
ByteDistance byte_l2();

} // namespace ann
