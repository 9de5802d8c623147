#include "extension/core/built_graph.h"

#include <limits>
#include <numeric>
#include <stdexcept>

namespace ann {
namespace {

class UnionFind {
  public:
    explicit UnionFind(uint32_t size) : parent_(size), sets_(size) {
        std::iota(parent_.begin(), parent_.end(), 0);
    }
    uint32_t find(uint32_t node) {
        while (parent_[node] != node)
            node = parent_[node] = parent_[parent_[node]];
        return node;
    }
    void unite(uint32_t a, uint32_t b) {
        parent_[find(a)] = find(b);
        sets_--;
    }
    uint32_t sets() const { return sets_; }

  private:
    std::vector<uint32_t> parent_;
    uint32_t sets_;
};

bool keep_both(NeighborLists &lists, uint32_t a, uint32_t b, float distance) {
    if (!lists.can_keep(a, b) || !lists.can_keep(b, a))
        return false;
    lists.keep_neighbor(a, b, distance);
    lists.keep_neighbor(b, a, distance);
    return true;
}

// Joins the set of `node` to another one, preferably where it is near. False when the node has no
// room for a link.
bool join_set(NeighborLists &lists, UnionFind &sets, uint32_t node, const NearestFunction &nearest,
              const PairDistance &distance) {
    auto try_node = [&](uint32_t other) {
        if (sets.find(other) == sets.find(node) ||
            !keep_both(lists, node, other, distance(node, other)))
            return false;
        sets.unite(node, other);
        return true;
    };
    for (uint32_t other : nearest(node))
        if (try_node(other))
            return true;
    for (uint32_t other = 0; other < lists.nodes; other++)
        if (try_node(other))
            return true;
    return false;
}

} // namespace

NeighborLists::NeighborLists(uint32_t node_count, uint32_t slot_count)
    : nodes(node_count), slots(slot_count),
      links(static_cast<size_t>(node_count) * slot_count, kNoNode),
      distances(static_cast<size_t>(node_count) * slot_count, 0),
      kept(static_cast<size_t>(node_count) * ((slot_count + 31) / 32), 0) {}

bool NeighborLists::can_keep(uint32_t node, uint32_t neighbor) const {
    const uint32_t *list = &links[static_cast<size_t>(node) * slots];
    for (uint32_t i = 0; i < slots; i++)
        if (list[i] == kNoNode || list[i] == neighbor || !is_kept(node, i))
            return true;
    return false;
}

bool NeighborLists::keep_neighbor(uint32_t node, uint32_t neighbor, float distance) {
    std::span<uint32_t> list = of(node);
    uint32_t place = kNoNode;
    float farthest = -std::numeric_limits<float>::infinity();
    for (uint32_t i = 0; i < slots; i++) {
        if (list[i] == neighbor || list[i] == kNoNode) {
            place = i;
            break;
        }
        if (!is_kept(node, i) && (place == kNoNode || distances_of(node)[i] >= farthest)) {
            farthest = distances_of(node)[i];
            place = i;
        }
    }
    if (place == kNoNode)
        return false;
    list[place] = neighbor;
    distances_of(node)[place] = distance;
    keep(node, place);
    return true;
}

uint64_t keep_connected(NeighborLists &lists, const NearestFunction &nearest,
                        const PairDistance &distance) {
    UnionFind sets(lists.nodes);
    for (uint32_t rank = 0; rank < lists.slots && sets.sets() > 1; rank++) {
        for (uint32_t node = 0; node < lists.nodes; node++) {
            uint32_t other = lists.of(node)[rank];
            if (other == kNoNode || sets.find(node) == sets.find(other))
                continue;
            if (keep_both(lists, node, other, lists.distances_of(node)[rank]))
                sets.unite(node, other);
        }
    }
    uint64_t made = 0;
    for (uint32_t node = 1; node < lists.nodes && sets.sets() > 1; node++) {
        while (sets.find(node) != sets.find(0) && join_set(lists, sets, node, nearest, distance))
            made++;
    }
    // A tree has leaves, and a leaf has room unless a list has a single place; every set's leaves
    // have been tried.
    if (sets.sets() > 1)
        throw std::logic_error("cannot connect the graph");
    return made;
}

} // namespace ann
