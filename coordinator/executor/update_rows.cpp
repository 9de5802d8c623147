// UPDATE and DELETE by rows: the child plan says which rows of the table change, and how. They are
// collected, locked, and only then changed; see README.md in this directory.
#include "coordinator/executor/returning.h"
#include "coordinator/executor/row_collector.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "executor/executor.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
}

namespace panvel {
namespace {

// With RETURNING, rows are changed and then returned in turns of so many.
constexpr int kTurnRows = 10000;
constexpr size_t kTurnBytes = 16 * 1024 * 1024;

struct RowsState {
    ModifyState modify; // first
    Returning *returning;
    RowCollector *collector;
    bool collected;
    bool exhausted;
    RowWriter *writer;
    // RETURNING: this turn's rows, and where its results are.
    MemoryContext turn;
    MinimalTuple *rows;
    TupleTableSlot *row_slot;
    int result_row; // of the first of writer->done
};

RowsState *state_of(CustomScanState *node) {
    return reinterpret_cast<RowsState *>(node);
}

MemoryContext query_context(RowsState *state) {
    return state->modify.custom.ss.ps.state->es_query_cxt;
}

// ------------------------------------------------------------------ collecting

// What joins with several rows of other tables is changed once.
void collect_each(ModifyState *modify, TupleTableSlot *slot) {
    auto *state = reinterpret_cast<RowsState *>(modify);
    RowCollector *collector = state->collector;
    int shard = shard_of_row(collector, slot);
    if (!note_row(collector, shard, slot))
        return;
    const ModifyPlan *plan = modify->plan;
    if (plan->new_key != 0) {
        bool isnull;
        Datum old_key = slot_getattr(slot, plan->key, &isnull);
        Datum new_key = slot_getattr(slot, plan->new_key, &isnull);
        check_row_key(collector, old_key, new_key, isnull);
    }
    collect_row(collector, slot);
    lock_row(collector, shard, slot);
}

void collect(RowsState *state) {
    const RowVisitor visitor = {nullptr, collect_each};
    state->collected = true;
    collect_rows(state->collector, &visitor);
    MemoryContext previous = MemoryContextSwitchTo(query_context(state));
    const ModifyPlan *plan = state->modify.plan;
    state->writer = make_row_writer(&state->modify, plan->command, plan->tail,
                                    ExecGetResultType(state->collector->child), plan->sent);
    state->writer->keep_results = state->writer->numbered = state->returning != nullptr;
    MemoryContextSwitchTo(previous);
}

// ------------------------------------------------------------------ changing

// Changes rows: all, or with RETURNING as many as one turn takes.
void write_rows(RowsState *state) {
    MemoryContextReset(state->turn);
    MemoryContext previous = MemoryContextSwitchTo(query_context(state));
    RowWriter *writer = state->writer;
    bool returning = state->returning != nullptr;
    if (returning)
        state->rows = static_cast<MinimalTuple *>(
            MemoryContextAlloc(state->turn, sizeof(MinimalTuple) * kTurnRows));
    int64 before = writer->written - writer->affected;
    int count = 0;
    size_t bytes = 0;
    while (!returning || (count < kTurnRows && bytes < kTurnBytes)) {
        CHECK_FOR_INTERRUPTS();
        TupleTableSlot *slot = next_collected(state->collector);
        if (slot == nullptr) {
            state->exhausted = true;
            break;
        }
        if (returning) {
            MemoryContextSwitchTo(state->turn);
            state->rows[count] = ExecCopySlotMinimalTuple(slot);
            bytes += state->rows[count]->t_len;
            MemoryContextSwitchTo(query_context(state));
        }
        write_row(writer, shard_of_row(state->collector, slot), slot, count++);
        if (!returning)
            count = 0;
    }
    flush_rows(writer);
    MemoryContextSwitchTo(previous);
    if (writer->written - writer->affected != before)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("rows of table \"%s\" that were locked have been changed",
                               get_rel_name(state->modify.table->relid))));
}

TupleTableSlot *next_returned(RowsState *state) {
    RowWriter *writer = state->writer;
    while (writer->done != NIL) {
        auto *statement = static_cast<RowStatement *>(linitial(writer->done));
        PGresult *result = remote_wait(statement->write.request);
        if (state->result_row < PQntuples(result)) {
            int64 number = returned_number(state->returning, result, state->result_row);
            if (number < 1 || number > statement->rows)
                ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                                errmsg("a node returned a row that was not sent to it")));
            ExecForceStoreMinimalTuple(state->rows[statement->numbers[number - 1]], state->row_slot,
                                       false);
            return returned_row(state->returning, &state->modify.custom, result,
                                state->result_row++, state->row_slot);
        }
        release_statement(statement);
        writer->done = list_delete_first(writer->done);
        state->result_row = 0;
    }
    return nullptr;
}

// ------------------------------------------------------------------ callbacks

void begin_rows(CustomScanState *node, EState *estate, int eflags) {
    pg::entry([&] {
        RowsState *state = state_of(node);
        Plan *child =
            static_cast<Plan *>(linitial(castNode(CustomScan, node->ss.ps.plan)->custom_plans));
        node->custom_ps = list_make1(ExecInitNode(child, estate, eflags));
        begin_modify(&state->modify);
        const ModifyPlan *plan = state->modify.plan;
        state->returning = make_returning(node, node->ss.ss_currentRelation, plan);
        if (state->returning != nullptr)
            state->modify.binary_results = state->returning->decoder->binary;
        auto *rows = static_cast<PlanState *>(linitial(node->custom_ps));
        state->collector = make_row_collector(
            &state->modify, rows, plan->operation == CMD_DELETE ? "UPDATE" : "NO KEY UPDATE");
        state->row_slot =
            ExecInitExtraTupleSlot(estate, ExecGetResultType(rows), &TTSOpsMinimalTuple);
        state->turn = AllocSetContextCreate(estate->es_query_cxt, "panvel returned rows",
                                            ALLOCSET_DEFAULT_SIZES);
    });
}

TupleTableSlot *exec_rows(CustomScanState *node) {
    return pg::entry([&]() -> TupleTableSlot * {
        RowsState *state = state_of(node);
        if (!state->collected)
            collect(state);
        for (;;) {
            if (TupleTableSlot *slot = next_returned(state))
                return slot;
            if (state->exhausted)
                return nullptr;
            write_rows(state);
        }
    });
}

void end_rows(CustomScanState *node) {
    pg::entry([&] { end_row_collector(state_of(node)->collector); });
}

void explain_rows(CustomScanState *node, List *, ExplainState *es) {
    pg::entry([&] {
        RowsState *state = state_of(node);
        Bitmapset *shards =
            state->writer != nullptr ? state->writer->shards : all_shards(&state->modify);
        explain_modify(&state->modify, es, shards, state->modify.plan->tail);
    });
}

const CustomExecMethods update_exec_methods =
    write_methods("Panvel Update Rows", begin_rows, exec_rows, end_rows, explain_rows);
const CustomExecMethods delete_exec_methods =
    write_methods("Panvel Delete Rows", begin_rows, exec_rows, end_rows, explain_rows);

Node *create_rows_state(CustomScan *scan) {
    return pg::entry([&] {
        return make_write_state<RowsState>(scan->methods == &update_rows_scan_methods
                                               ? &update_exec_methods
                                               : &delete_exec_methods);
    });
}

} // namespace

const CustomScanMethods update_rows_scan_methods = {"Panvel Update Rows", create_rows_state};
const CustomScanMethods delete_rows_scan_methods = {"Panvel Delete Rows", create_rows_state};

} // namespace panvel
