// Between two snapshots a row is gone when the first sees it and the second does not, and has come
// when it is the other way round; an updated row is both, under its key. A registered snapshot
// keeps VACUUM and pruning from what it sees, so one pass over the table's tuples finds all of it:
// no trigger, no journal, nothing that writers have to do.
#include "coordinator/catalog/online_copy.h"

#include "coordinator/ddl/node_batch.h"
#include "coordinator/ddl/shard_ddl.h"
#include "coordinator/ddl/shard_loader.h"
#include "coordinator/replication/jobs.h"

extern "C" {
#include "access/genam.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "commands/progress.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/backend_progress.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace panvel {
namespace {

constexpr int kKeysPerDelete = 200;

// ---------------------------------------------------------------- keys that have gone

struct KeyColumn {
    AttrNumber number;
    const char *name;     // quoted
    const char *type;     // to cast to
    const char *equality; // "OPERATOR(pg_catalog.=)"
    FmgrInfo output;
};

struct ShardDeletes {
    StringInfoData keys; // "('1'::int4, 'x'::text), ..."
    int count;
};

struct Deleter {
    const DistributedTable *table;
    MemoryContext context; // of what outlives a row
    int column_count;
    KeyColumn columns[INDEX_MAX_KEYS];
    ShardDeletes *shards;
    NodeBatch batch;
};

char *equality_operator(Relation index, int column) {
    Oid type = index->rd_opcintype[column];
    Oid equality =
        get_opfamily_member(index->rd_opfamily[column], type, type, BTEqualStrategyNumber);
    Oid schema = InvalidOid;
    char *name = OidIsValid(equality) ? get_opname(equality) : nullptr;
    if (name != nullptr)
        schema = get_func_namespace(get_opcode(equality));
    if (!OidIsValid(schema))
        elog(ERROR, "index \"%s\" has no equality operator", RelationGetRelationName(index));
    return psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(schema)), name);
}

void init_key_columns(Deleter *deleter, Relation relation) {
    Relation index = relation_open(RelationGetPrimaryKeyIndex(relation), AccessShareLock);
    deleter->column_count = index->rd_index->indnkeyatts;
    for (int i = 0; i < deleter->column_count; i++) {
        KeyColumn *column = &deleter->columns[i];
        column->number = index->rd_index->indkey.values[i];
        Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), column->number - 1);
        column->name = quote_identifier(NameStr(attribute->attname));
        column->type = column_type(attribute->atttypid, attribute->atttypmod);
        column->equality = equality_operator(index, i);
        Oid function;
        bool varlena;
        getTypeOutputInfo(attribute->atttypid, &function, &varlena);
        fmgr_info(function, &column->output);
    }
    relation_close(index, NoLock);
}

void send_deletes(Deleter *deleter, int shard_index) {
    ShardDeletes *deletes = &deleter->shards[shard_index];
    if (deletes->count == 0)
        return;
    const Shard *shard = &deleter->table->shards[shard_index];
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, "DELETE FROM ONLY %s t USING (VALUES %s) v(",
                     shard_relation_name(deleter->table, shard), deletes->keys.data);
    for (int i = 0; i < deleter->column_count; i++)
        appendStringInfo(&sql, "%sk%d", i > 0 ? ", " : "", i);
    appendStringInfoString(&sql, ") WHERE ");
    for (int i = 0; i < deleter->column_count; i++)
        appendStringInfo(&sql, "%st.%s %s v.k%d", i > 0 ? " AND " : "", deleter->columns[i].name,
                         deleter->columns[i].equality, i);
    MemoryContext caller = MemoryContextSwitchTo(deleter->context);
    for (int i = 0; i < shard->placement_count; i++)
        batch_send(&deleter->batch, shard->placements[i].node_id, sql.data);
    MemoryContextSwitchTo(caller);
    resetStringInfo(&deletes->keys);
    deletes->count = 0;
}

void delete_key(Deleter *deleter, TupleTableSlot *slot) {
    AttrNumber distribution = deleter->table->distribution_attribute; // 0: a reference table
    int shard = distribution == 0
                    ? 0
                    : shard_index_for_value(deleter->table, slot->tts_values[distribution - 1]);
    ShardDeletes *deletes = &deleter->shards[shard];
    appendStringInfoString(&deletes->keys, deletes->count > 0 ? ", (" : "(");
    for (int i = 0; i < deleter->column_count; i++) {
        KeyColumn *column = &deleter->columns[i];
        char *text = OutputFunctionCall(&column->output, slot->tts_values[column->number - 1]);
        appendStringInfo(&deletes->keys, "%s%s::%s", i > 0 ? ", " : "", quote_literal_cstr(text),
                         column->type);
    }
    appendStringInfoChar(&deletes->keys, ')');
    if (++deletes->count >= kKeysPerDelete)
        send_deletes(deleter, shard);
}

// ---------------------------------------------------------------- rows that have come

struct Tids {
    ItemPointerData *items;
    size_t count;
    size_t capacity;
};

void add_tid(Tids *tids, ItemPointer tid) {
    if (tids->count == tids->capacity) {
        tids->capacity *= 2;
        tids->items = static_cast<ItemPointerData *>(
            repalloc_huge(tids->items, tids->capacity * sizeof(ItemPointerData)));
    }
    tids->items[tids->count++] = *tid;
}

void load_slot(ShardLoader *loader, TupleTableSlot *slot, MemoryContext row_context) {
    MemoryContext caller = MemoryContextSwitchTo(row_context);
    slot_getallattrs(slot);
    load_row(loader, slot->tts_values, slot->tts_isnull, 0);
    MemoryContextSwitchTo(caller);
    MemoryContextReset(row_context);
}

