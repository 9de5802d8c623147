// Changes of in-sync sets. Each is a transaction of its own, of a background worker: it neither
// holds a lock while a user's transaction is open nor goes back with one. README.md has the
// protocol.
#pragma once

#include "coordinator/catalog/metadata.h"

namespace panvel {

// Before a statement writes to the table or locks rows: where a node is down that the in-sync sets
// of its shards can spare (required_placements()), has it taken out of all sets that can spare it,
// followers taking over from it as leaders, and waits for that. Returns the table as it is then.
const DistributedTable *exclude_down_nodes(const DistributedTable *table);

// Has a node that is down taken out of all sets that have another placement that answers.
void exclude_node_everywhere(int32 node_id);

// The same as exclude_down_nodes(), before a statement whose rows leaders can note for placements
// that miss them: with panvel.write_consistency = one, followers that it does not wait for are
// taken out as well.
const DistributedTable *exclude_lagging(const DistributedTable *table);

// A follower keeps a write waiting that need not wait for it: takes the node's placements that
// follow in the table's shards out of those sets that can spare them. What is under way, the
// caller's transaction as well, then ends with 40001.
void exclude_slow_node(const DistributedTable *table, int32 node_id);

// 55000 when the shard has fewer in-sync placements than required_placements().
void require_insync_replicas(const DistributedTable *table, const Shard *shard);

// A placement of a shard as the catalog has it now.
struct CatalogPlacement {
    int64 shard_id;
    int32 node_id;
    bool leader;
    bool active;
    bool copying;
    bool journaled;
    bool filled;
    bool lagging;
};

// Of one shard, as List of CatalogPlacement *; and all that are not in sync, by shard.
List *placements_of_shard(int64 shard_id);
List *placements_out_of_sync();

// Writes all of a placement back but where it is. The caller has the shard's lock where `leader` or
// `active` changes or `journaled` begins, and calls note_set_changed().
void update_placement(const CatalogPlacement *placement);

// The shard's in-sync set or leader has been changed: raises its epoch and tells all sessions at
// commit.
void note_set_changed(int64 shard_id);

// Tables that have the shard, as List of Oid.
List *tables_of_shard(int64 shard_id);

} // namespace panvel
