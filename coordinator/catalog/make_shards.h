// The steps that turn an ordinary table into shards and a shell. All work in the caller's
// transaction, remote work included: an error leaves neither shards nor metadata.
#pragma once

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "utils/relcache.h"
}

namespace panvel {

// Catalog rows of a shard with a placement on each of the nodes, the leader first.
void insert_shard(Relation shards, Relation placements, int32 colocation_id, int64 hash_min,
                  int64 hash_max, const int32 *nodes, int node_count);
void insert_placement(Relation placements, int64 shard_id, int32 node_id, bool leader);
// How many placements are on the node.
int64 count_placements(int32 node_id);

// The catalog row of the table; find_distributed_table() answers from then on. `column`: 0 for a
// reference table.
void insert_distributed_table(Relation relation, AttrNumber column, int32 colocation_id);

// Creates the shards on the nodes, moves the rows there, and makes the table a shell. Closes
// `relation`, as open_distributable() gave it. `new_group`: the shards' schemas are
// created too.
void move_to_shards(Relation relation, bool new_group);

// Makes the placement on a node that has none yet: schema, table, the rows that `source` has, and
// indexes. `table` has one shard. The caller keeps writers out.
void copy_to_node(const DistributedTable *table, Relation relation, int32 source, int32 target);

// Once the tables that its foreign keys reference are there as well: these, and what else comes
// after the rows.
void finish_copy(const DistributedTable *table, Relation relation, int32 target);

// Copies the rows of a shard of the table from one node to another, into an empty table there.
// `progress` is told how many more have been read.
void copy_shard_rows(Relation relation, int64 shard_id, int32 source, int32 target,
                     void (*progress)(int64 rows));

// Makes a placement without rows of a shard on a node that has none: schema, journal and the tables
// (List of Oid, all of the shard's group, which the caller has locked against DDL).
void create_placement(List *tables, int64 shard_id, int32 target);

} // namespace panvel
