#include "coordinator/replication/membership.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/monitor/servers.h"
#include "coordinator/replication/consistency.h"
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
#include "utils/snapmgr.h"
}

namespace panvel {
namespace {

// What the background worker is to do, in its bgw_extra.
enum class Cause { kDown, kSlow, kLagging };
struct Exclusion {
    Cause cause;
    int32 node_id;       // kDown, kSlow
    int32 colocation_id; // kSlow, kLagging: only of this group's shards, and only followers
    int32 left;          // likewise: so many in-sync placements of a shard stay at least
};
static_assert(sizeof(Exclusion) <= BGW_EXTRALEN);

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
    int required = required_placements(table->replication_factor);
    for (int i = 0; i < table->shard_count; i++) {
        const Shard *shard = &table->shards[i];
        int left = 0;
        for (int j = 0; j < shard->placement_count; j++)
            left += shard->placements[j].active && !is_down(shard->placements[j].node_id);
        for (int j = 0; j < shard->placement_count && left >= required && left > 0; j++)
            if (shard->placements[j].active && is_down(shard->placements[j].node_id))
                nodes = list_append_unique_int(nodes, shard->placements[j].node_id);
    }
    return nodes;
}

bool has_lagging(const DistributedTable *table, int left) {
    for (int i = 0; i < table->shard_count; i++)
        if (active_count(&table->shards[i]) > left)
            return true;
    return false;
}

void run_worker(const Exclusion &exclusion) {
    BackgroundWorker worker = {};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_notify_pid = MyProcPid;
    worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
    memcpy(worker.bgw_extra, &exclusion, sizeof(exclusion));
    strlcpy(worker.bgw_library_name, "panvel", sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, "panvel_exclude_main", sizeof(worker.bgw_function_name));
    strlcpy(worker.bgw_name, "panvel in-sync sets", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "panvel in-sync sets", BGW_MAXLEN);
    BackgroundWorkerHandle *handle;
    if (!RegisterDynamicBackgroundWorker(&worker, &handle))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
                        errmsg("could not start a background worker that takes placements out of "
                               "the in-sync sets"),
                        errhint("Raise max_worker_processes.")));
    if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
        proc_exit(1);
    pfree(handle);
}

// Has the worker do it if it is still `wanted` once nobody else is at it: one at a time, the others
// find that it is done. Returns the table as it is then.
template <typename Wanted>
const DistributedTable *exclude(const DistributedTable *table, const Exclusion &exclusion,
                                Wanted &&wanted) {
    constexpr uint16 kExclusion = 1;
    Oid nodes = catalog_oid(Catalog::kNode);
    auto object = static_cast<Oid>(exclusion.node_id);
    LockDatabaseObject(nodes, object, kExclusion, ExclusiveLock);
    table = refresh_table(table);
    if (wanted(table))
        run_worker(exclusion);
    UnlockDatabaseObject(nodes, object, kExclusion, ExclusiveLock);
    return refresh_table(table);
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
        table = exclude(table, {Cause::kDown, node_id, 0, 0}, [=](const DistributedTable *now) {
            return list_member_int(nodes_to_exclude(now), node_id);
        });
    }
    return table;
}

void exclude_node_everywhere(int32 node_id) {
    run_worker({Cause::kDown, node_id, 0, 0});
}

const DistributedTable *exclude_lagging(const DistributedTable *table) {
    table = exclude_down_nodes(table);
    int left = written_placements(table->replication_factor);
    if (!is_replicated(table) || RecoveryInProgress() || !has_lagging(table, left))
        return table;
    return exclude(table, {Cause::kLagging, 0, table->colocation_id, left},
                   [=](const DistributedTable *now) { return has_lagging(now, left); });
}

void exclude_slow_node(const DistributedTable *table, int32 node_id) {
    Exclusion exclusion = {Cause::kSlow, node_id, table->colocation_id,
                           required_placements(table->replication_factor)};
    exclude(table, exclusion, [](const DistributedTable *) { return true; });
}

