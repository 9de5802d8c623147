// Where the shards of a new table go. Pure C++.
#pragma once

#include <cstdint>
#include <vector>

namespace panvel {

struct NodeLoad {
    int32_t node_id;
    int64_t placements; // it holds already
};

// The nodes of each of `shard_count` shards, `replication_factor` different ones, the leader
// first. Placements and leaders are spread evenly: any two nodes differ by at most one shard led
// and by at most `replication_factor` placements; what does not divide goes to the nodes that
// hold least. The same input gives the same plan.
// REQUIRES: 1 <= replication_factor <= nodes.size().
std::vector<std::vector<int32_t>> plan_placements(std::vector<NodeLoad> nodes, uint32_t shard_count,
                                                  uint32_t replication_factor);

} // namespace panvel
