#include "coordinator/core/placement.h"

#include <algorithm>
#include <stdexcept>

namespace panvel {

std::vector<std::vector<int32_t>> plan_placements(std::vector<NodeLoad> nodes, uint32_t shard_count,
                                                  uint32_t replication_factor) {
    if (replication_factor < 1 || replication_factor > nodes.size())
        throw std::invalid_argument("replication factor out of range");
    std::sort(nodes.begin(), nodes.end(), [](const NodeLoad &a, const NodeLoad &b) {
        return a.placements != b.placements ? a.placements < b.placements : a.node_id < b.node_id;
    });

    // Round robin. The followers of a node's shards go to different nodes from round to round, so
    // that the load of a lost node falls on all others and not on its neighbour alone.
    auto count = static_cast<uint32_t>(nodes.size());
    std::vector<std::vector<int32_t>> plan(shard_count);
    for (uint32_t shard = 0; shard < shard_count; shard++) {
        uint32_t leader = shard % count;
        uint32_t round = shard / count;
        plan[shard].push_back(nodes[leader].node_id);
        for (uint32_t i = 1; i < replication_factor; i++) {
            uint32_t offset = 1 + (round + i - 1) % (count - 1);
            plan[shard].push_back(nodes[(leader + offset) % count].node_id);
        }
    }
    return plan;
}

} // namespace panvel
