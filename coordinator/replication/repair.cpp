#include "coordinator/replication/repair.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/make_shards.h"
#include "coordinator/monitor/servers.h"
#include "coordinator/remote/remote.h"
#include "coordinator/replication/in_sync.h"
#include "coordinator/replication/membership.h"
#include "coordinator/replication/replay.h"
#include "coordinator/transaction/doubt.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
}

namespace panvel {
namespace {

bool is_down(int32 node_id) {
    return server_is_down(server_of_node(node_id));
}

CatalogScan scan_leftovers(LOCKMODE lockmode, int32 node_id) {
    return begin_catalog_scan_int32(Catalog::kLeftover, lockmode, "leftover_pkey", kLeftoverNodeId,
                                    node_id);
}

List *read_leftovers(CatalogScan scan) {
    List *found = NIL;
    while (HeapTuple row = next_catalog_row(&scan)) {
        auto *leftover = palloc_object(Leftover);
        leftover->node_id = DatumGetInt32(catalog_value(&scan, row, kLeftoverNodeId));
        leftover->shard_id = DatumGetInt64(catalog_value(&scan, row, kLeftoverShardId));
        found = lappend(found, leftover);
    }
    end_catalog_scan(&scan);
    return found;
}

bool is_left_over(int64 shard_id, int32 node_id) {
    ListCell *cell;
    foreach (cell, read_leftovers(scan_leftovers(AccessShareLock, node_id)))
        if (static_cast<Leftover *>(lfirst(cell))->shard_id == shard_id)
            return true;
    return false;
}

// ------------------------------------------------------------------ what is to be done

// A placement that is lost, and where the new one goes.
struct Replacement {
    int64 shard_id;
    int32 lost;
    int32 target;
    List *tables;
};

// How many placements each node has, those that are planned included.
struct Load {
    const ClusterNode *node;
    int64 placements;
};

List *loads_of_nodes() {
    List *loads = NIL;
    ListCell *cell;
    foreach (cell, all_nodes()) {
        auto *load = palloc_object(Load);
        load->node = static_cast<ClusterNode *>(lfirst(cell));
        load->placements = count_placements(load->node->node_id);
        loads = lappend(loads, load);
    }
    return loads;
}

bool has_placement(List *placements, int32 node_id) {
    ListCell *cell;
    foreach (cell, placements)
        if (static_cast<CatalogPlacement *>(lfirst(cell))->node_id == node_id)
            return true;
    return false;
}

// The node with fewest placements that can take one of the shard; null when there is none.
Load *choose_target(List *loads, List *planned, int64 shard_id, List *placements) {
    Load *chosen = nullptr;
    ListCell *cell;
    foreach (cell, loads) {
        auto *load = static_cast<Load *>(lfirst(cell));
        int32 node_id = load->node->node_id;
        bool taken = has_placement(placements, node_id) || is_left_over(shard_id, node_id);
        ListCell *other;
        foreach (other, planned) {
            auto *replacement = static_cast<Replacement *>(lfirst(other));
            taken |= replacement->shard_id == shard_id && replacement->target == node_id;
        }
        if (!taken && !is_down(node_id) &&
            (chosen == nullptr || load->placements < chosen->placements))
            chosen = load;
    }
    return chosen;
}

bool can_be_copied(List *placements) {
    ListCell *cell;
    foreach (cell, placements) {
        auto *placement = static_cast<CatalogPlacement *>(lfirst(cell));
        if (placement->leader && placement->active)
            return !is_down(placement->node_id);
    }
    return false;
}

// List of Replacement *, by shard. Those that are not possible now are told.
List *plan_replacements() {
    List *loads = loads_of_nodes();
    List *planned = NIL;
    int without_source = 0;
    int without_target = 0;
    ListCell *cell;
    foreach (cell, placements_out_of_sync()) {
        auto *lost = static_cast<CatalogPlacement *>(lfirst(cell));
        if (!is_down(lost->node_id))
            continue;
        List *placements = placements_of_shard(lost->shard_id);
        Load *target = choose_target(loads, planned, lost->shard_id, placements);
        if (!can_be_copied(placements)) {
            without_source++;
        } else if (target == nullptr) {
            without_target++;
        } else {
            target->placements++;
            auto *replacement = palloc_object(Replacement);
            *replacement = {lost->shard_id, lost->node_id, target->node->node_id,
                            tables_of_shard(lost->shard_id)};
            planned = lappend(planned, replacement);
        }
    }
    if (without_source > 0)
        ereport(WARNING, (errmsg("%d lost placements cannot be replaced: no placement in sync "
                                 "answers",
                                 without_source)));
    if (without_target > 0)
        ereport(WARNING, (errmsg("%d lost placements cannot be replaced: no further node is up",
                                 without_target),
                          errhint("Add a node with panvel.add_node().")));
    return planned;
}

// ------------------------------------------------------------------ the replacement

// No DDL until the end of the transaction; readers and writers go on. False: dropped meanwhile.
bool lock_tables(List *tables) {
    ListCell *cell;
    foreach (cell, tables) {
        LockRelationOid(lfirst_oid(cell), ShareUpdateExclusiveLock);
        if (find_distributed_table(lfirst_oid(cell)) == nullptr)
            return false;
    }
    return tables != NIL;
}

void insert_new_placement(const Replacement *replacement) {
    Datum values[kPlacementColumns];
    values[kPlacementShardId - 1] = Int64GetDatum(replacement->shard_id);
    values[kPlacementNodeId - 1] = Int32GetDatum(replacement->target);
    values[kPlacementLeader - 1] = BoolGetDatum(false);
    values[kPlacementActive - 1] = BoolGetDatum(false);
    values[kPlacementCopying - 1] = BoolGetDatum(true);
    values[kPlacementJournaled - 1] = BoolGetDatum(false);
    values[kPlacementFilled - 1] = BoolGetDatum(false);
    values[kPlacementLagging - 1] = BoolGetDatum(false);
    Relation catalog = open_catalog(Catalog::kPlacement, RowExclusiveLock);
    insert_catalog_row(catalog, values);
    table_close(catalog, NoLock);
}

void insert_leftover(const Replacement *replacement) {
    Datum values[kLeftoverColumns];
    values[kLeftoverNodeId - 1] = Int32GetDatum(replacement->lost);
    values[kLeftoverShardId - 1] = Int64GetDatum(replacement->shard_id);
    Relation catalog = open_catalog(Catalog::kLeftover, RowExclusiveLock);
    insert_catalog_row(catalog, values);
    table_close(catalog, NoLock);
}

bool delete_lost_placement(const Replacement *replacement) {
    bool found = false;
    CatalogScan scan =
        begin_catalog_scan_int64(Catalog::kPlacement, RowExclusiveLock, "placement_pkey",
                                 kPlacementShardId, replacement->shard_id);
    while (HeapTuple row = next_catalog_row(&scan)) {
        if (DatumGetInt32(catalog_value(&scan, row, kPlacementNodeId)) != replacement->lost ||
            DatumGetBool(catalog_value(&scan, row, kPlacementActive)))
            continue;
        delete_catalog_row(&scan, row);
        found = true;
    }
    end_catalog_scan(&scan);
    return found;
}

// The set stays as it is, and so does its epoch: nobody counts on the new placement, nor keeps a
// journal for it, before it is copied (begin_journal()). The lock keeps it from rejoining.
void replace_in_catalog(const Replacement *replacement) {
    lock_in_sync_set(replacement->shard_id, ExclusiveLock);
    if (!delete_lost_placement(replacement)) // it has rejoined just now
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("the placement of shard %lld on node \"%s\" has come back",
                               static_cast<long long>(replacement->shard_id),
                               get_node(replacement->lost)->name),
                        errhint("The repair might succeed if retried.")));
    insert_leftover(replacement);
    insert_new_placement(replacement);
    ListCell *cell;
    foreach (cell, replacement->tables)
        invalidate_table(lfirst_oid(cell));
}

