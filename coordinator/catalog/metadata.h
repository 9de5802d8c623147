// The coordinator's metadata as the planner and executor see it: distributed tables, their
// shards, where those are placed, and the nodes.
//
// The truth is in ordinary catalog tables (sql/panvel/10_catalog.sql). What is here is a cache
// per backend, dropped by relation cache invalidation: whoever changes the catalog of a table or
// a node calls invalidate_table() or invalidate_nodes() in the same transaction.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "access/attnum.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
}

namespace panvel {

struct ClusterNode {
    int32 node_id;
    const char *name;
    const char *host;
    int32 port;
    const char *dbname;
};

struct Placement {
    int32 node_id;
    bool leader;
    bool active;    // in the in-sync set
    bool journaled; // if not: what it misses is noted in the leader's journal
    bool filled;    // it has rows, of now or of before
};

struct Shard {
    int64 shard_id;
    int64 hash_min;           // inclusive
    int64 hash_max;           // inclusive
    char schema[NAMEDATALEN]; // "panvel_s<shard_id>", the same on every node
    int64 epoch;              // of the in-sync set (coordinator/replication)
    int placement_count;
    const Placement *placements; // the leader first
};

struct DistributedTable {
    Oid relid;
    // A copy on every node, in one shard with a placement on each. It has no distribution column:
    // the next four are 0.
    bool is_reference;
    AttrNumber distribution_attribute;
    Oid distribution_type;
    Oid distribution_collation;
    FmgrInfo hash; // extended hash function of the type's default hash operator class
    int32 colocation_id;
    int replication_factor;
    double row_estimate; // as of the last ANALYZE; negative: unknown
    int64 page_estimate;
    int shard_count;
    const Shard *shards; // ascending by hash_min
};

// The distributed table behind `relid`, or null when it is an ordinary relation. Cheap enough for
// every relation of every query. The result is valid until the end of the transaction, also when
// the metadata changes meanwhile (it then describes the state before).
const DistributedTable *find_distributed_table(Oid relid);

// Same, but an error (42809) that names the relation when it is not distributed.
const DistributedTable *get_distributed_table(Oid relid);

// The node; an error (42704) when there is none. Valid until the end of the transaction.
const ClusterNode *get_node(int32 node_id);
const ClusterNode *find_node_by_name(const char *name); // null when there is none

// All nodes, as List of ClusterNode *, by node_id.
List *all_nodes();

// Index into table->shards for a non-null value of the distribution column's type.
// REQUIRES: not a reference table.
int shard_index_for_value(const DistributedTable *table, Datum value);

// Whether a shard has followers that get its writes (coordinator/replication). Reference tables
// have copies, which is another thing.
inline bool is_replicated(const DistributedTable *table) {
    return table->replication_factor > 1 && !table->is_reference;
}

// The table as it is now, with the in-sync sets that every write acknowledged by now was made to:
// for use at execution, where a plan or an open transaction may have older metadata.
const DistributedTable *refresh_table(const DistributedTable *table);

// "panvel_s12.items", quoted as needed: the shard's table on its nodes.
char *shard_relation_name(const DistributedTable *table, const Shard *shard);

// The node whose placement of the shard answers reads (one that is avoided only where all are), and
// the one that takes writes (of a reference table: the one whose result counts). `avoided`: integer
// List of node_id. `stale_too`: where no placement in sync is known to answer, one that may lack
// acknowledged writes does.
int32 read_node(const Shard *shard, List *avoided = NIL, bool stale_too = false);
int32 write_node(const Shard *shard);

// Whether a placement of the shard that can be read is on the node.
bool is_readable_on(const Shard *shard, int32 node_id);

// Writers of a reference table take turns, so that all copies see the same statements in the same
// order: held until the end of the transaction, when all copies have committed. add_node() takes it
// as well. Metadata read after it has the placements as they are.
void lock_reference_table(Oid relid);

// All reference tables, as List of Oid.
List *all_reference_tables();

// Tables of one colocation group, as List of Oid, in no order.
List *colocated_tables(int32 colocation_id);

// The table of this name whose shard this is; invalid when there is none.
Oid find_table_of_shard(int64 shard_id, const char *name);

// Another number whenever the definition of a distributed table that this backend knows may have
// changed: statements prepared on nodes before that may expect other columns.
uint64 definition_generation();

void invalidate_table(Oid relid);
void invalidate_nodes();

void init_metadata(); // callbacks; from _PG_init

} // namespace panvel
