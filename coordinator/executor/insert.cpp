// INSERT: rows of the child plan are routed by the hash of the distribution column, collected per
// shard and sent in batches, to all shards at once. See README.md in this directory.
#include "coordinator/executor/returning.h"
#include "coordinator/executor/row_writer.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "executor/executor.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"
}

namespace panvel {
namespace {

// With RETURNING, rows are written and then returned in turns of so many.
constexpr int kReturningRows = 10000;
constexpr size_t kReturningBytes = 16 * 1024 * 1024;

struct InsertState {
    ModifyState modify; // first
    Returning *returning;
    Tuplestorestate *source; // the child's rows, where they must be read before any is written
    TupleTableSlot *source_slot;
    RowWriter *writer; // null: not started
    bool exhausted;    // the child plan has no more rows
    // RETURNING: the shards of this turn's rows in the order of the rows.
    int *order;
    int order_count;
    int order_next;
    List **results;  // per shard: its statements of this turn with rows left (RowStatement *)
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

// ------------------------------------------------------------------ rows

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

void insert_row(InsertState *state, TupleTableSlot *slot) {
    slot_getallattrs(slot);
    int shard = route(state, slot);
    if (state->returning != nullptr)
        state->order[state->order_count++] = shard;
    write_row(state->writer, shard, slot);
}

TupleTableSlot *next_source_row(InsertState *state) {
    if (state->source == nullptr)
        return ExecProcNode(child_of(state));
    if (!tuplestore_gettupleslot(state->source, true, false, state->source_slot))
        return nullptr;
    return state->source_slot;
}

void read_source(InsertState *state) {
    state->source = tuplestore_begin_heap(false, false, work_mem);
    state->source_slot = ExecInitExtraTupleSlot(
        state->modify.custom.ss.ps.state, ExecGetResultType(child_of(state)), &TTSOpsMinimalTuple);
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        TupleTableSlot *slot = ExecProcNode(child_of(state));
        if (TupIsNull(slot))
            break;
        tuplestore_puttupleslot(state->source, slot);
    }
}

void start(InsertState *state) {
    ModifyState *modify = &state->modify;
    const ModifyPlan *plan = modify->plan;
    MemoryContext previous = MemoryContextSwitchTo(query_context(state));
    evaluate_initplans(modify);
    RowWriter *writer = state->writer =
        make_row_writer(modify, plan->command, plan->tail_many,
                        RelationGetDescr(modify->custom.ss.ss_currentRelation), plan->sent);
    writer->tail_one = plan->tail;
    writer->more = evaluate_params(modify->params, modify->custom.ss.ps.ps_ExprContext);
    // It may not touch a row twice, which a shard sees within one statement only.
    writer->undivided = is_upsert(state);
    writer->keep_results = state->returning != nullptr;
    if (state->returning != nullptr) {
        state->results = palloc0_array(List *, modify->table->shard_count);
        state->result_row = palloc0_array(int, modify->table->shard_count);
    }
    if (modify->reads_own_table)
        read_source(state);
    MemoryContextSwitchTo(previous);
}

// Whether this turn's rows are to be returned before more are written.
bool turn_is_full(const InsertState *state) {
    if (state->returning == nullptr || is_upsert(state))
        return false;
    return state->order_count >= kReturningRows ||
           state->writer->bytes_under_way >= kReturningBytes;
}

void make_room_in_order(InsertState *state, int *capacity) {
    if (state->returning == nullptr || state->order_count < *capacity)
        return;
    *capacity = *capacity == 0 ? 64 : *capacity * 2;
    state->order = state->order == nullptr ? palloc_array(int, *capacity)
                                           : repalloc_array(state->order, int, *capacity);
}

void sort_results(InsertState *state) {
    ListCell *cell;
    foreach (cell, state->writer->done) {
        auto *statement = static_cast<RowStatement *>(lfirst(cell));
        List **results = &state->results[statement->shard];
        *results = lappend(*results, statement);
    }
    list_free(state->writer->done);
    state->writer->done = NIL;
}

// Writes rows: all that the child has, or with RETURNING as many as one turn takes.
void write_rows(InsertState *state) {
    if (state->writer == nullptr)
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
        insert_row(state, slot);
    }
    flush_rows(state->writer);
    if (state->returning != nullptr)
        sort_results(state);
    MemoryContextSwitchTo(previous);
}

// The next row of the shard's results of this turn, or null: ON CONFLICT may have left it out.
TupleTableSlot *next_row_of_shard(InsertState *state, int shard) {
    while (state->results[shard] != NIL) {
        auto *statement = static_cast<RowStatement *>(linitial(state->results[shard]));
        PGresult *result = remote_wait(statement->write.request);
        if (state->result_row[shard] < PQntuples(result))
            return returned_row(state->returning, &state->modify.custom, result,
                                state->result_row[shard]++);
        release_statement(statement);
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
        state->returning = make_returning(node, node->ss.ss_currentRelation, state->modify.plan);
        if (state->returning != nullptr)
            state->modify.binary_results = state->returning->decoder->binary;
    });
}

TupleTableSlot *exec_insert(CustomScanState *node) {
    return pg::entry([&]() -> TupleTableSlot * {
        InsertState *state = state_of(node);
        for (;;) {
            if (state->returning != nullptr && state->writer != nullptr)
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

void explain_insert(CustomScanState *node, List *, ExplainState *es) {
    pg::entry([&] {
        InsertState *state = state_of(node);
        const RowWriter *writer = state->writer;
        bool sent = writer != nullptr && writer->last_tail != nullptr;
        explain_modify(&state->modify, es,
                       writer != nullptr ? writer->shards : all_shards(&state->modify),
                       sent ? writer->last_tail : state->modify.plan->tail);
    });
}

const CustomExecMethods insert_exec_methods =
    write_methods("Panvel Insert", begin_insert, exec_insert, end_insert, explain_insert);

Node *create_insert_state(CustomScan *) {
    return pg::entry([] { return make_write_state<InsertState>(&insert_exec_methods); });
}

} // namespace

const CustomScanMethods insert_scan_methods = {"Panvel Insert", create_insert_state};

} // namespace panvel
