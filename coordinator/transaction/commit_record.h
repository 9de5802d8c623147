// The commit record: panvel.commit_record has a row for a distributed transaction from its local
// commit until all its nodes have been seen to have committed.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/timestamp.h"
}

namespace panvel {

// Inserts the record in the current transaction. `nodes`: integer List of node_id.
void insert_commit_record(uint64 transaction, uint64 nonce, List *nodes);

struct CommitRecord {
    uint64 transaction;
    uint64 nonce;
    List *nodes; // integer
    TimestampTz since;
    ItemPointerData tid;
};

// All records that are committed now, whatever the current transaction's snapshot: List of
// CommitRecord *.
List *commit_records();

// Whether the record is committed now.
bool has_commit_record(uint64 transaction, uint64 nonce);

void delete_commit_record(const CommitRecord *record);

// Held until the end of the transaction: one recovery at a time.
void lock_commit_records();
bool try_lock_commit_records(); // false when another recovery is under way

// Whether panvel is installed in this database.
bool has_commit_record_table();

} // namespace panvel
