// MERGE: the child plan joins the source with the table. Each of its rows goes through the actions;
// the rows of the table that change are locked, then all is written. See README.md in this
// directory.
#include "coordinator/executor/row_collector.h"
#include "coordinator/planner/modify_sql.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "executor/executor.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

struct ActionState {
    const RowAction *action;
    ModifyPlan plan; // the statement's, with what followers get of this action
    bool binary_results;
    ExprState *quals;
    ProjectionInfo *columns; // null: DO NOTHING
    RowWriter *writer;
};

struct MergeState {
    ModifyState modify; // first
    RowCollector *collector;
    ActionState *actions;
    int action_count;
    // The action of each collected row, in their order.
    uint8 *chosen;
    int64 chosen_count;
    int64 chosen_capacity;
    bool done;
};

MergeState *state_of(CustomScanState *node) {
    return reinterpret_cast<MergeState *>(node);
}

MemoryContext query_context(MergeState *state) {
    return state->modify.custom.ss.ps.state->es_query_cxt;
}

// The child's row as the scan tuple over which the actions are computed.
void set_row(MergeState *state, TupleTableSlot *row) {
    TupleTableSlot *slot = state->modify.custom.ss.ss_ScanTupleSlot;
    ExecClearTuple(slot);
    for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++) {
        slot->tts_values[i] = row->tts_values[i];
        slot->tts_isnull[i] = row->tts_isnull[i];
    }
    ExecStoreVirtualTuple(slot);
    state->modify.custom.ss.ps.ps_ExprContext->ecxt_scantuple = slot;
}

// ------------------------------------------------------------------ choosing

// The first action of the row's kind whose condition holds, or -1.
int choose_action(MergeState *state, bool matched) {
    for (int i = 0; i < state->action_count; i++)
        if (state->actions[i].action->matched == matched &&
            ExecQual(state->actions[i].quals, state->modify.custom.ss.ps.ps_ExprContext))
            return i;
    return -1;
}

void remember_action(MergeState *state, int action) {
    if (state->chosen_count == state->chosen_capacity) {
        MemoryContext previous = MemoryContextSwitchTo(query_context(state));
        state->chosen_capacity = state->chosen_capacity == 0 ? 1024 : state->chosen_capacity * 2;
        auto size = static_cast<Size>(state->chosen_capacity);
        state->chosen = static_cast<uint8 *>(
            state->chosen == nullptr ? MemoryContextAllocHuge(CurrentMemoryContext, size)
                                     : repalloc_huge(state->chosen, size));
        MemoryContextSwitchTo(previous);
    }
    state->chosen[state->chosen_count++] = static_cast<uint8>(action);
}

void lock_matched(MergeState *state, TupleTableSlot *row) {
    int shard = shard_of_row(state->collector, row);
    if (!note_row(state->collector, shard, row))
        ereport(ERROR, (errcode(ERRCODE_CARDINALITY_VIOLATION),
                        errmsg("MERGE command cannot affect row a second time"),
                        errhint("Ensure that not more than one source row matches any one target "
                                "row.")));
    lock_row(state->collector, shard, row);
}

void choose_each(ModifyState *modify, TupleTableSlot *row) {
    auto *state = reinterpret_cast<MergeState *>(modify);
    bool unmatched;
    slot_getattr(row, modify->plan->ctid, &unmatched);
    set_row(state, row);
    int action = choose_action(state, !unmatched);
    if (action < 0 || state->actions[action].columns == nullptr)
        return;
    if (!unmatched)
        lock_matched(state, row);
    remember_action(state, action);
    collect_row(state->collector, row);
}

void forget_actions(ModifyState *modify) {
    reinterpret_cast<MergeState *>(modify)->chosen_count = 0;
}

// ------------------------------------------------------------------ writing

int shard_of_new_row(MergeState *state, const RowAction *action, TupleTableSlot *slot) {
    if (action->key == 0)
        return 0;
    bool isnull;
    Datum key = slot_getattr(slot, action->key, &isnull);
    if (isnull)
        raise_null_key(&state->modify);
    return shard_index_for_value(state->modify.table, key);
}

void check_new_key(MergeState *state, const RowAction *action, TupleTableSlot *row,
                   TupleTableSlot *slot) {
    if (action->operation != CMD_UPDATE || action->key == 0)
        return;
    bool isnull;
    Datum old_key = slot_getattr(row, state->modify.plan->key, &isnull);
    Datum new_key = slot_getattr(slot, action->key, &isnull);
    check_row_key(state->collector, old_key, new_key, isnull);
}

// Runs `body` with the action as the statement that is executed.
template <typename Body> void as_action(MergeState *state, ActionState *action, Body &&body) {
    ModifyPlan *statement = state->modify.plan;
    state->modify.plan = &action->plan;
    state->modify.binary_results = action->binary_results;
    body();
    state->modify.plan = statement;
}

