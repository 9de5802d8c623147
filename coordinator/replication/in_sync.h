// The shards with followers that the current transaction has written, and under which epoch of
// their in-sync sets. README.md has the protocol.
#pragma once

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "storage/lockdefs.h"
}

namespace panvel {

// Before a write to the shard, or a row lock there: notes its epoch. 40001 when the transaction has
// written it under another one. Does nothing for a table without followers.
void note_written(const DistributedTable *table, const Shard *shard);

// The same question without a write: 40001 rather than rows without the transaction's own changes.
void check_written(const DistributedTable *table, const Shard *shard);

// Whether the transaction has written to a table with followers, or locked rows there.
bool has_written();

// At PRE_COMMIT: locks the shards until the end of the transaction and raises 40001 unless their
// epochs are still those noted.
void confirm_epochs();

// The shard's epoch as committed now; -1 when there is no such shard.
int64 epoch_in_catalog(int64 shard_id);

// At the end of the transaction.
void forget_written();

// The lock on a shard's in-sync set: shared by those who commit a write to it, exclusive for who
// changes it. Until the end of the transaction.
void lock_in_sync_set(int64 shard_id, LOCKMODE mode);

} // namespace panvel
