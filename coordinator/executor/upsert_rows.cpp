// INSERT ... ON CONFLICT DO UPDATE by rows: the shards insert, or find and lock, all rows; the new
// values of those found are computed here, and written. See README.md in this directory.
#include "coordinator/executor/returning.h"
#include "coordinator/executor/row_writer.h"
#include "coordinator/planner/modify_sql.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "executor/executor.h"
#include "optimizer/clauses.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"
}

namespace panvel {
namespace {

enum class Outcome : uint8 { kInserted, kChanged, kLeft };

// What became of a row that was to be inserted. Of what was changed the place of the result.
struct RowOutcome {
    int shard;
    Outcome outcome;
    int row;
    RowStatement *statement;
};

struct UpsertState {
    ModifyState modify; // first
    const RowAction *action;
    ModifyPlan inserting; // the statement's plan, but that nothing counts for the command tag
    ModifyPlan changing;  // the plan of what is found
    Returning *found;     // reads what `inserting` returns
    Returning *changed;   // reads what `changing` returns; null: nothing
    ExprState *quals;
    ProjectionInfo *columns;
    Tuplestorestate *rows; // the child's
    TupleTableSlot *row_slot;
    RowOutcome *outcomes; // of the rows, in their order
    int count;
    int capacity;
    RowStatement **inserted; // per shard: its one statement; null: none
    int *next_row;           // per shard: of its result
    bool done;
    int next; // of the rows to return
};

UpsertState *state_of(CustomScanState *node) {
    return reinterpret_cast<UpsertState *>(node);
}

PlanState *child_of(UpsertState *state) {
    return static_cast<PlanState *>(linitial(state->modify.custom.custom_ps));
}

// Runs `body` with `plan` as the statement that is executed.
template <typename Body>
void as_plan(UpsertState *state, ModifyPlan *plan, bool binary_results, Body &&body) {
    ModifyPlan *statement = state->modify.plan;
    state->modify.plan = plan;
    state->modify.binary_results = binary_results;
    body();
    state->modify.plan = statement;
}

// ------------------------------------------------------------------ inserting

int route(UpsertState *state, TupleTableSlot *slot) {
    const DistributedTable *table = state->modify.table;
    if (table->is_reference)
        return 0;
    bool isnull;
    Datum key = slot_getattr(slot, table->distribution_attribute, &isnull);
    if (isnull)
        raise_null_key(&state->modify);
    ExprContext *context = state->modify.custom.ss.ps.ps_ExprContext;
    ResetExprContext(context);
    MemoryContext previous = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
    int shard = shard_index_for_value(table, key);
    MemoryContextSwitchTo(previous);
    return shard;
}

void note_row(UpsertState *state, int shard) {
    if (state->count == state->capacity) {
        if (state->capacity > PG_INT32_MAX / 2)
            ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                            errmsg("too many rows in INSERT ... ON CONFLICT DO UPDATE")));
        state->capacity = state->capacity == 0 ? 64 : state->capacity * 2;
        Size size = mul_size(static_cast<Size>(state->capacity), sizeof(RowOutcome));
        state->outcomes = static_cast<RowOutcome *>(
            state->outcomes == nullptr ? MemoryContextAllocHuge(CurrentMemoryContext, size)
                                       : repalloc_huge(state->outcomes, size));
    }
    state->outcomes[state->count++] = {shard, Outcome::kLeft, 0, nullptr};
}

// All rows of a shard go in one statement, which may not touch a row twice (21000).
void insert_rows(UpsertState *state) {
    ModifyState *modify = &state->modify;
    const ModifyPlan *plan = modify->plan;
    RowWriter *writer =
        make_row_writer(modify, plan->command, plan->tail_many,
                        RelationGetDescr(modify->custom.ss.ss_currentRelation), plan->sent);
    writer->tail_one = plan->tail;
    writer->undivided = writer->keep_results = true;
    state->rows = tuplestore_begin_heap(false, false, work_mem);
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        TupleTableSlot *slot = ExecProcNode(child_of(state));
        if (TupIsNull(slot))
            break;
        slot_getallattrs(slot);
        int shard = route(state, slot);
        note_row(state, shard);
        tuplestore_puttupleslot(state->rows, slot);
        write_row(writer, shard, slot);
    }
    flush_rows(writer);
    ListCell *cell;
    foreach (cell, writer->done) {
        auto *statement = static_cast<RowStatement *>(lfirst(cell));
        state->inserted[statement->shard] = statement;
    }
}