void act(MergeState *state, ActionState *chosen, TupleTableSlot *row) {
    ExprContext *context = state->modify.custom.ss.ps.ps_ExprContext;
    ResetExprContext(context);
    MemoryContext previous = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
    set_row(state, row);
    TupleTableSlot *slot = ExecProject(chosen->columns);
    slot_getallattrs(slot);
    check_new_key(state, chosen->action, row, slot);
    int shard = chosen->action->operation == CMD_INSERT
                    ? shard_of_new_row(state, chosen->action, slot)
                    : shard_of_row(state->collector, row);
    MemoryContextSwitchTo(previous);
    as_action(state, chosen, [&] { write_row(chosen->writer, shard, slot); });
}

void make_writers(MergeState *state) {
    MemoryContext previous = MemoryContextSwitchTo(query_context(state));
    for (int i = 0; i < state->action_count; i++) {
        ActionState *action = &state->actions[i];
        if (action->columns != nullptr)
            action->writer = make_row_writer(
                &state->modify, action->action->command, action->action->tail,
                action->columns->pi_state.resultslot->tts_tupleDescriptor, action->action->sent);
    }
    MemoryContextSwitchTo(previous);
}

void flush_writers(MergeState *state) {
    for (int i = 0; i < state->action_count; i++) {
        RowWriter *writer = state->actions[i].writer;
        if (writer == nullptr)
            continue;
        as_action(state, &state->actions[i], [&] { flush_rows(writer); });
        if (writer->written != writer->affected)
            ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                            errmsg("rows of table \"%s\" that were locked have been changed",
                                   get_rel_name(state->modify.table->relid))));
    }
}

void merge(MergeState *state) {
    const RowVisitor visitor = {forget_actions, choose_each};
    state->done = true;
    collect_rows(state->collector, &visitor);
    make_writers(state);
    int64 number = 0;
    while (TupleTableSlot *row = next_collected(state->collector)) {
        CHECK_FOR_INTERRUPTS();
        act(state, &state->actions[state->chosen[number++]], row);
    }
    flush_writers(state);
}

// ------------------------------------------------------------------ callbacks

void init_action(MergeState *state, ActionState *action, const RowAction *plan) {
    PlanState *parent = &state->modify.custom.ss.ps;
    action->action = plan;
    action->plan = *state->modify.plan;
    action->plan.operation = plan->operation;
    action->plan.actions = NIL; // an INSERT with actions is an upsert by rows
    action->plan.images = plan->followed->images;
    action->plan.apply_command = plan->followed->apply_command;
    action->plan.apply_one = plan->followed->apply_one;
    action->plan.apply_many = plan->followed->apply_many;
    action->plan.journal_one = plan->followed->journal_one;
    action->plan.journal_many = plan->followed->journal_many;
    action->binary_results =
        action->plan.images != NIL &&
        images_are_binary(state->modify.custom.ss.ss_currentRelation, &action->plan);
    action->quals = ExecInitQual(plan->quals, parent);
    if (plan->operation == CMD_NOTHING)
        return;
    TupleTableSlot *slot =
        ExecInitExtraTupleSlot(parent->state, ExecTypeFromTL(plan->columns), &TTSOpsVirtual);
    action->columns =
        ExecBuildProjectionInfo(plan->columns, parent->ps_ExprContext, slot, parent, nullptr);
}

void begin_merge(CustomScanState *node, EState *estate, int eflags) {
    pg::entry([&] {
        MergeState *state = state_of(node);
        Plan *child =
            static_cast<Plan *>(linitial(castNode(CustomScan, node->ss.ps.plan)->custom_plans));
        PlanState *rows = ExecInitNode(child, estate, eflags);
        node->custom_ps = list_make1(rows);
        begin_modify(&state->modify);
        List *actions = state->modify.plan->actions;
        state->action_count = list_length(actions);
        if (state->action_count > PG_UINT8_MAX)
            ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                            errmsg("MERGE with more than %d actions", PG_UINT8_MAX)));
        state->actions = palloc0_array(ActionState, state->action_count);
        for (int i = 0; i < state->action_count; i++)
            init_action(state, &state->actions[i],
                        static_cast<const RowAction *>(list_nth(actions, i)));
        state->collector = make_row_collector(&state->modify, rows, "UPDATE");
    });
}

TupleTableSlot *exec_merge(CustomScanState *node) {
    return pg::entry([&]() -> TupleTableSlot * {
        if (!state_of(node)->done)
            merge(state_of(node));
        return nullptr;
    });
}

void end_merge(CustomScanState *node) {
    pg::entry([&] { end_row_collector(state_of(node)->collector); });
}

const CustomExecMethods merge_exec_methods =
    write_methods("Panvel Merge", begin_merge, exec_merge, end_merge, explain_write);

Node *create_merge_state(CustomScan *) {
    return pg::entry([] { return make_write_state<MergeState>(&merge_exec_methods); });
}

} // namespace

const CustomScanMethods merge_scan_methods = {"Panvel Merge", create_merge_state};

} // namespace panvel
