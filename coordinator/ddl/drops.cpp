// Tables and indexes go in many ways: DROP TABLE, DROP SCHEMA CASCADE, DROP OWNED, DROP TYPE
// CASCADE. All of them pass the object access hook, object by object; what it notes is done on
// the nodes when the statement has ended.
#include "coordinator/catalog/catalog.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/node_batch.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

enum class DropKind { kTable, kIndex, kPart };

struct Drop {
    DropKind kind;
    const DistributedTable *table; // valid until the end of the transaction
    const char *name;              // of the table, the index, or the part's description
};

List *noted = nullptr; // Drop *, in TopTransactionContext

void forget_all() {
    noted = nullptr;
}

// A drop that no utility statement made (by an extension's own code) is worked off at the latest
// possible time. Callbacks run in the reverse order of their registration: this one comes before
// the distributed transaction's, which then commits it.
void transaction_ends(XactEvent event, void *) {
    if (event == XACT_EVENT_PRE_COMMIT)
        pg::entry(flush_drops);
    else if (event == XACT_EVENT_ABORT)
        forget_all();
}

void subtransaction_ended(SubXactEvent event, SubTransactionId, SubTransactionId, void *) {
    if (event == SUBXACT_EVENT_ABORT_SUB)
        forget_all();
}

void note(DropKind kind, const DistributedTable *table, const char *name) {
    MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
    auto *drop = palloc_object(Drop);
    drop->kind = kind;
    drop->table = table;
    drop->name = pstrdup(name);
    noted = lappend(noted, drop);
    MemoryContextSwitchTo(caller);
}

void note_relation(Oid relid, int column) {
    const DistributedTable *table = distributed_by_relid(relid);
    if (table == nullptr)
        return;
    if (column != 0)
        note(DropKind::kPart, table,
             psprintf("column \"%s\"", get_attname(relid, static_cast<AttrNumber>(column), false)));
    else if (relid == table->relid)
        note(DropKind::kTable, table, get_rel_name(relid));
    else
        note(DropKind::kIndex, table, get_rel_name(relid));
}

// The table of a row of pg_constraint or pg_attrdef, found by the row's OID.
void note_constraint(Oid oid) {
    HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(oid));
    if (!HeapTupleIsValid(tuple))
        return;
    auto *form = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(tuple));
    const DistributedTable *table = distributed_by_relid(form->conrelid);
    // The index of a primary key or unique constraint is noted by itself; on the shards it is
    // the constraint that has to go.
    if (table != nullptr)
        note(DropKind::kPart, table, psprintf("constraint \"%s\"", NameStr(form->conname)));
    ReleaseSysCache(tuple);
}

bool is_dropped(const DistributedTable *table) {
    ListCell *cell;
    foreach (cell, noted) {
        auto *drop = static_cast<Drop *>(lfirst(cell));
        if (drop->kind == DropKind::kTable && drop->table->relid == table->relid)
            return true;
    }
    return false;
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
        batch_send(batch, lfirst_int(cell), sql.data);
    }
}

void drop_from_shards(NodeBatch *batch, const Drop *drop) {
    const char *command = drop->kind == DropKind::kTable ? "DROP TABLE" : "DROP INDEX";
    ListCell *cell;
    foreach (cell, nodes_of_table(drop->table)) {
        char *names = shard_names_on_node(drop->table, lfirst_int(cell), drop->name);
        batch_send(batch, lfirst_int(cell), psprintf("%s IF EXISTS %s CASCADE", command, names));
    }
}

void drop_tables(NodeBatch *batch) {
    ListCell *cell;
    foreach (cell, noted) {
        auto *drop = static_cast<Drop *>(lfirst(cell));
        if (drop->kind == DropKind::kTable)
            delete_table_row(drop->table);
    }
    CommandCounterIncrement();

    foreach (cell, noted) {
        auto *drop = static_cast<Drop *>(lfirst(cell));
        if (drop->kind == DropKind::kTable)
            drop_from_shards(batch, drop);
    }
    List *gone = nullptr; // groups that lost their last table
    foreach (cell, noted) {
        auto *drop = static_cast<Drop *>(lfirst(cell));
        int32 group = drop->table->colocation_id;
        if (drop->kind != DropKind::kTable || list_member_int(gone, group) ||
            colocated_tables(group) != nullptr)
            continue;
        gone = lappend_int(gone, group);
        delete_group(drop->table);
        drop_schemas(batch, drop->table);
    }
}

} // namespace

void note_drop(Oid class_id, Oid object_id, int sub_id) {
    if (class_id == RelationRelationId)
        note_relation(object_id, sub_id);
    else if (class_id == ConstraintRelationId)
        note_constraint(object_id);
}

void flush_drops() {
    if (noted == nullptr)
        return;
    NodeBatch batch;
    ListCell *cell;
    foreach (cell, noted) {
        auto *drop = static_cast<Drop *>(lfirst(cell));
        if (drop->kind == DropKind::kTable || is_dropped(drop->table))
            continue;
        if (drop->kind == DropKind::kPart)
            ereport(ERROR,
                    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                     errmsg("cannot drop %s of distributed table \"%s\"", drop->name,
                            get_rel_name(drop->table->relid)),
                     errdetail("Something that it depends on was dropped with CASCADE, and the "
                               "shards would keep it.")));
        drop_from_shards(&batch, drop);
    }
    drop_tables(&batch);
    forget_all();
    batch_finish(&batch);
}

void forget_table(const DistributedTable *table) {
    note(DropKind::kTable, table, get_rel_name(table->relid));
    flush_drops();
    invalidate_table(table->relid);
    CommandCounterIncrement();
}

void init_drops() {
    RegisterXactCallback(transaction_ends, nullptr);
    RegisterSubXactCallback(subtransaction_ended, nullptr);
}

} // namespace panvel