// ------------------------------------------------------------------ changing

// The next row of the shard's answer: there is one for each row that it got, in their order.
int next_answer(UpsertState *state, int shard, PGresult **result) {
    RowStatement *statement = state->inserted[shard];
    *result = statement != nullptr ? remote_wait(statement->write.request) : nullptr;
    int row = state->next_row[shard]++;
    if (*result == nullptr || row >= PQntuples(*result))
        ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                        errmsg("a node returned fewer rows than it was sent")));
    return row;
}

void change_row(UpsertState *state, RowWriter *writer, int number) {
    RowOutcome *outcome = &state->outcomes[number];
    CustomScanState *node = &state->modify.custom;
    ExprContext *context = node->ss.ps.ps_ExprContext;
    PGresult *result;
    outcome->row = next_answer(state, outcome->shard, &result);
    read_row(state->found, node, result, outcome->row, state->row_slot);
    if (!was_found(state->found)) {
        outcome->outcome = Outcome::kInserted;
        if (state->modify.plan->can_set_tag)
            node->ss.ps.state->es_processed++;
        return;
    }
    if (!ExecQual(state->quals, context))
        return;
    outcome->outcome = Outcome::kChanged;
    TupleTableSlot *slot = ExecProject(state->columns);
    slot_getallattrs(slot);
    write_row(writer, outcome->shard, slot, number);
}

void change_rows(UpsertState *state, RowWriter *writer) {
    for (int i = 0; i < state->count; i++) {
        CHECK_FOR_INTERRUPTS();
        if (!tuplestore_gettupleslot(state->rows, true, false, state->row_slot))
            elog(ERROR, "a row that was to be inserted is gone");
        slot_getallattrs(state->row_slot);
        change_row(state, writer, i);
    }
    flush_rows(writer);
    if (writer->written != writer->affected)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("rows of table \"%s\" that were locked have been changed",
                               get_rel_name(state->modify.table->relid))));
}

// Where RETURNING finds what has become of the rows.
void note_results(UpsertState *state, const RowWriter *writer) {
    ListCell *cell;
    foreach (cell, writer->done) {
        auto *statement = static_cast<RowStatement *>(lfirst(cell));
        PGresult *result = remote_wait(statement->write.request);
        for (int i = 0; i < PQntuples(result); i++) {
            int64 number = returned_number(state->changed, result, i);
            if (number < 1 || number > statement->rows)
                ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                                errmsg("a node returned a row that was not sent to it")));
            RowOutcome *outcome = &state->outcomes[statement->numbers[number - 1]];
            outcome->statement = statement;
            outcome->row = i;
        }
    }
}

void upsert(UpsertState *state) {
    ModifyState *modify = &state->modify;
    EState *estate = modify->custom.ss.ps.state;
    MemoryContext previous = MemoryContextSwitchTo(estate->es_query_cxt);
    state->done = true;
    evaluate_initplans(modify);
    state->inserted = palloc0_array(RowStatement *, modify->table->shard_count);
    state->next_row = palloc0_array(int, modify->table->shard_count);
    as_plan(state, &state->inserting, state->found->decoder->binary, [&] { insert_rows(state); });

    RowWriter *writer = make_row_writer(modify, state->action->command, state->action->tail,
                                        state->columns->pi_state.resultslot->tts_tupleDescriptor,
                                        state->action->sent);
    writer->keep_results = writer->numbered = state->changed != nullptr;
    bool binary =
        state->changed != nullptr
            ? state->changed->decoder->binary
            : state->changing.images != NIL &&
                  images_are_binary(modify->custom.ss.ss_currentRelation, &state->changing);
    as_plan(state, &state->changing, binary, [&] { change_rows(state, writer); });
    if (state->changed != nullptr)
        note_results(state, writer);
    MemoryContextSwitchTo(previous);
}

