// Rows that change while a table is copied to its shards: readers and writers go on meanwhile, and
// wait only while the last changes follow.
#pragma once

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
}

namespace panvel {

// The lock under which create_distributed_table() copies the rows: ShareUpdateExclusiveLock where
// a primary key tells rows apart, so that changes can follow; else AccessExclusiveLock.
LOCKMODE lock_for_copy(Oid relid);

// All rows that the snapshot sees go to the shards. Returns their number.
uint64 copy_snapshot(const DistributedTable *table, Relation relation, Snapshot snapshot);

// Makes of shards with the rows that `before` sees those with the rows that `now` sees. Both have
// been registered since they were taken. Returns by how many rows there are more now.
int64 copy_changes(const DistributedTable *table, Relation relation, Snapshot before, Snapshot now);

} // namespace panvel
