// ALTER TABLE on distributed tables.
#pragma once

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"
}

namespace panvel {

// The distributed table behind the name, of a table or an index, locked and watched for its owner;
// null when there is none. An error (42501) for others.
const DistributedTable *watch_target(const RangeVar *name, LOCKMODE lockmode);

// What PostgreSQL has to do on the shell of an ALTER TABLE or ALTER INDEX: the statement without
// what the shards alone see to. Raises 0A000 before anything is done when an action is none that
// shards can follow. Of another table it is a copy.
AlterTableStmt *prepare_alter_table(const AlterTableStmt *statement, const char *query_string);

[[noreturn]] void refuse_distribution_column_drop(const DistributedTable *table);

} // namespace panvel
