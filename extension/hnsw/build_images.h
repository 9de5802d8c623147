// The images of a build's elements, made on threads and handed out in the order of their numbers.
// Calls nothing of PostgreSQL.
#pragma once

#include "extension/core/graph_builder.h"
#include "extension/hnsw/codes.h"

namespace vec {

// Where a build puts things, so that every link is known before anything is written;
// build_write.cpp draws it.
class BuildPlan {
  public:
    // REQUIRES: the builder is not empty.
    BuildPlan(const GraphIndex &graph, const ann::GraphBuilder &builder,
              const ann::BuildRows &rows);

    uint32 slots(PageKind kind) const { return graph_.page_slots[kind]; }
    uint32 group_size() const { return layout().rest_bytes > 0 ? slots(kRestPage) : 1; }
    ann::Link element(uint32 node) const;
    // The page of rests of the node's group; in the last group it comes sooner.
    BlockNumber rest_block(uint32 node) const;
    ann::Link upper(uint64 number) const { return nth(upper_base_, kUpperPage, number); }
    ann::Link side(uint64 number) const { return nth(side_base_, kSidePage, number); }
    ann::Link nth(BlockNumber base, PageKind kind, uint64 number) const;
    BlockNumber upper_base() const { return upper_base_; }
    BlockNumber side_base() const { return side_base_; }
    // Numbers of the node's first upper list and first slot of further rows; also for size().
    uint64 first_upper(uint32 node) const { return first_upper_[node]; }
    uint64 first_side(uint32 node) const { return first_side_[node]; }
    // The same of the slots with the rest of the node's sparse vector.
    uint64 first_overflow(uint32 node) const { return first_overflow_[node]; }
    ann::Link overflow(uint64 number) const { return nth(overflow_base_, kRestPage, number); }
    BlockNumber overflow_base() const { return overflow_base_; }
    const ann::ElementLayout &layout() const { return graph_.layout; }

  private:
    uint32 blocks_per_element() const { return 1 + layout().full_pieces; }
    BlockNumber end_of_elements() const;

    const GraphIndex &graph_;
    uint32 size_;
    BlockNumber upper_base_, side_base_, overflow_base_;
    std::vector<uint64> first_upper_, first_side_, first_overflow_;
};

// Threads call make(), the owner next() and done().
class BuildImages {
  public:
    // With `keep_rotated`, every vector is rotated once and kept; else for each edge.
    BuildImages(const GraphIndex &graph, ann::GraphBuilder &builder, const ann::BuildRows &rows,
                bool keep_rotated);

    static size_t rotated_bytes(const GraphIndex &graph, uint32 size);

    const BuildPlan &plan() const { return plan_; }
    // One thread's share of rotating, then of making images.
    void rotate_all(const std::atomic<bool> &stop);
    void make(const std::atomic<bool> &stop);

    // The image of the next element, the caller's until done(); null while it is not ready.
    uint8 *next();
    void done();

    // Encodes the node's edges to `neighbors`, which are at the same places of `list`.
    void encode(const ann::NeighborList &list, uint32 node, const uint32 *neighbors,
                uint32 count) const;

  private:
    static constexpr uint32 kRing = 512; // images under way

    void rotate(uint32 node, float *out) const;
    const float *rotated(uint32 node, Rotated *room) const;
    void fill(uint32 node, ann::ElementImage image) const;
    uint8 *place(uint32 node) { return &ring_[static_cast<size_t>(node % kRing) * bytes_]; }

    const GraphIndex &graph_;
    ann::GraphBuilder &builder_;
    const ann::BuildRows &rows_;
    BuildPlan plan_;
    uint32 padded_;
    size_t bytes_;
    std::vector<float> rotated_;
    std::vector<uint8> ring_;
    std::vector<std::atomic<bool>> ready_;
    std::atomic<uint32> rotating_ = 0, making_ = 0, taken_ = 0;
};

} // namespace vec
