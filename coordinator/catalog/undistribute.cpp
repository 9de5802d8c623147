// undistribute_table(): a shell becomes an ordinary table again, its rows come back from the
// shards.
//
// Everything happens in the caller's transaction: an error at any point, on any node, leaves the
// table distributed and its shards as they were.
#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/distribution_label.h"
#include "coordinator/catalog/metadata.h"
#include "coordinator/catalog/shell_am.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/foreign_keys.h"
#include "coordinator/executor/node_rows.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/toasting.h"
#include "commands/tablecmds.h"
#include "executor/tuptable.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
}

namespace panvel {
namespace {

// Rows per FETCH: few enough for memory where they are as large as 16,000 dimensions (64 kB) make
// them, enough that the next batch has arrived when one is worked off.
constexpr int kBatchRows = 200;

// The table, locked against everybody, once it is clear that it is the caller's to change.
Relation open_shell(Oid relid) {
    Relation relation = try_relation_open(relid, AccessExclusiveLock);
    if (relation == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("relation with OID %u does not exist", relid)));
    const char *name = RelationGetRelationName(relation);
    if (!pg_class_ownercheck(relid, GetUserId()))
        aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(relation->rd_rel->relkind), name);
    const DistributedTable *table = get_distributed_table(relid);
    CheckTableNotInUse(relation, "panvel.undistribute_table()");
    // The rows are read as the current user: a policy that hides some would lose them.
    check_enable_rls(relid, InvalidOid, false);
    if (IsolationUsesXactSnapshot())
        ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                        errmsg("panvel.undistribute_table() must run in a READ COMMITTED "
                               "transaction"),
                        errdetail("The transaction's snapshot may lack rows of \"%s\".", name)));
    check_no_shared_foreign_keys(relid);
    if (table->is_reference)
        lock_reference_table(relid);
    return relation;
}

// ---------------------------------------------------------------- the ordinary table

// TOAST options are not kept by the shell, which has no TOAST table: a shard has them. Null: none.
Datum toast_options(const DistributedTable *table) {
    const Shard *shard = &table->shards[0];
    RemoteStatement statement = {};
    statement.sql = psprintf("SELECT t.reloptions FROM pg_catalog.pg_class c "
                             "JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid "
                             "WHERE c.oid = %s::pg_catalog.regclass AND t.reloptions IS NOT NULL",
                             quote_literal_cstr(shard_relation_name(table, shard)));
    statement.effect = Effect::kReadOnce;
    RemoteRequest *request = remote_send(read_node(shard), &statement);
    PGresult *result = remote_wait(request);
    Datum options = 0;
    if (PQntuples(result) > 0) {
        char *names = PQgetvalue(result, 0, 0); // of a table: prefix and all are the table's own
        Oid input;
        Oid io_param;
        getTypeInputInfo(TEXTARRAYOID, &input, &io_param);
        options = OidInputFunctionCall(input, names, io_param, -1);
    }
    remote_release(request);
    return options;
}

// The shell's empty storage becomes an empty heap with the same indexes.
void make_heap(Oid relid, Datum options) {
    AlterTableCmd *command = makeNode(AlterTableCmd);
    command->subtype = AT_SetAccessMethod;
    command->name = pstrdup("heap");
    allow_shell_conversion(true);
    PG_TRY();
    { AlterTableInternal(relid, list_make1(command), false); }
    PG_FINALLY();
    { allow_shell_conversion(false); }
    PG_END_TRY();
    CommandCounterIncrement();
    AlterTableCreateToastTable(relid, options, AccessExclusiveLock);
    CommandCounterIncrement();
}

// ---------------------------------------------------------------- the rows

// What a shard's rows are read into: the columns that exist, generated ones too.
struct Columns {
    int count;
    int *numbers; // in the table, from 0
    TupleDesc descriptor;
    char *names; // "a, b", quoted
};

