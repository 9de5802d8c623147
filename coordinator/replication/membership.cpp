#include "coordinator/replication/membership.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/monitor/servers.h"
#include "coordinator/replication/in_sync.h"
#include "coordinator/transaction/doubt.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
}

namespace panvel {
namespace {

int min_insync_replicas = 1;

int active_count(const Shard *shard) {
    int count = 0;
    for (int i = 0; i < shard->placement_count; i++)
        count += shard->placements[i].active;
    return count;
}

bool is_down(int32 node_id) {
    return server_is_down(server_of_node(node_id));
}

// Nodes that are down and in a set that can spare them.
List *nodes_to_exclude(const DistributedTable *table) {
    List *nodes = NIL;
    for (int i = 0; i < table->shard_count; i++) {
        const Shard *shard = &table->shards[i];
        int left = 0;
        for (int j = 0; j < shard->placement_count; j++)
            left += shard->placements[j].active && !is_down(shard->placements[j].node_id);
        for (int j = 0; j < shard->placement_count && left >= min_insync_replicas && left > 0; j++)
            if (shard->placements[j].active && is_down(shard->placements[j].node_id))
                nodes = list_append_unique_int(nodes, shard->placements[j].node_id);
    }
    return nodes;
}

void run_worker(int32 node_id) {
    BackgroundWorker worker = {};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_notify_pid = MyProcPid;
    worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
    memcpy(worker.bgw_extra, &node_id, sizeof(node_id));
    strlcpy(worker.bgw_library_name, "panvel", sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, "panvel_exclude_node_main", sizeof(worker.bgw_function_name));
    strlcpy(worker.bgw_name, "panvel in-sync sets", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "panvel in-sync sets", BGW_MAXLEN);
    BackgroundWorkerHandle *handle;
    if (!RegisterDynamicBackgroundWorker(&worker, &handle))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
                        errmsg("could not start a background worker that takes node \"%s\", which "
                               "is down, out of the in-sync sets",
                               get_node(node_id)->name),
                        errhint("Raise max_worker_processes.")));
    if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
        proc_exit(1);
    pfree(handle);
}

} // namespace

const DistributedTable *exclude_down_nodes(const DistributedTable *table) {
    if (!is_replicated(table))
        return table;
    table = refresh_table(table);
    if (RecoveryInProgress()) // where no worker would start
        return table;
    ListCell *cell;
    foreach (cell, nodes_to_exclude(table)) {
        int32 node_id = lfirst_int(cell);
        // One at a time: the others find that it is done.
        constexpr uint16 kExclusion = 1;
        Oid nodes = catalog_oid(Catalog::kNode);
        LockDatabaseObject(nodes, static_cast<Oid>(node_id), kExclusion, ExclusiveLock);
        table = refresh_table(table);
        if (list_member_int(nodes_to_exclude(table), node_id))
            run_worker(node_id);
        UnlockDatabaseObject(nodes, static_cast<Oid>(node_id), kExclusion, ExclusiveLock);
        table = refresh_table(table);
    }
    return table;
}

void require_insync_replicas(const Shard *shard) {
    int count = active_count(shard);
    if (count < min_insync_replicas)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("shard %lld has %d in-sync placements, panvel.min_insync_replicas "
                               "is %d",
                               static_cast<long long>(shard->shard_id), count, min_insync_replicas),
                        errhint("Wait until nodes are back and have caught up (panvel.shards), or "
                                "lower the setting.")));
}

// ------------------------------------------------------------------ the catalog

namespace {

CatalogPlacement *read_placement(const CatalogScan *scan, HeapTuple row) {
    auto *placement = palloc0_object(CatalogPlacement);
    placement->shard_id = DatumGetInt64(catalog_value(scan, row, kPlacementShardId));
    placement->node_id = DatumGetInt32(catalog_value(scan, row, kPlacementNodeId));
    placement->leader = DatumGetBool(catalog_value(scan, row, kPlacementLeader));
    placement->active = DatumGetBool(catalog_value(scan, row, kPlacementActive));
    placement->copying = DatumGetBool(catalog_value(scan, row, kPlacementCopying));
    return placement;
}

template <typename Wanted> List *read_placements(CatalogScan scan, Wanted &&wanted) {
    List *placements = NIL;
    while (HeapTuple row = next_catalog_row(&scan)) {
        CatalogPlacement *placement = read_placement(&scan, row);
        if (wanted(placement))
            placements = lappend(placements, placement);
    }
    end_catalog_scan(&scan);
    return placements;
}

int compare_placements(const ListCell *a, const ListCell *b) {
    int64 left = static_cast<const CatalogPlacement *>(lfirst(a))->shard_id;
    int64 right = static_cast<const CatalogPlacement *>(lfirst(b))->shard_id;
    return left < right ? -1 : left > right;
}

int32 colocation_of_shard(int64 shard_id) {
    CatalogScan scan = begin_catalog_scan_int64(Catalog::kShard, AccessShareLock, "shard_pkey",
                                                kShardId, shard_id);
    HeapTuple row = next_catalog_row(&scan);
    int32 id =
        HeapTupleIsValid(row) ? DatumGetInt32(catalog_value(&scan, row, kShardColocationId)) : 0;
    end_catalog_scan(&scan);
    return id;
}

} // namespace

List *placements_of_shard(int64 shard_id) {
    return read_placements(begin_catalog_scan_int64(Catalog::kPlacement, AccessShareLock,
                                                    "placement_pkey", kPlacementShardId, shard_id),
                           [](const CatalogPlacement *) { return true; });
}

List *placements_out_of_sync() {
    List *found = read_placements(
        begin_catalog_scan(Catalog::kPlacement, AccessShareLock, nullptr, 0, nullptr),
        [](const CatalogPlacement *placement) { return !placement->active; });
    list_sort(found, compare_placements);
    return found;
}