TupleTableSlot *next_returned(UpsertState *state) {
    while (state->changed != nullptr && state->next < state->count) {
        const RowOutcome *outcome = &state->outcomes[state->next++];
        CustomScanState *node = &state->modify.custom;
        if (outcome->outcome == Outcome::kInserted) {
            PGresult *result = remote_wait(state->inserted[outcome->shard]->write.request);
            return returned_row(state->found, node, result, outcome->row);
        }
        if (outcome->outcome == Outcome::kChanged) {
            PGresult *result = remote_wait(outcome->statement->write.request);
            return returned_row(state->changed, node, result, outcome->row);
        }
    }
    return nullptr;
}

// ------------------------------------------------------------------ callbacks

void init_plans(UpsertState *state) {
    ModifyState *modify = &state->modify;
    const ModifyPlan *plan = modify->plan;
    state->action = static_cast<const RowAction *>(linitial(plan->actions));
    state->inserting = *plan;
    state->inserting.can_set_tag = false;
    const ModifyPlan *followed = state->action->followed;
    state->changing = *plan;
    state->changing.operation = CMD_UPDATE;
    state->changing.by_rows = true;
    if (state->modify.custom.ss.ps.plan->targetlist == NIL) // no RETURNING
        state->changing.returned = NIL;
    state->changing.images = followed->images;
    state->changing.apply_command = followed->apply_command;
    state->changing.apply_one = followed->apply_one;
    state->changing.apply_many = followed->apply_many;
    state->changing.journal_one = followed->journal_one;
    state->changing.journal_many = followed->journal_many;
}

void init_expressions(UpsertState *state) {
    PlanState *parent = &state->modify.custom.ss.ps;
    const RowAction *action = state->action;
    if (state->modify.reads_own_table &&
        (contain_subplans(reinterpret_cast<Node *>(action->columns)) ||
         contain_subplans(reinterpret_cast<Node *>(action->quals))))
        refuse_modification(state->modify.table->relid,
                            "a subquery in ON CONFLICT DO UPDATE that may read the table",
                            "Read the values first and pass them as parameters.");
    state->quals = ExecInitQual(action->quals, parent);
    TupleTableSlot *slot =
        ExecInitExtraTupleSlot(parent->state, ExecTypeFromTL(action->columns), &TTSOpsVirtual);
    state->columns =
        ExecBuildProjectionInfo(action->columns, parent->ps_ExprContext, slot, parent, nullptr);
}

void begin_upsert(CustomScanState *node, EState *estate, int eflags) {
    pg::entry([&] {
        UpsertState *state = state_of(node);
        auto *scan = castNode(CustomScan, node->ss.ps.plan);
        PlanState *child =
            ExecInitNode(static_cast<Plan *>(linitial(scan->custom_plans)), estate, eflags);
        node->custom_ps = list_make1(child);
        begin_modify(&state->modify);
        init_plans(state);
        init_expressions(state);
        Relation relation = node->ss.ss_currentRelation;
        state->found = make_returning(node, relation, state->modify.plan);
        if (scan->scan.plan.targetlist != NIL)
            state->changed = make_returning(node, relation, &state->changing);
        state->row_slot =
            ExecInitExtraTupleSlot(estate, ExecGetResultType(child), &TTSOpsMinimalTuple);
    });
}

TupleTableSlot *exec_upsert(CustomScanState *node) {
    return pg::entry([&]() -> TupleTableSlot * {
        UpsertState *state = state_of(node);
        if (!state->done)
            upsert(state);
        return next_returned(state);
    });
}

void end_upsert(CustomScanState *node) {
    pg::entry([&] {
        UpsertState *state = state_of(node);
        if (state->rows != nullptr)
            tuplestore_end(state->rows);
        ExecEndNode(child_of(state));
    });
}

const CustomExecMethods upsert_exec_methods =
    write_methods("Panvel Upsert Rows", begin_upsert, exec_upsert, end_upsert, explain_write);

Node *create_upsert_state(CustomScan *) {
    return pg::entry([] { return make_write_state<UpsertState>(&upsert_exec_methods); });
}

} // namespace

const CustomScanMethods upsert_rows_scan_methods = {"Panvel Upsert Rows", create_upsert_state};

} // namespace panvel