void take_down_nodes_out() {
    ListCell *cell;
    foreach (cell, all_nodes()) {
        int32 node_id = static_cast<ClusterNode *>(lfirst(cell))->node_id;
        if (is_down(node_id))
            exclude_node_everywhere(node_id);
    }
}

int32 repair() {
    require_preload();
    PreventCommandIfReadOnly("panvel.repair()");
    if (IsTransactionBlock() || IsolationUsesXactSnapshot())
        ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                        errmsg("panvel.repair() must be a READ COMMITTED transaction of its own"),
                        errdetail("It holds locks that commits wait for.")));
    take_down_nodes_out();
    LockRelationOid(catalog_oid(Catalog::kNode), ShareLock); // until the placements are there
    List *planned = plan_replacements();
    List *made = NIL;
    ListCell *cell;
    foreach (cell, planned) {
        CHECK_FOR_INTERRUPTS();
        auto *replacement = static_cast<Replacement *>(lfirst(cell));
        if (!lock_tables(replacement->tables))
            continue;
        create_placement(replacement->tables, replacement->shard_id, replacement->target);
        made = lappend(made, replacement);
    }
    foreach (cell, made) // last of all, in the order of shards
        replace_in_catalog(static_cast<Replacement *>(lfirst(cell)));
    if (made != NIL)
        want_recovery(false); // whose passes have them copied
    return list_length(made);
}

bool is_whole(int64 shard_id) {
    ListCell *cell;
    foreach (cell, placements_of_shard(shard_id))
        if (!static_cast<CatalogPlacement *>(lfirst(cell))->active)
            return false;
    return true;
}

} // namespace

List *all_leftovers() {
    return read_leftovers(
        begin_catalog_scan(Catalog::kLeftover, AccessShareLock, nullptr, 0, nullptr));
}

void drop_leftover(const Leftover *leftover) {
    if (is_down(leftover->node_id) || !is_whole(leftover->shard_id))
        return;
    CatalogScan scan = scan_leftovers(RowExclusiveLock, leftover->node_id);
    while (HeapTuple row = next_catalog_row(&scan))
        if (DatumGetInt64(catalog_value(&scan, row, kLeftoverShardId)) == leftover->shard_id)
            delete_catalog_row(&scan, row);
    end_catalog_scan(&scan);
    execute_on(leftover->node_id, "SET LOCAL lock_timeout = '1s'");
    execute_on(leftover->node_id, "SET LOCAL client_min_messages = 'warning'");
    execute_on(leftover->node_id, psprintf("DROP SCHEMA IF EXISTS panvel_s%lld CASCADE",
                                           static_cast<long long>(leftover->shard_id)));
}

} // namespace panvel

SQL_FUNCTION(panvel_repair) {
    PG_RETURN_INT32(panvel::repair());
}
