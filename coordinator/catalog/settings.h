// Settings of new distributed tables.
#pragma once

namespace panvel {

constexpr int kMaxShardCount = 4096;
constexpr int kMaxReplicationFactor = 16;

extern int default_shard_count;        // panvel.shard_count
extern int default_replication_factor; // panvel.replication_factor

} // namespace panvel
