// hnswlib in this process, as its users have it: compiled for this CPU.
#pragma once

#include "test/bench/dataset.h"
#include "test/bench/exact.h"

#include <memory>

namespace bench {

class HnswlibPeer {
  public:
    // Room for `capacity` vectors; under cosine they and the queries must have length 1.
    HnswlibPeer(Metric metric, size_t dim, size_t capacity, size_t m, size_t ef_construction);
    ~HnswlibPeer();
    HnswlibPeer(const HnswlibPeer &) = delete;
    HnswlibPeer &operator=(const HnswlibPeer &) = delete;

    // Adds all vectors, by their place in `base`, from so many threads.
    void build(const Vectors &base, int threads);
    void add(std::span<const float> vector, size_t id);
    // Ten answers to each query, by one thread.
    Answers search(const Vectors &queries, size_t ef);

  private:
    struct Graph;
    std::unique_ptr<Graph> graph_;
};

} // namespace bench
