// create_reference_table(): an ordinary table becomes a shell with a copy on every node, and nodes
// that come and go get and lose theirs.
//
// To the catalog it is a table of one shard that owns all hashes, in a group of its own, with a
// placement on every node. Writers take turns (lock_reference_table()).
#include "coordinator/catalog/reference_table.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/create_table.h"
#include "coordinator/catalog/distributable.h"
#include "coordinator/catalog/distribution_label.h"
#include "coordinator/catalog/make_shards.h"
#include "coordinator/monitor/servers.h"
#include "coordinator/remote/remote.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

int32 create_group() {
    LockRelationOid(catalog_oid(Catalog::kNode), ShareLock); // until the shard is in the catalog
    List *nodes = all_nodes();
    if (nodes == NIL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("there is no node that could hold a copy"),
                        errhint("Add nodes with panvel.add_node().")));
    auto colocation_id = static_cast<int32>(next_catalog_id("colocation_id_seq"));
    Datum values[kColocationColumns];
    values[kColocationId - 1] = Int32GetDatum(colocation_id);
    values[kColocationShardCount - 1] = Int32GetDatum(1);
    values[kColocationReplicationFactor - 1] = Int32GetDatum(0); // as many as there are nodes
    values[kColocationType - 1] = ObjectIdGetDatum(InvalidOid);
    values[kColocationCollation - 1] = ObjectIdGetDatum(InvalidOid);
    Relation colocations = open_catalog(Catalog::kColocation, RowExclusiveLock);
    insert_catalog_row(colocations, values);
    table_close(colocations, NoLock);

    auto *node_ids = palloc_array(int32, list_length(nodes));
    ListCell *cell;
    foreach (cell, nodes)
        node_ids[foreach_current_index(cell)] = static_cast<ClusterNode *>(lfirst(cell))->node_id;
    Relation shards = open_catalog(Catalog::kShard, RowExclusiveLock);
    Relation placements = open_catalog(Catalog::kPlacement, RowExclusiveLock);
    insert_shard(shards, placements, colocation_id, PG_INT64_MIN, PG_INT64_MAX, node_ids,
                 list_length(nodes));
    table_close(placements, NoLock);
    table_close(shards, NoLock);
    return colocation_id;
}

// Nobody writes to the table, drops it or changes its indexes until the end of the transaction.
const DistributedTable *lock_against_changes(Oid relid) {
    LockRelationOid(relid, ShareUpdateExclusiveLock);
    lock_reference_table(relid);
    return find_distributed_table(relid);
}

// The placement goes; where it was the leader, another one is from now on.
void delete_placement(const DistributedTable *table, int32 node_id) {
    bool was_leader = write_node(&table->shards[0]) == node_id;
    CatalogScan scan =
        begin_catalog_scan_int64(Catalog::kPlacement, RowExclusiveLock, "placement_pkey",
                                 kPlacementShardId, table->shards[0].shard_id);
    bool promoted = false;
    while (HeapTuple row = next_catalog_row(&scan)) {
        if (DatumGetInt32(catalog_value(&scan, row, kPlacementNodeId)) == node_id) {
            delete_catalog_row(&scan, row);
        } else if (was_leader && !promoted) {
            Datum values[kPlacementColumns] = {};
            bool replace[kPlacementColumns] = {};
            values[kPlacementLeader - 1] = BoolGetDatum(true);
            replace[kPlacementLeader - 1] = promoted = true;
            update_catalog_row(scan.relation, row, values, replace);
        }
    }
    end_catalog_scan(&scan);
    invalidate_table(table->relid);
}

} // namespace

void create_reference_table(Oid relid) {
    require_preload();
    PreventCommandIfReadOnly("panvel.create_reference_table()");
    Relation relation = open_distributable(relid);
    check_unique_constraints(relation, InvalidAttrNumber);
    insert_distributed_table(relation, InvalidAttrNumber, create_group());
    move_to_shards(relation, true);
    label_distributed_table(get_distributed_table(relid), nullptr);
}

void copy_reference_tables(int32 node_id) {
    List *relids = all_reference_tables();
    if (relids == NIL)
        return;
    if (IsolationUsesXactSnapshot())
        ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                        errmsg("panvel.add_node() copies reference tables and must run in a READ "
                               "COMMITTED transaction"),
                        errdetail("The transaction's snapshot may lack rows of theirs.")));
    List *copied = NIL;
    ListCell *cell;
    foreach (cell, relids) {
        const DistributedTable *table = lock_against_changes(lfirst_oid(cell));
        if (table == nullptr) // dropped meanwhile
            continue;
        Relation relation = table_open(table->relid, NoLock);
        const Shard *shard = &table->shards[0];
        copy_to_node(table, relation, read_node(shard), node_id);
        table_close(relation, NoLock);
        Relation placements = open_catalog(Catalog::kPlacement, RowExclusiveLock);
        insert_placement(placements, shard->shard_id, node_id, false);
        table_close(placements, NoLock);
        invalidate_table(table->relid);
        copied = lappend_oid(copied, table->relid);
    }
    CommandCounterIncrement();
    foreach (cell, copied) {
        Relation relation = table_open(lfirst_oid(cell), NoLock);
        finish_copy(get_distributed_table(lfirst_oid(cell)), relation, node_id);
        table_close(relation, NoLock);
    }
}

void drop_reference_copies(const ClusterNode *node) {
    bool down = server_is_down(server_of_node(node->node_id));
    ListCell *cell;
    foreach (cell, all_reference_tables()) {
        const DistributedTable *table = lock_against_changes(lfirst_oid(cell));
        if (table == nullptr)
            continue;
        if (table->shards[0].placement_count < 2)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                            errmsg("node \"%s\" cannot be removed: it holds the only copy of "
                                   "reference table \"%s\"",
                                   node->name, get_rel_name(table->relid)),
                            errhint("Add another node first, or drop the table.")));
        if (down)
            ereport(WARNING,
                    (errmsg("node \"%s\" is down and keeps its copy of reference table "
                            "\"%s\" in schema \"%s\"",
                            node->name, get_rel_name(table->relid), table->shards[0].schema)));
        else
            remote_execute_on_nodes(
                list_make1_int(node->node_id),
                psprintf("DROP SCHEMA IF EXISTS %s CASCADE", table->shards[0].schema),
                Effect::kWrite);
        delete_placement(table, node->node_id);
    }
    CommandCounterIncrement();
}

} // namespace panvel

SQL_FUNCTION(panvel_create_reference_table) {
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("argument \"relation\" must not be null")));
    panvel::create_reference_table(PG_GETARG_OID(0));
    PG_RETURN_VOID();
}