Columns live_columns(Relation relation) {
    TupleDesc all = RelationGetDescr(relation);
    Columns columns = {};
    columns.numbers = palloc_array(int, all->natts + 1);
    StringInfoData names;
    initStringInfo(&names);
    for (int i = 0; i < all->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(all, i);
        if (column->attisdropped)
            continue;
        columns.numbers[columns.count++] = i;
        appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
                         quote_identifier(NameStr(column->attname)));
    }
    columns.descriptor = CreateTemplateTupleDesc(columns.count);
    for (int i = 0; i < columns.count; i++)
        TupleDescCopyEntry(columns.descriptor, static_cast<AttrNumber>(i + 1), all,
                           static_cast<AttrNumber>(columns.numbers[i] + 1));
    columns.names = names.data;
    return columns;
}

NodeRows *start_shard(const DistributedTable *table, const Shard *shard, const Columns *columns) {
    auto *rows = palloc0_object(NodeRows);
    rows->node_id = read_node(shard);
    rows->shard_id = shard->shard_id;
    rows->sql = psprintf("SELECT %s FROM %s", columns->names, shard_relation_name(table, shard));
    rows->decoder = make_row_decoder(columns->descriptor);
    rows->batch_rows = kBatchRows;
    rows->context = AllocSetContextCreate(CurrentMemoryContext, "panvel returning rows",
                                          ALLOCSET_DEFAULT_SIZES);
    rows->row_context =
        AllocSetContextCreate(rows->context, "panvel returning row", ALLOCSET_DEFAULT_SIZES);
    start_node_rows(rows);
    return rows;
}

// Inserts what one shard has; indexes are built when all rows are there.
void take_shard(NodeRows *rows, const Columns *columns, Relation relation, TupleTableSlot *slot,
                BulkInsertState bulk) {
    auto *values = palloc0_array(Datum, columns->count + 1);
    auto *isnull = palloc0_array(bool, columns->count + 1);
    CommandId command = GetCurrentCommandId(true);
    while (next_node_row(rows, values, isnull)) {
        CHECK_FOR_INTERRUPTS();
        ExecClearTuple(slot);
        memset(slot->tts_isnull, true, RelationGetDescr(relation)->natts);
        for (int i = 0; i < columns->count; i++) {
            slot->tts_values[columns->numbers[i]] = values[i];
            slot->tts_isnull[columns->numbers[i]] = isnull[i];
        }
        ExecStoreVirtualTuple(slot);
        MemoryContext caller = MemoryContextSwitchTo(rows->row_context);
        table_tuple_insert(relation, slot, command, TABLE_INSERT_SKIP_FSM, bulk);
        MemoryContextSwitchTo(caller);
    }
    stop_node_rows(rows);
    MemoryContextDelete(rows->context);
}

// The next shard's first rows are on their way while one is read.
void take_rows(const DistributedTable *table, Relation relation) {
    Columns columns = live_columns(relation);
    TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsVirtual);
    BulkInsertState bulk = GetBulkInsertState();
    NodeRows *next = start_shard(table, &table->shards[0], &columns);
    for (int i = 0; i < table->shard_count; i++) {
        NodeRows *rows = next;
        if (i + 1 < table->shard_count)
            next = start_shard(table, &table->shards[i + 1], &columns);
        take_shard(rows, &columns, relation, slot, bulk);
    }
    ExecClearTuple(slot);
    FreeBulkInsertState(bulk);
    table_finish_bulk_insert(relation, TABLE_INSERT_SKIP_FSM);
    ExecDropSingleTupleTableSlot(slot);
}

void undistribute_table(Oid relid) {
    require_preload();
    PreventCommandIfReadOnly("panvel.undistribute_table()");
    table_close(open_shell(relid), NoLock);
    const DistributedTable *table = get_distributed_table(relid); // as it is under the lock
    make_heap(relid, toast_options(table));
    Relation relation = table_open(relid, NoLock);
    take_rows(table, relation);
    table_close(relation, NoLock);
    unlabel_distributed_table(table);
    forget_table(table);
    ReindexParams params = {};
    reindex_relation(relid, REINDEX_REL_CHECK_CONSTRAINTS, &params);
}

} // namespace
} // namespace panvel

SQL_FUNCTION(panvel_undistribute_table) {
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("argument \"relation\" must not be null")));
    panvel::undistribute_table(PG_GETARG_OID(0));
    PG_RETURN_VOID();
}