void require_insync_replicas(const DistributedTable *table, const Shard *shard) {
    int count = active_count(shard);
    int required = required_placements(table->replication_factor);
    if (count >= required)
        return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("shard %lld has %d in-sync placements, and this session needs %d to "
                           "write to it",
                           static_cast<long long>(shard->shard_id), count, required),
                    errdetail("panvel.min_insync_replicas and panvel.write_consistency = quorum "
                              "say how many it needs."),
                    errhint("Wait until nodes are back and have caught up (panvel.shards), or "
                            "lower the settings.")));
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
    placement->journaled = DatumGetBool(catalog_value(scan, row, kPlacementJournaled));
    placement->filled = DatumGetBool(catalog_value(scan, row, kPlacementFilled));
    placement->lagging = DatumGetBool(catalog_value(scan, row, kPlacementLagging));
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
        values[kPlacementJournaled - 1] = BoolGetDatum(placement->journaled);
        values[kPlacementFilled - 1] = BoolGetDatum(placement->filled);
        values[kPlacementLagging - 1] = BoolGetDatum(placement->lagging);
        for (int column = kPlacementLeader; column <= kPlacementLagging; column++)
            replace[column - 1] = true;
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

// ------------------------------------------------------------------ what is taken out

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
        other->lagging = false;
        update_placement(other);
    }
}

void take_out(CatalogPlacement *placement, bool lagging) {
    placement->leader = false;
    placement->active = false;
    placement->copying = false;
    placement->journaled = true;
    placement->filled = true;
    placement->lagging = lagging;
    update_placement(placement);
}

// Takes a node that is down out of the shard's set. False when the set cannot spare it.
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
    if (excluded->leader) // while it is still active, so that it is not taken for a stale one
        make_leader(successor, placements);
    take_out(excluded, false);
    note_set_changed(shard_id);
    return true;
}

// Takes followers out of the shard's set, as long as `left` stay. Returns how many.
int exclude_followers(int64 shard_id, const Exclusion &exclusion) {
    lock_in_sync_set(shard_id, ExclusiveLock);
    List *placements = placements_of_shard(shard_id);
    int active = 0;
    ListCell *cell;
    foreach (cell, placements)
        active += static_cast<CatalogPlacement *>(lfirst(cell))->active;
    int count = 0;
    foreach (cell, placements) {
        auto *placement = static_cast<CatalogPlacement *>(lfirst(cell));
        bool meant = exclusion.cause == Cause::kLagging || placement->node_id == exclusion.node_id;
        if (!placement->active || placement->leader || !meant || active - count <= exclusion.left)
            continue;
        take_out(placement, exclusion.cause == Cause::kLagging);
        count++;
    }
    if (count > 0)
        note_set_changed(shard_id);
    return count;
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

void exclude_group(const Exclusion &exclusion) {
    List *tables = colocated_tables(exclusion.colocation_id);
    if (tables == NIL) // dropped meanwhile
        return;
    const DistributedTable *table = get_distributed_table(linitial_oid(tables));
    List *shards = NIL;
    for (int i = 0; i < table->shard_count; i++) {
        auto *placement = palloc0_object(CatalogPlacement);
        placement->shard_id = table->shards[i].shard_id;
        shards = lappend(shards, placement);
    }
    list_sort(shards, compare_placements); // the order of locks
    int count = 0;
    ListCell *cell;
    foreach (cell, shards)
        count +=
            exclude_followers(static_cast<CatalogPlacement *>(lfirst(cell))->shard_id, exclusion);
    if (count > 0 && exclusion.cause == Cause::kSlow)
        ereport(LOG, (errmsg("node \"%s\" is slow: taken out of the in-sync sets of %d shards",
                             get_node(exclusion.node_id)->name, count)));
}

} // namespace

extern "C" {
__attribute__((visibility("default"))) void panvel_exclude_main(Datum);
}

void panvel_exclude_main(Datum argument) {
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    Exclusion exclusion;
    memcpy(&exclusion, MyBgworkerEntry->bgw_extra, sizeof(exclusion));
    BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(argument), InvalidOid, 0);
    pg::entry([&] {
        StartTransactionCommand();
        PushActiveSnapshot(GetTransactionSnapshot());
        pgstat_report_activity(STATE_RUNNING, "panvel in-sync sets");
        if (exclusion.cause == Cause::kDown)
            exclude_node(exclusion.node_id);
        else
            exclude_group(exclusion);
        PopActiveSnapshot();
        ForceSyncCommit(); // writes that follow count on it
        CommitTransactionCommand();
        // Whose passes look after what is out of sync: not before they can see it.
        want_recovery(false);
    });
}

} // namespace panvel
