// Tables and indexes go in many ways: DROP TABLE, DROP SCHEMA CASCADE, DROP OWNED, DROP TYPE
// CASCADE. All of them pass the object access hook, object by object; what it notes is done on
// the nodes when the statement has ended.
#include "coordinator/catalog/catalog.h"
#include "coordinator/ddl/alter.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/node_batch.h"
#include "coordinator/ddl/objects.h"
#include "coordinator/ddl/watch.h"
#include "coordinator/replication/catch_up.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_statistic_ext.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

struct Drop {
    const DistributedTable *table; // valid until the end of the transaction
    const char *name;              // of the table
    SubTransactionId subtransaction;
};

List *noted = nullptr; // Drop *, in TopTransactionContext
bool ignored = false;

// A drop that no utility statement made (by an extension's own code) is worked off at the latest
// possible time. Callbacks run in the reverse order of their registration: this one comes before
// the distributed transaction's, which then commits it.
void transaction_ends(XactEvent event, void *) {
    if (event == XACT_EVENT_PRE_COMMIT)
        pg::entry([] {
            settle_watched(0);
            flush_drops();
            flush_object_drops();
        });
    else if (event == XACT_EVENT_ABORT)
        noted = nullptr;
}

void subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
                          void *) {
    ListCell *cell;
    foreach (cell, noted) {
        auto *drop = static_cast<Drop *>(lfirst(cell));
        if (drop->subtransaction != mine)
            continue;
        if (event == SUBXACT_EVENT_ABORT_SUB)
            noted = foreach_delete_current(noted, cell);
        else if (event == SUBXACT_EVENT_COMMIT_SUB)
            drop->subtransaction = parent;
    }
}

void note_table(const DistributedTable *table) {
    MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
    auto *drop = palloc_object(Drop);
    drop->table = table;
    drop->name = pstrdup(get_rel_name(table->relid));
    drop->subtransaction = GetCurrentSubTransactionId();
    noted = lappend(noted, drop);
    MemoryContextSwitchTo(caller);
}

void note_relation(Oid relid, int column) {
    const DistributedTable *table = distributed_by_relid(relid);
    if (table == nullptr)
        return;
    if (column == 0 && relid == table->relid) {
        note_table(table);
        return;
    }
    if (column != 0 && column == table->distribution_attribute)
        refuse_distribution_column_drop(table);
    watch_table(table);
}

// A part of a table goes: a constraint, a policy, a statistics object.
void note_part(Oid relid) {
    const DistributedTable *table = find_distributed_table(relid);
    if (table != nullptr)
        watch_table(table);
}

Oid relation_of_constraint(Oid oid) {
    HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(oid));
    if (!HeapTupleIsValid(tuple))
        return InvalidOid;
    Oid relid = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(tuple))->conrelid;
    ReleaseSysCache(tuple);
    return relid;
}

Oid relation_of_statistics(Oid oid) {
    HeapTuple tuple = SearchSysCache1(STATEXTOID, ObjectIdGetDatum(oid));
    if (!HeapTupleIsValid(tuple))
        return InvalidOid;
    Oid relid = reinterpret_cast<Form_pg_statistic_ext>(GETSTRUCT(tuple))->stxrelid;
    ReleaseSysCache(tuple);
    return relid;
}

