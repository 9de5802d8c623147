// The statements that make of a shard with the definition `before` one with the definition `after`.
#pragma once

#include "coordinator/catalog/metadata.h"
#include "coordinator/ddl/table_image.h"

namespace panvel {

// What images do not tell about a change of a column.
struct ColumnChange {
    AttrNumber column;
    const char *conversion;    // ALTER TYPE ... USING this; null: the assignment cast
    const char *default_value; // of a new column, for the rows that are there; null: NULL
};

struct TableDiff {
    const DistributedTable *table;
    Relation relation; // in its state after the change
    const TableImage *before;
    const TableImage *after;
    List *changes; // ColumnChange *
};

// Steps that are done on all tables of a statement one after the other: a foreign key needs the
// unique index of the table that it references.
enum class DiffStep { kDropForeignKeys, kDefinition, kAddForeignKeys };

// Statements for the placements of table->shards[shard], as List of char *.
// REQUIRES: search_path = pg_catalog (enter_qualified_names()).
List *diff_commands(const TableDiff *diff, DiffStep step, int shard);

const ColumnChange *find_change(const TableDiff *diff, AttrNumber column);

// Whether the type of the column (its number in both images) is another one now.
bool type_changed(const ColumnImage *before, const ColumnImage *after);

} // namespace panvel
