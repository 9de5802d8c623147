// Exact nearest neighbours by brute force, and recall against them. No code of what is measured.
#pragma once

#include "test/bench/dataset.h"
#include "test/bench/vectors.h"

#include <cstdint>
#include <vector>

namespace bench {

constexpr size_t kNeighbours = 10;

using Ids = std::vector<int64_t>;
using Answers = std::vector<Ids>; // by query

class Exact {
  public:
    // The vectors are used as long as this exists; under cosine they must have length 1.
    Exact(const Vectors &base, const Vectors &queries, Metric metric);

    // The part of the ten nearest that was found. An answer counts if it is no farther than the
    // tenth nearest, so that which of several equally far vectors is given does not matter.
    double recall(const Answers &answers) const;

  private:
    float distance(size_t query, size_t id) const;
    float tenth_distance(size_t query) const;

    const Vectors &base_;
    const Vectors &queries_;
    Metric metric_;
    std::vector<float> tenth_;
};

} // namespace bench
