#include "coordinator/replication/in_sync.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/replication/membership.h"

extern "C" {
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
}

namespace panvel {
namespace {

struct Written {
    int64 shard_id; // hash key; must be first
    int64 epoch;
};

HTAB *written; // in TopTransactionContext; null: nothing

void create_table_of_written() {
    HASHCTL control = {};
    control.keysize = sizeof(int64);
    control.entrysize = sizeof(Written);
    control.hcxt = TopTransactionContext;
    written =
        hash_create("panvel written shards", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

[[noreturn]] void raise_changed(int64 shard_id) {
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("the in-sync placements of shard %lld changed during the transaction",
                           static_cast<long long>(shard_id)),
                    errhint("The transaction might succeed if retried.")));
    pg_unreachable();
}

int compare_written(const void *a, const void *b) {
    int64 left = static_cast<const Written *>(a)->shard_id;
    int64 right = static_cast<const Written *>(b)->shard_id;
    return left < right ? -1 : left > right;
}

} // namespace

int64 epoch_in_catalog(int64 shard_id) {
    CatalogScan scan = begin_catalog_scan_int64(Catalog::kShard, AccessShareLock, "shard_pkey",
                                                kShardId, shard_id);
    HeapTuple row = next_catalog_row(&scan);
    int64 epoch =
        HeapTupleIsValid(row) ? DatumGetInt64(catalog_value(&scan, row, kShardEpoch)) : -1;
    end_catalog_scan(&scan);
    return epoch;
}

void note_written(const DistributedTable *table, const Shard *shard) {
    if (!is_replicated(table))
        return;
    require_insync_replicas(table, shard);
    if (written == nullptr)
        create_table_of_written();
    bool found;
    auto *entry =
        static_cast<Written *>(hash_search(written, &shard->shard_id, HASH_ENTER, &found));
    if (!found)
        entry->epoch = shard->epoch;
    else if (entry->epoch != shard->epoch)
        raise_changed(shard->shard_id);
}

void check_written(const DistributedTable *table, const Shard *shard) {
    if (written == nullptr || !is_replicated(table))
        return;
    auto *entry =
        static_cast<Written *>(hash_search(written, &shard->shard_id, HASH_FIND, nullptr));
    if (entry != nullptr && entry->epoch != shard->epoch)
        raise_changed(shard->shard_id);
}

bool has_written() {
    return written != nullptr;
}

void confirm_epochs() {
    if (written == nullptr)
        return;
    long count = hash_get_num_entries(written);
    auto *all = static_cast<Written *>(palloc(sizeof(Written) * static_cast<size_t>(count)));
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, written);
    long filled = 0;
    while (auto *entry = static_cast<Written *>(hash_seq_search(&scan)))
        all[filled++] = *entry;
    qsort(all, static_cast<size_t>(count), sizeof(Written), compare_written);
    for (long i = 0; i < count; i++)
        lock_in_sync_set(all[i].shard_id, ShareLock);
    for (long i = 0; i < count; i++) {
        int64 epoch = epoch_in_catalog(all[i].shard_id);
        if (epoch >= 0 && epoch != all[i].epoch)
            raise_changed(all[i].shard_id);
    }
    pfree(all);
}

void forget_written() {
    written = nullptr; // its memory goes with the transaction
}

void lock_in_sync_set(int64 shard_id, LOCKMODE mode) {
    // Ids beyond 32 bits share locks, which only costs waits.
    LockDatabaseObject(catalog_oid(Catalog::kPlacement), static_cast<Oid>(shard_id), 0, mode);
}

} // namespace panvel