void load_rows(const DistributedTable *table, Relation relation, const Tids *tids,
               Snapshot snapshot, TupleTableSlot *slot, MemoryContext row_context) {
    ShardLoader *loader = begin_shard_load(table, relation);
    for (size_t i = 0; i < tids->count; i++) {
        CHECK_FOR_INTERRUPTS();
        if (!table_tuple_fetch_row_version(relation, &tids->items[i], snapshot, slot))
            elog(ERROR, "a row of \"%s\" has vanished", RelationGetRelationName(relation));
        load_slot(loader, slot, row_context);
    }
    ExecClearTuple(slot);
    finish_shard_load(loader);
}

// Texts of values that every session reads the same way.
int enter_plain_output() {
    int level = enter_qualified_names();
    struct {
        const char *name;
        const char *value;
    } settings[] = {
        {"datestyle", "ISO"}, {"intervalstyle", "postgres"}, {"extra_float_digits", "3"}};
    for (const auto &setting : settings)
        (void)set_config_option(setting.name, setting.value, PGC_USERSET, PGC_S_SESSION,
                                GUC_ACTION_SAVE, true, 0, false);
    return level;
}

} // namespace

LOCKMODE lock_for_copy(Oid relid) {
    Relation relation = try_relation_open(relid, AccessShareLock);
    if (relation == nullptr) // the caller says so
        return AccessExclusiveLock;
    bool has_key = OidIsValid(RelationGetPrimaryKeyIndex(relation));
    relation_close(relation, AccessShareLock);
    return has_key ? ShareUpdateExclusiveLock : AccessExclusiveLock;
}

uint64 copy_snapshot(const DistributedTable *table, Relation relation, Snapshot snapshot) {
    ShardLoader *loader = begin_shard_load(table, relation);
    TupleTableSlot *slot = table_slot_create(relation, nullptr);
    MemoryContext row_context =
        AllocSetContextCreate(CurrentMemoryContext, "panvel copied row", ALLOCSET_DEFAULT_SIZES);
    auto blocks = static_cast<int64>(RelationGetNumberOfBlocks(relation));
    begin_table_job(RelationGetRelid(relation));
    add_to_job(blocks);
    pgstat_progress_start_command(PROGRESS_COMMAND_COPY, RelationGetRelid(relation));
    pgstat_progress_update_param(PROGRESS_COPY_COMMAND, PROGRESS_COPY_COMMAND_TO);
    pgstat_progress_update_param(PROGRESS_COPY_BYTES_TOTAL, blocks * BLCKSZ);
    // From the first block, wherever another scan is, so that the block says how far it is.
    TableScanDesc scan = table_beginscan_strat(relation, snapshot, 0, nullptr, true, false);
    int64 rows = 0;
    int64 block = 0; // that is being read
    while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        load_slot(loader, slot, row_context);
        pgstat_progress_update_param(PROGRESS_COPY_TUPLES_PROCESSED, ++rows);
        auto now_at = static_cast<int64>(ItemPointerGetBlockNumber(&slot->tts_tid));
        if (now_at == block)
            continue;
        advance_job(now_at - block);
        block = now_at;
        pgstat_progress_update_param(PROGRESS_COPY_BYTES_PROCESSED, block * BLCKSZ);
    }
    table_endscan(scan);
    ExecDropSingleTupleTableSlot(slot);
    MemoryContextDelete(row_context);
    uint64 loaded = finish_shard_load(loader);
    advance_job(blocks - block);
    pgstat_progress_end_command();
    return loaded;
}

int64 copy_changes(const DistributedTable *table, Relation relation, Snapshot before,
                   Snapshot now) {
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "panvel changes", ALLOCSET_DEFAULT_SIZES);
    MemoryContext row_context =
        AllocSetContextCreate(context, "panvel changed row", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    auto *deleter = palloc0_object(Deleter);
    deleter->table = table;
    deleter->context = context;
    init_key_columns(deleter, relation);
    deleter->shards = palloc0_array(ShardDeletes, table->shard_count);
    for (int i = 0; i < table->shard_count; i++)
        initStringInfo(&deleter->shards[i].keys);
    Tids came = {palloc_array(ItemPointerData, 64), 0, 64};
    int64 difference = 0;

    int level = enter_plain_output();
    TupleTableSlot *slot = table_slot_create(relation, nullptr);
    TableScanDesc scan = table_beginscan(relation, SnapshotAny, 0, nullptr);
    while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        bool was = table_tuple_satisfies_snapshot(relation, slot, before);
        bool is = table_tuple_satisfies_snapshot(relation, slot, now);
        if (was && !is) {
            MemoryContextSwitchTo(row_context);
            slot_getallattrs(slot);
            delete_key(deleter, slot);
            MemoryContextSwitchTo(context);
            MemoryContextReset(row_context);
        } else if (is && !was) {
            add_tid(&came, &slot->tts_tid);
        }
        difference += static_cast<int64>(is) - static_cast<int64>(was);
    }
    table_endscan(scan);
    for (int i = 0; i < table->shard_count; i++)
        send_deletes(deleter, i);
    batch_finish(&deleter->batch);
    leave_qualified_names(level);
    load_rows(table, relation, &came, now, slot, row_context);
    ExecDropSingleTupleTableSlot(slot);
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(context);
    return difference;
}

} // namespace panvel
