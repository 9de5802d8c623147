// Rows from a shard's leader to a placement that is out of sync, in the current transaction.
#pragma once

#include "coordinator/catalog/metadata.h"

namespace panvel {

// A placement that is out of sync, and where its leader is.
struct StalePlacement {
    int64 shard_id;
    char schema[NAMEDATALEN];
    int32 node_id;
    int32 leader_id;
    int64 epoch;  // when the transaction began
    List *tables; // of the shard (List of Oid), locked
};

// Waits, at most a second, for all transactions that have written to the placement: those that were
// prepared before it fell out of the set are decided then, and no other commits there any more.
void fence_placement(const StalePlacement *stale);

// Has the placement forget all rows and copies the leader's. Journal entries from before are
// dropped.
void copy_anew(const StalePlacement *stale);

enum class Replayed { kAll, kSome, kMustCopy };

// Takes at most `limit` entries off the leader's journal, `*count`, and brings their rows over.
// kAll: there were no more. kMustCopy: an entry says that keys do not tell what was missed.
Replayed replay_journal(const StalePlacement *stale, int limit, int *count);

// How many entries the leader's journal has for the placement; `limit` + 1 where there are more.
int64 journal_length(const StalePlacement *stale, int64 limit);
void drop_journal(const StalePlacement *stale);

// Executes one command there as part of the transaction.
void execute_on(int32 node_id, const char *sql);

} // namespace panvel