void update_placement(const CatalogPlacement *placement) {
    CatalogScan scan =
        begin_catalog_scan_int64(Catalog::kPlacement, RowExclusiveLock, "placement_pkey",
                                 kPlacementShardId, placement->shard_id);
    while (HeapTuple row = next_catalog_row(&scan)) {
        if (DatumGetInt32(catalog_value(&scan, row, kPlacementNodeId)) != placement->node_id)
            continue;
        Datum values[kPlacementColumns] = {};
        bool replace[kPlacementColumns] = {};
        values[kPlacementLeader - 1] = BoolGetDatum(placement->leader);
        values[kPlacementActive - 1] = BoolGetDatum(placement->active);
        values[kPlacementCopying - 1] = BoolGetDatum(placement->copying);
        replace[kPlacementLeader - 1] = replace[kPlacementActive - 1] =
            replace[kPlacementCopying - 1] = true;
        update_catalog_row(scan.relation, row, values, replace);
    }
    end_catalog_scan(&scan);
}

List *tables_of_shard(int64 shard_id) {
    return colocated_tables(colocation_of_shard(shard_id));
}

void note_set_changed(int64 shard_id) {
    CatalogScan scan = begin_catalog_scan_int64(Catalog::kShard, RowExclusiveLock, "shard_pkey",
                                                kShardId, shard_id);
    if (HeapTuple row = next_catalog_row(&scan)) {
        Datum values[kShardColumns] = {};
        bool replace[kShardColumns] = {};
        values[kShardEpoch - 1] =
            Int64GetDatum(DatumGetInt64(catalog_value(&scan, row, kShardEpoch)) + 1);
        replace[kShardEpoch - 1] = true;
        update_catalog_row(scan.relation, row, values, replace);
    }
    end_catalog_scan(&scan);
    ListCell *cell;
    foreach (cell, tables_of_shard(shard_id))
        invalidate_table(lfirst_oid(cell));
}

// ------------------------------------------------------------------ a node that is down

namespace {

bool is_of_reference_table(int64 shard_id) {
    List *tables = tables_of_shard(shard_id);
    return tables == NIL || !is_replicated(get_distributed_table(linitial_oid(tables)));
}

// The journals of what other placements missed were the old leader's: they are copied anew.
void make_leader(CatalogPlacement *chosen, List *placements) {
    chosen->leader = true;
    update_placement(chosen);
    ListCell *cell;
    foreach (cell, placements) {
        auto *other = static_cast<CatalogPlacement *>(lfirst(cell));
        if (other->active || other->copying)
            continue;
        other->copying = true;
        update_placement(other);
    }
}

// Takes the node out of the shard's set. False when the set cannot spare it.
bool exclude_from_shard(int64 shard_id, int32 node_id) {
    lock_in_sync_set(shard_id, ExclusiveLock);
    List *placements = placements_of_shard(shard_id);
    CatalogPlacement *excluded = nullptr;
    CatalogPlacement *successor = nullptr;
    ListCell *cell;
    foreach (cell, placements) {
        auto *placement = static_cast<CatalogPlacement *>(lfirst(cell));
        if (placement->node_id == node_id && placement->active)
            excluded = placement;
        else if (placement->active && !is_down(placement->node_id) &&
                 (successor == nullptr || placement->leader))
            successor = placement;
    }
    if (excluded == nullptr || successor == nullptr)
        return false;
    bool led = excluded->leader;
    if (led) // while it is still active, so that it is not taken for one that missed something
        make_leader(successor, placements);
    excluded->leader = false;
    excluded->active = false;
    excluded->copying = false;
    update_placement(excluded);
    note_set_changed(shard_id);
    return true;
}

void exclude_node(int32 node_id) {
    if (!is_down(node_id)) // it is back
        return;
    List *found = read_placements(
        begin_catalog_scan_int32(Catalog::kPlacement, AccessShareLock, "placement_node_id_idx",
                                 kPlacementNodeId, node_id),
        [](const CatalogPlacement *placement) { return placement->active; });
    list_sort(found, compare_placements); // the order of locks
    int count = 0;
    ListCell *cell;
    foreach (cell, found) {
        int64 shard_id = static_cast<CatalogPlacement *>(lfirst(cell))->shard_id;
        if (!is_of_reference_table(shard_id) && exclude_from_shard(shard_id, node_id))
            count++;
    }
    if (count > 0)
        ereport(LOG, (errmsg("node \"%s\" is down: taken out of the in-sync sets of %d shards",
                             get_node(node_id)->name, count)));
}

} // namespace

void init_membership() {
    DefineCustomIntVariable("panvel.min_insync_replicas",
                            "How many in-sync placements a shard must have to be written.",
                            "Where a node is down, its placements are left out of writes as long "
                            "as so many remain; else the write fails.",
                            &min_insync_replicas, 1, 1, 64, PGC_USERSET, 0, nullptr, nullptr,
                            nullptr);
}

extern "C" {
__attribute__((visibility("default"))) void panvel_exclude_node_main(Datum);
}

void panvel_exclude_node_main(Datum argument) {
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    int32 node_id;
    memcpy(&node_id, MyBgworkerEntry->bgw_extra, sizeof(node_id));
    BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(argument), InvalidOid, 0);
    pg::entry([&] {
        StartTransactionCommand();
        PushActiveSnapshot(GetTransactionSnapshot());
        pgstat_report_activity(STATE_RUNNING, "panvel in-sync sets");
        exclude_node(node_id);
        PopActiveSnapshot();
        ForceSyncCommit(); // writes that follow count on it
        CommitTransactionCommand();
        // Whose passes look after what is out of sync: not before they can see it.
        want_recovery(false);
    });
}

} // namespace panvel
