// What create_distributed_table() demands of a table.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "access/attnum.h"
#include "utils/relcache.h"
}

namespace panvel {

// 22023 when a given value (0: not given) is out of range.
void check_shard_settings(int shard_count, int replication_factor);

// Opens the relation under the lock for its copy (online_copy.h), once it is an ordinary permanent
// table of the caller's without anything that shards could not honour; each refusal is an error
// that names it.
Relation open_distributable(Oid relid);

// The column's number; 42703 when there is none, 0A000 when its values cannot be hashed.
AttrNumber check_distribution_column(Relation relation, const char *name);

// 0A000 when a unique index does not include the distribution column: no shard could enforce it.
// `column`: InvalidAttrNumber for a reference table, which may have any.
// 55000 with a hint unless the table has a primary key, by which followers find rows.
void require_primary_key(Relation relation);

void check_unique_constraints(Relation relation, AttrNumber column);

// Same for one index.
void check_unique_index(Relation relation, Oid index, AttrNumber column);

} // namespace panvel
