// What a session asks of replicated tables: panvel.write_consistency, panvel.min_insync_replicas
// and panvel.read_consistency. docs/consistency.md says what each means for a client.
#pragma once

#include "coordinator/catalog/metadata.h"

namespace panvel {

enum class WriteConsistency { kAll, kQuorum, kOne };

WriteConsistency write_consistency();

// How many placements of a shard must be in its in-sync set for this session to write to it.
int required_placements(int replication_factor);

// How many placements of a shard this session's writes wait for, where more are in sync: those are
// then taken out of the set first. `replication_factor` for all of them.
int written_placements(int replication_factor);

// How much longer than the leader a follower may take for its part of a statement, in
// milliseconds; 0: as long as its node answers.
int patience_ms();

// Whether a read may be answered by a placement that lacks acknowledged writes, or by a node on
// which some may not be visible yet.
bool reads_may_be_stale();

void init_consistency(); // settings; from _PG_init

} // namespace panvel
