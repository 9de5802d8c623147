// What rows that are there get in a new column, and as what a column's values are kept when its
// type changes: expressions of the statement, evaluated or checked here once.
#pragma once

#include "coordinator/ddl/table_diff.h"

extern "C" {
#include "nodes/parsenodes.h"
}

namespace panvel {

// Adds to diff->changes the value of each new column's default. Volatile defaults (sequences,
// random()) are refused unless the table has no rows.
void note_new_columns(TableDiff *diff);

// The text of ALTER TYPE's USING; an error where its value could differ between copies.
char *conversion_text(Relation relation, Node *raw, const char *query_string);

} // namespace panvel
