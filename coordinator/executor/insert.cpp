// INSERT: rows of the child plan are routed by the hash of the distribution column, collected per
// shard and sent in batches, to all shards at once. See README.md in this directory.
#include "coordinator/executor/modify.h"
#include "coordinator/executor/returning.h"
#include "coordinator/executor/row_batch.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "executor/executor.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"
}

namespace panvel {
namespace {

// A shard's rows are sent when there are so many, or so many bytes of them.
constexpr int kBatchRows = 1000;
constexpr size_t kBatchBytes = 512 * 1024;
// The child plan is not read further while so much is under way.
constexpr size_t kBytesUnderWay = 8 * 1024 * 1024;
// With RETURNING, rows are written and then returned in turns of so many.
constexpr int kReturningRows = 10000;
constexpr size_t kReturningBytes = 16 * 1024 * 1024;
// ON CONFLICT DO UPDATE: all rows of a shard go in one statement, which has limits.
constexpr size_t kStatementBytes = 512 * 1024 * 1024;

// A statement under way or, with RETURNING, whose rows have not all been handed out.
struct Sent {
    WriteRequest write;
    size_t bytes;
    int shard;
    MemoryContext rows; // of its parameters, where followers get them too; else null
};

struct InsertState {
    ModifyState modify; // first
    SentColumns *columns;
    Returning *returning;
    Tuplestorestate *source; // the child's rows, where they must be read before any is written
    TupleTableSlot *source_slot;
    bool started;
    bool exhausted;           // the child plan has no more rows
    const RemoteParams *more; // parameters of ON CONFLICT
    RowBatch *batches;        // one per shard
    Bitmapset *shards;        // that got rows
    const char *last_tail;    // for EXPLAIN
    List *sent;               // of Sent *, in the order sent
    size_t bytes_under_way;
    // RETURNING: the shards of this turn's rows in the order of the rows.
    int *order;
    int order_count;
    int order_next;
    List **results;  // per shard: its statements of this turn with rows left (Sent *)
    int *result_row; // per shard: the next row of the first of them
};

InsertState *state_of(CustomScanState *node) {
    return reinterpret_cast<InsertState *>(node);
}

PlanState *child_of(InsertState *state) {
    return static_cast<PlanState *>(linitial(state->modify.custom.custom_ps));
}

MemoryContext query_context(InsertState *state) {
    return state->modify.custom.ss.ps.state->es_query_cxt;
}

bool is_upsert(const InsertState *state) {
    return state->modify.plan->on_conflict == ONCONFLICT_UPDATE;
}

// ------------------------------------------------------------------ sending

void finish(InsertState *state, Sent *sent) {
    finish_write(&state->modify, &sent->write);
    if (sent->rows != nullptr)
        MemoryContextDelete(sent->rows);
    sent->rows = nullptr;
    state->bytes_under_way -= sent->bytes;
    state->sent = list_delete_ptr(state->sent, sent);
    if (state->returning != nullptr) {
        state->results[sent->shard] = lappend(state->results[sent->shard], sent);
        return;
    }
    remote_release(sent->write.request);
    pfree(sent);
}

// Waits until the statements under way are few enough.
void limit_under_way(InsertState *state) {
    while (state->bytes_under_way > kBytesUnderWay && state->returning == nullptr) {
        int count = list_length(state->sent);
        auto **requests = palloc_array(RemoteRequest *, count);
        for (int i = 0; i < count; i++)
            requests[i] = static_cast<Sent *>(list_nth(state->sent, i))->write.request;
        int done = remote_wait_any(requests, count);
        pfree(requests);
        finish(state, static_cast<Sent *>(list_nth(state->sent, done)));
    }
}

void flush(InsertState *state, int shard) {
    RowBatch *batch = &state->batches[shard];
    if (batch->row_count == 0)
        return;
    const ModifyPlan *plan = state->modify.plan;
    const char *tail = batch->row_count == 1 ? plan->tail : plan->tail_many;
    MemoryContext previous = MemoryContextSwitchTo(query_context(state));
    Sent *sent = palloc_object(Sent);
    sent->bytes = batch->bytes;
    sent->shard = shard;
    sent->write = send_write(&state->modify, &state->modify.table->shards[shard], plan->command,
                             tail, batch_params(batch, state->columns, state->more));
    state->sent = lappend(state->sent, sent);
    state->shards = bms_add_member(state->shards, shard);
    MemoryContextSwitchTo(previous);
    state->last_tail = tail;
    state->bytes_under_way += batch->bytes;
    sent->rows = sends_same_to_followers(&state->modify) ? batch->context : nullptr;
    if (sent->rows != nullptr)
        init_row_batch(batch, query_context(state)); // the rows stay where they are
    else
        clear_row_batch(batch);
    limit_under_way(state);
}

int route(InsertState *state, TupleTableSlot *slot) {
    const DistributedTable *table = state->modify.table;
    AttrNumber attribute = table->distribution_attribute;
    if (table->is_reference)
        return 0;
    if (slot->tts_isnull[attribute - 1])
        raise_null_key(&state->modify);
    ExprContext *context = state->modify.custom.ss.ps.ps_ExprContext;
    ResetExprContext(context);
    MemoryContext previous = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
    int shard = shard_index_for_value(table, slot->tts_values[attribute - 1]);
    MemoryContextSwitchTo(previous);
    return shard;
}

void write_row(InsertState *state, TupleTableSlot *slot) {
    slot_getallattrs(slot);
    int shard = route(state, slot);
    RowBatch *batch = &state->batches[shard];
    add_row(batch, state->columns, slot);
    if (state->returning != nullptr)
        state->order[state->order_count++] = shard;
    if (is_upsert(state)) {
        if (batch->bytes > kStatementBytes)
            ereport(ERROR,
                    (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                     errmsg("INSERT ... ON CONFLICT DO UPDATE of more than %zu MB for one shard",
                            kStatementBytes / (1024 * 1024)),
                     errhint("Insert fewer rows in one statement.")));
        return;
    }
    if (batch->row_count >= kBatchRows || batch->bytes >= kBatchBytes)
        flush(state, shard);
}

// ------------------------------------------------------------------ turns

TupleTableSlot *next_source_row(InsertState *state) {
    if (state->source == nullptr)
        return ExecProcNode(child_of(state));
    if (!tuplestore_gettupleslot(state->source, true, false, state->source_slot))
        return nullptr;
    return state->source_slot;
}

void start(InsertState *state) {
    state->started = true;
    ModifyState *modify = &state->modify;
    MemoryContext previous = MemoryContextSwitchTo(query_context(state));
    evaluate_initplans(modify);
    state->more = evaluate_params(modify->params, modify->custom.ss.ps.ps_ExprContext);
    state->batches = palloc0_array(RowBatch, modify->table->shard_count);
    for (int i = 0; i < modify->table->shard_count; i++)
        init_row_batch(&state->batches[i], query_context(state));
    if (state->returning != nullptr) {
        state->results = palloc0_array(List *, modify->table->shard_count);
        state->result_row = palloc0_array(int, modify->table->shard_count);
    }
    if (modify->reads_own_table) {
        state->source = tuplestore_begin_heap(false, false, work_mem);
        state->source_slot = ExecInitExtraTupleSlot(
            modify->custom.ss.ps.state, ExecGetResultType(child_of(state)), &TTSOpsMinimalTuple);
        for (;;) {
            TupleTableSlot *slot = ExecProcNode(child_of(state));
            if (TupIsNull(slot))
                break;
            tuplestore_puttupleslot(state->source, slot);
        }
    }
    MemoryContextSwitchTo(previous);
}

// Whether this turn's rows are to be returned before more are written.
bool turn_is_full(const InsertState *state) {
    if (state->returning == nullptr || is_upsert(state))
        return false;
    return state->order_count >= kReturningRows || state->bytes_under_way >= kReturningBytes;
}

void make_room_in_order(InsertState *state, int *capacity) {
    if (state->returning == nullptr || state->order_count < *capacity)
        return;
    *capacity = *capacity == 0 ? 64 : *capacity * 2;
    state->order = state->order == nullptr ? palloc_array(int, *capacity)
                                           : repalloc_array(state->order, int, *capacity);
}

// Writes rows: all that the child has, or with RETURNING as many as one turn takes.
void write_rows(InsertState *state) {
    if (!state->started)
        start(state);
    MemoryContext previous = MemoryContextSwitchTo(query_context(state));
    int capacity = 0;
    state->order = nullptr;
    state->order_count = state->order_next = 0;
    while (!turn_is_full(state)) {
        CHECK_FOR_INTERRUPTS();
        TupleTableSlot *slot = next_source_row(state);
        if (TupIsNull(slot)) {
            state->exhausted = true;
            break;
        }
        make_room_in_order(state, &capacity);
        write_row(state, slot);
    }
    for (int i = 0; i < state->modify.table->shard_count; i++)
        flush(state, i);
    while (state->sent != NIL)
        finish(state, static_cast<Sent *>(linitial(state->sent)));
    finish_all_writes(&state->modify);
    MemoryContextSwitchTo(previous);
}

// The next row of the shard's results of this turn, or null: ON CONFLICT may have left it out.
TupleTableSlot *next_row_of_shard(InsertState *state, int shard) {
    while (state->results[shard] != NIL) {
        Sent *sent = static_cast<Sent *>(linitial(state->results[shard]));
        PGresult *result = remote_wait(sent->write.request);
        if (state->result_row[shard] < PQntuples(result))
            return returned_row(state->returning, &state->modify.custom, result,
                                state->result_row[shard]++);
        remote_release(sent->write.request);
        pfree(sent);
        state->results[shard] = list_delete_first(state->results[shard]);
        state->result_row[shard] = 0;
    }
    return nullptr;
}

TupleTableSlot *next_returned(InsertState *state) {
    while (state->order_next < state->order_count)
        if (TupleTableSlot *slot = next_row_of_shard(state, state->order[state->order_next++]))
            return slot;
    if (state->order != nullptr)
        pfree(state->order);
    state->order = nullptr;
    return nullptr;
}

// ------------------------------------------------------------------ callbacks

void begin_insert(CustomScanState *node, EState *estate, int eflags) {
    pg::entry([&] {
        InsertState *state = state_of(node);
        Plan *child =
            static_cast<Plan *>(linitial(castNode(CustomScan, node->ss.ps.plan)->custom_plans));
        node->custom_ps = list_make1(ExecInitNode(child, estate, eflags));
        begin_modify(&state->modify);
        Relation relation = node->ss.ss_currentRelation;
        state->columns = make_sent_columns(RelationGetDescr(relation), state->modify.plan->sent);
        state->returning = make_returning(node, relation, state->modify.plan);
        if (state->returning != nullptr)
            state->modify.binary_results = state->returning->decoder->binary;
    });
}

TupleTableSlot *exec_insert(CustomScanState *node) {
    return pg::entry([&]() -> TupleTableSlot * {
        InsertState *state = state_of(node);
        for (;;) {
            if (state->returning != nullptr && state->started)
                if (TupleTableSlot *slot = next_returned(state))
                    return slot;
            if (state->exhausted)
                return nullptr;
            write_rows(state);
        }
    });
}

void end_insert(CustomScanState *node) {
    pg::entry([&] {
        InsertState *state = state_of(node);
        if (state->source != nullptr)
            tuplestore_end(state->source);
        ExecEndNode(child_of(state));
    });
}

void rescan_insert(CustomScanState *) {
    pg::entry([] { elog(ERROR, "a data-modifying plan cannot be executed again"); });
}

void explain_insert(CustomScanState *node, List *, ExplainState *es) {
    pg::entry([&] {
        InsertState *state = state_of(node);
        Bitmapset *shards = state->started
                                ? state->shards
                                : bms_add_range(nullptr, 0, state->modify.table->shard_count - 1);
        explain_modify(&state->modify, es, shards,
                       state->last_tail != nullptr ? state->last_tail : state->modify.plan->tail);
    });
}

constexpr CustomExecMethods exec_methods() {
    CustomExecMethods methods = {};
    methods.CustomName = "Panvel Insert";
    methods.BeginCustomScan = begin_insert;
    methods.ExecCustomScan = exec_insert;
    methods.EndCustomScan = end_insert;
    methods.ReScanCustomScan = rescan_insert;
    methods.ExplainCustomScan = explain_insert;
    return methods;
}
const CustomExecMethods insert_exec_methods = exec_methods();

Node *create_insert_state(CustomScan *) {
    return pg::entry([] {
        auto *state = static_cast<InsertState *>(palloc0(sizeof(InsertState)));
        NodeSetTag(state, T_CustomScanState);
        state->modify.custom.methods = &insert_exec_methods;
        return reinterpret_cast<Node *>(state);
    });
}

} // namespace

const CustomScanMethods insert_scan_methods = {"Panvel Insert", create_insert_state};

} // namespace panvel
