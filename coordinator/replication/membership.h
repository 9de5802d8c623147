// Changes of in-sync sets. Each is a transaction of its own, of a background worker: it neither
// holds a lock while a user's transaction is open nor goes back with one. README.md has the
// protocol.
#pragma once

#include "coordinator/catalog/metadata.h"

namespace panvel {

// Before a statement writes to the table: where a node is down that the in-sync sets of its shards
// can spare (panvel.min_insync_replicas), has it taken out of all sets that can spare it, followers
// taking over from it as leaders, and waits for that. Returns the table as it is then.
const DistributedTable *exclude_down_nodes(const DistributedTable *table);

// 55000 when the shard has fewer in-sync placements than panvel.min_insync_replicas.
void require_insync_replicas(const Shard *shard);

// A placement of a shard as the catalog has it now.
struct CatalogPlacement {
    int64 shard_id;
    int32 node_id;
    bool leader;
    bool active;
    bool copying;
};

// Of one shard, as List of CatalogPlacement *; and all that are not in sync, by shard.
List *placements_of_shard(int64 shard_id);
List *placements_out_of_sync();

// Writes leader, active and copying of a placement back. The caller has the shard's lock where
// `leader` or `active` changes, and calls note_set_changed().
void update_placement(const CatalogPlacement *placement);

// The shard's in-sync set or leader has been changed: raises its epoch and tells all sessions at
// commit.
void note_set_changed(int64 shard_id);

// Tables that have the shard, as List of Oid.
List *tables_of_shard(int64 shard_id);

void init_membership(); // settings; from _PG_init

} // namespace panvel
