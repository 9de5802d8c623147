// Building an HNSW graph in memory, on several threads, by hnswlib.
#pragma once

#include <memory>

#include "extension/core/build_rows.h"
#include "extension/core/built_graph.h"
#include "extension/core/worker_threads.h"

namespace ann {

struct GraphOptions {
    VectorSpace space;
    uint32_t m;
    uint32_t ef_construction;
    uint32_t slots; // level-0 neighbours per node in the result; at least 2 * m
    bool fill;      // free places go to the nearest neighbours of neighbours
    bool by_bytes;  // neighbours are found by ByteVectors, where those are fine enough; dense only
};

// The phases run in this order: insert (add_all), lists (collect_lists). Each runs on worker
// threads and takes `stop`, so that the owner may give up.
class GraphBuilder {
  public:
    // `rows` must outlive the builder. Vectors of floats are consumed, unless by bytes. Throws
    // std::bad_alloc.
    GraphBuilder(const GraphOptions &options, BuildRows &rows);
    ~GraphBuilder();

    // Bytes a build needs for each entry beside what BuildRows holds.
    static size_t bytes_per_entry(const GraphOptions &options);
    bool by_bytes() const { return options_.by_bytes; }

    // One thread's share of adding all entries to the graph.
    void add_all(const std::atomic<bool> &stop);
    uint32_t added() const { return added_; }

    // One thread's share of making the level-0 lists, sorted by distance.
    void collect_lists(const std::atomic<bool> &stop);
    // After collect_lists() on all threads: marks the tree. On one thread.
    void connect();

    uint32_t size() const { return rows_.size(); }
    uint32_t entry_point() const;
    int level(uint32_t node) const;
    // The node's neighbours on a level above 0: at most m, written to `out`; returns how many.
    uint32_t upper_neighbors(uint32_t node, int level, uint32_t *out) const;
    NeighborLists &lists() { return lists_; }
    const void *vector(uint32_t node) const;
    float distance(uint32_t a, uint32_t b) const {
        return options_.space.distance(vector(a), vector(b));
    }

  private:
    struct Impl;

    // What hnswlib has of the node.
    const void *point(uint32_t node) const;
    // Whether the vectors stay in BuildRows.
    bool keeps_rows() const;
    // By bytes, where those are used.
    float near_distance(uint32_t a, uint32_t b) const;
    void collect_list(uint32_t node);
    void mark_chosen(std::vector<std::pair<float, uint32_t>> &list);
    void add_two_hops(uint32_t node, std::vector<std::pair<float, uint32_t>> &list);

    GraphOptions options_;
    BuildRows &rows_;
    NeighborLists lists_;
    std::atomic<uint32_t> next_ = 0;
    std::atomic<uint32_t> added_ = 0;
    std::atomic<uint32_t> collected_ = 0;
    std::unique_ptr<Impl> impl_;
};

} // namespace ann
