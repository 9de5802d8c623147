// A graph as a build leaves it, ready to be written to pages.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "extension/core/vector_space.h"

namespace ann {

inline constexpr uint32_t kNoNode = 0xFFFFFFFF;

// Level 0 only: `slots` neighbours per node, kNoNode in free places, which come last.
struct NeighborLists {
    uint32_t nodes = 0;
    uint32_t slots = 0;
    std::vector<uint32_t> links;
    std::vector<float> distances; // with_chosen() (link.h)
    std::vector<uint32_t> kept;   // (slots + 31) / 32 words per node

    NeighborLists() = default;
    NeighborLists(uint32_t node_count, uint32_t slot_count);

    uint32_t words() const { return (slots + 31) / 32; }
    std::span<uint32_t> of(uint32_t node) {
        return {&links[static_cast<size_t>(node) * slots], slots};
    }
    std::span<float> distances_of(uint32_t node) {
        return {&distances[static_cast<size_t>(node) * slots], slots};
    }
    bool is_kept(uint32_t node, uint32_t slot) const {
        return (kept[static_cast<size_t>(node) * words() + slot / 32] >> (slot % 32)) & 1;
    }
    void keep(uint32_t node, uint32_t slot) {
        kept[static_cast<size_t>(node) * words() + slot / 32] |= 1u << (slot % 32);
    }
    // Makes `neighbor` one of `node`'s kept neighbours, in a free place or instead of the farthest
    // that is not kept. False when all places are kept by others.
    bool keep_neighbor(uint32_t node, uint32_t neighbor, float distance);
    // Whether keep_neighbor() would succeed.
    bool can_keep(uint32_t node, uint32_t neighbor) const;
};

// Finds nodes near `node`, nearest first, wherever the graph leads.
using NearestFunction = std::function<std::vector<uint32_t>(uint32_t node)>;
using PairDistance = std::function<float(uint32_t a, uint32_t b)>;

// Marks links so that the kept ones, each in both directions, connect all nodes: a spanning
// forest of the nearest links, its trees joined by new links. REQUIRES: every list sorted by
// distance. Returns how many links had to be made.
uint64_t keep_connected(NeighborLists &lists, const NearestFunction &nearest,
                        const PairDistance &distance);

} // namespace ann