Oid relation_of_policy(Oid oid) {
    Relation policies = table_open(PolicyRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_policy_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
    SysScanDesc scan = systable_beginscan(policies, PolicyOidIndexId, true, nullptr, 1, &key);
    HeapTuple row = systable_getnext(scan);
    Oid relid = HeapTupleIsValid(row) ? reinterpret_cast<Form_pg_policy>(GETSTRUCT(row))->polrelid
                                      : InvalidOid;
    systable_endscan(scan);
    table_close(policies, AccessShareLock);
    return relid;
}

void delete_group(const DistributedTable *table) {
    for (int i = 0; i < table->shard_count; i++)
        delete_catalog_rows(begin_catalog_scan_int64(Catalog::kPlacement, RowExclusiveLock,
                                                     "placement_pkey", kPlacementShardId,
                                                     table->shards[i].shard_id));
    delete_catalog_rows(begin_catalog_scan_int32(Catalog::kShard, RowExclusiveLock,
                                                 "shard_colocation_id_idx", kShardColocationId,
                                                 table->colocation_id));
    delete_catalog_rows(begin_catalog_scan_int32(Catalog::kColocation, RowExclusiveLock,
                                                 "colocation_pkey", kColocationId,
                                                 table->colocation_id));
}

void delete_table_row(const DistributedTable *table) {
    delete_catalog_rows(begin_catalog_scan_oid(Catalog::kDistributedTable, RowExclusiveLock,
                                               "distributed_table_pkey", kTableRelation,
                                               table->relid));
}

// After drop_from_shards() the schemas are empty, and CASCADE has nothing to tell.
void drop_schemas(NodeBatch *batch, const DistributedTable *table) {
    ListCell *cell;
    foreach (cell, nodes_of_table(table)) {
        StringInfoData sql;
        initStringInfo(&sql);
        for (int i = 0; i < table->shard_count; i++) {
            const Shard *shard = &table->shards[i];
            for (int j = 0; j < shard->placement_count; j++)
                if (shard->placements[j].node_id == lfirst_int(cell))
                    appendStringInfo(&sql, "%s%s", sql.len > 0 ? ", " : "DROP SCHEMA IF EXISTS ",
                                     shard->schema);
        }
        appendStringInfoString(&sql, " CASCADE");
        if (is_replicated(table))
            batch_send(batch, lfirst_int(cell),
                       psprintf("DROP TABLE IF EXISTS %s",
                                shard_names_on_node(table, lfirst_int(cell), kJournal)));
        batch_send(batch, lfirst_int(cell), sql.data);
    }
}

void drop_from_shards(NodeBatch *batch, const Drop *drop) {
    ListCell *cell;
    foreach (cell, nodes_of_table(drop->table)) {
        char *names = shard_names_on_node(drop->table, lfirst_int(cell), drop->name);
        batch_send(batch, lfirst_int(cell), psprintf("DROP TABLE IF EXISTS %s CASCADE", names));
    }
}

} // namespace

void ignore_drops(bool ignore) {
    ignored = ignore;
}

void note_drop(Oid class_id, Oid object_id, int sub_id) {
    if (ignored)
        return;
    if (class_id == RelationRelationId)
        note_relation(object_id, sub_id);
    else if (class_id == ConstraintRelationId)
        note_part(relation_of_constraint(object_id));
    else if (class_id == StatisticExtRelationId)
        note_part(relation_of_statistics(object_id));
    else if (class_id == PolicyRelationId)
        note_part(relation_of_policy(object_id));
}

void flush_drops() {
    if (noted == nullptr)
        return;
    NodeBatch batch;
    List *drops = noted;
    noted = nullptr;
    ListCell *cell;
    foreach (cell, drops)
        delete_table_row(static_cast<Drop *>(lfirst(cell))->table);
    CommandCounterIncrement();
    foreach (cell, drops)
        drop_from_shards(&batch, static_cast<Drop *>(lfirst(cell)));
    List *gone = nullptr; // groups that lost their last table
    foreach (cell, drops) {
        auto *drop = static_cast<Drop *>(lfirst(cell));
        int32 group = drop->table->colocation_id;
        if (list_member_int(gone, group) || colocated_tables(group) != nullptr)
            continue;
        gone = lappend_int(gone, group);
        delete_group(drop->table);
        drop_schemas(&batch, drop->table);
    }
    batch_finish(&batch);
}

void forget_table(const DistributedTable *table) {
    note_table(table);
    flush_drops();
    invalidate_table(table->relid);
    CommandCounterIncrement();
}

void init_drops() {
    RegisterXactCallback(transaction_ends, nullptr);
    RegisterSubXactCallback(subtransaction_ended, nullptr);
}

} // namespace panvel
