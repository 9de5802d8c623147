// Foreign keys that shards can enforce: the referenced row is where the referencing one is.
#pragma once

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "utils/relcache.h"
}

namespace panvel {

// 0A000 with a hint when the key of `table` references rows that may be on other nodes, or has an
// action that a shard cannot carry out.
void check_foreign_key(const DistributedTable *table, Oid constraint);

// All that reference `relation` or that it has: of a table that is about to be distributed as
// `table`. In a transaction block those from tables of the coordinator are checked at its end: both
// tables may be distributed in it.
void check_foreign_keys(const DistributedTable *table, Relation relation);

void init_foreign_keys(); // callbacks; from init_ddl()

// 0A000 when a foreign key connects the table with another distributed one: shards and a table of
// the coordinator cannot check each other's rows.
void check_no_shared_foreign_keys(Oid relid);

// Whether the column takes part in a foreign key, on either side.
bool is_in_foreign_key(Oid relid, AttrNumber column);

// Marks the key as validated, which the shards see to.
void mark_foreign_key_valid(Oid constraint);

// Reference tables whose rows change with those of the reference table `relid`, by CASCADE or SET
// NULL, transitively: List of Oid in ascending order, with relid itself.
List *reference_tables_written_with(Oid relid);

} // namespace panvel
