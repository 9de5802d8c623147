// Utility statements on distributed tables: what is done on the shards, what stays on the
// coordinator, and what is refused. See README.md in this directory.
#pragma once

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "nodes/parsenodes.h"
#include "parser/parse_node.h"
}

namespace panvel {

void init_ddl(); // hooks; from _PG_init

// ---- targets.cpp: which distributed table a statement is about

// The distributed table behind the name, also by the name of one of its indexes; null when the
// name is something else, or nothing.
const DistributedTable *distributed_target(const RangeVar *name);
const DistributedTable *distributed_by_relid(Oid relid); // of a table or an index

// Raises 0A000: "<construct> is not supported on distributed table "items"".
[[noreturn]] void refuse_on_table(Oid relid, const char *construct, const char *hint);

// Raises 0A000 when the statement would change a distributed table in a way that its shards do
// not follow.
void refuse_unsupported(Node *statement);

// All distributed tables that have a row in the catalog, as List of Oid.
List *all_distributed_tables();

// ---- copy.cpp

// COPY table FROM; returns the number of rows.
uint64 copy_from(ParseState *pstate, const CopyStmt *statement);

// COPY table TO as COPY (SELECT ...) TO.
CopyStmt *copy_to_as_query(const DistributedTable *table, const CopyStmt *statement);

// ---- index_ddl.cpp

// The shell's indexes that a shard may lack (concurrent_index.h); of all tables when it is null.
List *invalid_indexes(const DistributedTable *table);

// After the shell. `invalid`: what invalid_indexes() said before.
void reindex_shards(const DistributedTable *table, const ReindexStmt *statement, List *invalid);
void reindex_many(const ReindexStmt *statement, List *invalid); // of a schema or the database

void cluster_shards(const DistributedTable *table, const ClusterStmt *statement);

// ---- maintenance.cpp

void truncate_shards(List *tables); // DistributedTable *
// Returns the samples (List of TableSample *) for the statistics of the shells where the statement
// is to ANALYZE; else NIL.
List *vacuum_shards(List *relations, const VacuumStmt *statement, bool is_top_level);

// ---- set_constraints.cpp

// SET CONSTRAINTS, for the rest of the transaction on all nodes that have such constraints.
void set_constraints_on_nodes(const ConstraintsSetStmt *statement);

// ---- drops.cpp

// From the object access hook: something is about to be dropped.
void note_drop(Oid class_id, Oid object_id, int sub_id);

// Drops the shards of the tables that were noted.
void flush_drops();
void init_drops();

// While it is true, parts of tables that go from a shell are none of the shards' business.
void ignore_drops(bool ignore);

// Drops the table's shards and its metadata, and with a group's last table the group's: the table
// itself stays and is an ordinary one from now on.
void forget_table(const DistributedTable *table);

// ---- helpers

// Names of the table's (or an index's) counterparts on one node, comma separated; null when the
// node has none.
char *shard_names_on_node(const DistributedTable *table, int32 node_id, const char *relation_name);
List *nodes_of_table(const DistributedTable *table); // integer List of node_id

} // namespace panvel
