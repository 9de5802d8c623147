// Tables whose definition a statement may change: an image is taken before, another one when the
// statement has ended, and the shards are told the difference.
#pragma once

#include "coordinator/catalog/metadata.h"
#include "coordinator/ddl/table_diff.h"

namespace panvel {

// From now to the end of the statement under way the table may change. Its image is taken now.
// REQUIRES: a lock on it that keeps other sessions' definitions out.
void watch_table(const DistributedTable *table);
bool is_watched(Oid relid);

// What a statement says about a column beyond what the catalog will tell. REQUIRES: is_watched().
void note_column_change(Oid relid, const ColumnChange *change);

// Statements nest. What is watched inside of one that began at the mark is settled at its end:
// checked, and sent to the shards.
int begin_watching();
void settle_watched(int mark);

// What new shards get once their rows are there: foreign keys, policies, statistics objects, and
// what else shard_table_commands() and shard_index_commands() leave out. `table` has the placements
// to finish. REQUIRES: search_path = pg_catalog (enter_qualified_names()).
void finish_shards(const DistributedTable *table, Relation relation);

void init_watch(); // callbacks; from init_ddl()

} // namespace panvel
