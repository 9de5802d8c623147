#include "coordinator/executor/row_collector.h"

#include "extension/pg/compat.h"

extern "C" {
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
}

namespace panvel {
namespace {

// How often the statement is evaluated because rows were changed under it. Rows that were locked
// stay so, hence each time there are fewer left that can change.
constexpr int kAttempts = 100;

// The rows whose version is to be locked; the one answer of the shard is how many still have it. A
// row that another transaction has changed meanwhile has got a new place, or another one's place.
const char *const kLockCommand =
    "SELECT pg_catalog.count(*) FROM (SELECT t.ctid AS c, t.xmin AS x FROM ";
const char *const kLockTail =
    " AS t WHERE t.ctid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.tid[]) FOR %s) AS l "
    "JOIN ROWS FROM (pg_catalog.unnest($1::pg_catalog.tid[]), "
    "pg_catalog.unnest($2::pg_catalog.xid[])) AS r(c, x) "
    "ON l.c OPERATOR(pg_catalog.=) r.c AND l.x OPERATOR(pg_catalog.=) r.x";

struct RowKey {
    int32 shard;
    uint16 offset;
    uint16 unused;
    uint32 block;
};

MemoryContext query_context(const RowCollector *collector) {
    return collector->modify->custom.ss.ps.state->es_query_cxt;
}

// A rescan reads again only what a changed parameter asks for: hash tables, sorted and materialized
// rows are kept. So every node of the plan is told that one has changed; but for its subqueries,
// WITH queries among them, which are not executed twice.
bool mark_changed_walker(PlanState *node, void *estate) {
    auto *state = static_cast<EState *>(estate);
    if (list_member_ptr(state->es_subplanstates, node))
        return false;
    node->chgParam =
        bms_add_member(node->chgParam, list_length(state->es_plannedstmt->paramExecTypes));
    return planstate_tree_walker(node, pg::plan_walker(mark_changed_walker), estate);
}

void start(RowCollector *collector) {
    if (collector->rows != nullptr) {
        mark_changed_walker(collector->child, collector->child->state);
        tuplestore_clear(collector->rows);
        hash_destroy(collector->seen);
        ExecReScan(collector->child);
    } else {
        collector->rows = tuplestore_begin_heap(false, false, work_mem);
    }
    HASHCTL control = {};
    control.keysize = sizeof(RowKey);
    control.entrysize = sizeof(RowKey);
    control.hcxt = query_context(collector);
    collector->seen =
        hash_create("panvel changed rows", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    const ModifyPlan *plan = collector->modify->plan;
    collector->locker = make_row_writer(
        collector->modify, kLockCommand, psprintf(kLockTail, collector->strength),
        ExecGetResultType(collector->child), list_make2_int(plan->ctid, plan->xmin));
    collector->locker->locks = true;
}

bool collect_and_lock(RowCollector *collector, const RowVisitor *visitor) {
    start(collector);
    ExprContext *context = collector->modify->custom.ss.ps.ps_ExprContext;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        TupleTableSlot *slot = ExecProcNode(collector->child);
        if (TupIsNull(slot))
            break;
        slot_getallattrs(slot);
        ResetExprContext(context);
        MemoryContext previous = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
        visitor->each(collector->modify, slot);
        MemoryContextSwitchTo(previous);
    }
    flush_rows(collector->locker);
    return collector->locker->affected == collector->locker->written;
}

} // namespace

RowCollector *make_row_collector(ModifyState *modify, PlanState *child, const char *strength) {
    RowCollector *collector = palloc0_object(RowCollector);
    collector->modify = modify;
    collector->child = child;
    collector->strength = strength;
    collector->slot = ExecInitExtraTupleSlot(modify->custom.ss.ps.state, ExecGetResultType(child),
                                             &TTSOpsMinimalTuple);
    return collector;
}

void collect_rows(RowCollector *collector, const RowVisitor *visitor) {
    MemoryContext previous = MemoryContextSwitchTo(query_context(collector));
    evaluate_initplans(collector->modify);
    int attempt = 1;
    while (!collect_and_lock(collector, visitor)) {
        if (attempt++ == kAttempts)
            ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                            errmsg("could not change table \"%s\" due to concurrent updates",
                                   get_rel_name(collector->modify->table->relid)),
                            errhint("The transaction might succeed if retried.")));
        if (visitor->restart != nullptr)
            visitor->restart(collector->modify);
    }
    MemoryContextSwitchTo(previous);
}

int shard_of_row(RowCollector *collector, TupleTableSlot *slot) {
    const DistributedTable *table = collector->modify->table;
    if (table->is_reference)
        return 0;
    bool isnull;
    return shard_index_for_value(table, slot_getattr(slot, collector->modify->plan->key, &isnull));
}

bool note_row(RowCollector *collector, int shard, TupleTableSlot *slot) {
    bool isnull;
    auto *place = reinterpret_cast<ItemPointer>(
        DatumGetPointer(slot_getattr(slot, collector->modify->plan->ctid, &isnull)));
    RowKey key = {shard, ItemPointerGetOffsetNumber(place), 0, ItemPointerGetBlockNumber(place)};
    bool found;
    hash_search(collector->seen, &key, HASH_ENTER, &found);
    return !found;
}

void lock_row(RowCollector *collector, int shard, TupleTableSlot *slot) {
    write_row(collector->locker, shard, slot);
}

void collect_row(RowCollector *collector, TupleTableSlot *slot) {
    tuplestore_puttupleslot(collector->rows, slot);
}

void check_row_key(RowCollector *collector, Datum old_key, Datum new_key, bool new_is_null) {
    const DistributedTable *table = collector->modify->table;
    FmgrInfo hash = table->hash;
    auto hash_of = [&](Datum key) {
        return DatumGetUInt64(
            FunctionCall2Coll(&hash, table->distribution_collation, key, Int64GetDatum(0)));
    };
    if (new_is_null || hash_of(old_key) != hash_of(new_key))
        refuse_key_update(table);
}

TupleTableSlot *next_collected(RowCollector *collector) {
    if (!tuplestore_gettupleslot(collector->rows, true, false, collector->slot))
        return nullptr;
    slot_getallattrs(collector->slot);
    return collector->slot;
}

void end_row_collector(RowCollector *collector) {
    if (collector->rows != nullptr)
        tuplestore_end(collector->rows);
    ExecEndNode(collector->child);
}

} // namespace panvel
