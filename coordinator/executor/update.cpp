// UPDATE and DELETE, and INSERT ... SELECT that the shards do by themselves: one statement per
// shard that can have matching rows, all under way at once.
#include "coordinator/executor/modify.h"
#include "coordinator/executor/returning.h"
#include "extension/pg/boundary.h"
#include "extension/pg/compat.h"

extern "C" {
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
}

namespace panvel {
namespace {

struct UpdateState {
    ModifyState modify; // first
    PruneEvaluator *prune;
    Returning *returning;
    bool done;         // the statements have been executed
    Bitmapset *shards; // on which
    int request_count;
    WriteRequest *requests; // one per shard
    int request;            // where RETURNING is: request, and row of its result
    int row;
};

UpdateState *state_of(CustomScanState *node) {
    return reinterpret_cast<UpdateState *>(node);
}

Datum evaluate(UpdateState *state, Expr *expr, bool *isnull) {
    CustomScanState *node = &state->modify.custom;
    return ExecEvalExpr(ExecInitExpr(expr, &node->ss.ps), node->ss.ps.ps_ExprContext, isnull);
}

// Raises an error unless SET and WHERE give the distribution column the same value. A WHERE that
// is NULL finds no row.
void check_assigned_key(UpdateState *state) {
    const ModifyPlan *plan = state->modify.plan;
    const DistributedTable *table = state->modify.table;
    bool found_is_null;
    Datum found = evaluate(state, plan->prune->value, &found_is_null);
    if (found_is_null)
        return;
    bool assigned_is_null;
    Datum assigned = evaluate(state, plan->assigned_key, &assigned_is_null);
    FmgrInfo hash = table->hash;
    Datum seed = Int64GetDatum(0);
    if (assigned_is_null ||
        DatumGetUInt64(FunctionCall2Coll(&hash, table->distribution_collation, assigned, seed)) !=
            DatumGetUInt64(OidFunctionCall2Coll(plan->prune->hash_function,
                                                table->distribution_collation, found, seed)))
        refuse_key_update(table);
}

void send_statements(UpdateState *state) {
    ModifyState *modify = &state->modify;
    if (modify->plan->no_rows)
        return;
    evaluate_initplans(modify);
    ExprContext *context = modify->custom.ss.ps.ps_ExprContext;
    MemoryContext previous = MemoryContextSwitchTo(modify->custom.ss.ps.state->es_query_cxt);
    if (modify->plan->assigned_key != nullptr)
        check_assigned_key(state);
    RemoteParams *params = evaluate_params(modify->params, context);
    state->shards = evaluate_prune(state->prune, modify->table, context);
    state->requests = palloc0_array(WriteRequest, modify->table->shard_count);
    int index = -1;
    while ((index = bms_next_member(state->shards, index)) >= 0)
        state->requests[state->request_count++] =
            send_write(modify, &modify->table->shards[index], modify->plan->command,
                       modify->plan->tail, params);
    MemoryContextSwitchTo(previous);
}

// Waits for all, so that an error on any shard is raised before a row is returned.
void execute(UpdateState *state) {
    state->done = true;
    send_statements(state);
    for (int i = 0; i < state->request_count; i++) {
        finish_write(&state->modify, &state->requests[i]);
        if (state->returning == nullptr) {
            remote_release(state->requests[i].request);
            state->requests[i].request = nullptr;
        }
    }
    finish_all_writes(&state->modify);
}

TupleTableSlot *next_returned(UpdateState *state) {
    while (state->request < state->request_count) {
        RemoteRequest *request = state->requests[state->request].request;
        PGresult *result = remote_wait(request);
        if (state->row < PQntuples(result))
            return returned_row(state->returning, &state->modify.custom, result, state->row++);
        remote_release(request);
        state->requests[state->request++].request = nullptr;
        state->row = 0;
    }
    return nullptr;
}

bool executor_param_walker(Node *node, void *context) {
    if (node == nullptr)
        return false;
    if (IsA(node, Param))
        return castNode(Param, node)->paramkind == PARAM_EXEC;
    return expression_tree_walker(node, pg::walker(executor_param_walker), context);
}

// The shards the statement is for; before execution all, where a subquery tells.
Bitmapset *explained_shards(UpdateState *state) {
    ModifyState *modify = &state->modify;
    if (modify->plan->no_rows)
        return nullptr;
    if (state->done)
        return state->shards;
    const PruneKey *key = modify->plan->prune;
    bool open =
        key != nullptr && executor_param_walker(reinterpret_cast<Node *>(key->value), nullptr);
    return evaluate_prune(open ? nullptr : state->prune, modify->table,
                          modify->custom.ss.ps.ps_ExprContext);
}

// ------------------------------------------------------------------ callbacks

void begin_update(CustomScanState *node, EState *, int) {
    pg::entry([&] {
        UpdateState *state = state_of(node);
        begin_modify(&state->modify);
        state->prune = make_prune_evaluator(state->modify.plan->prune, &node->ss.ps);
        const ModifyPlan *plan = state->modify.plan;
        state->returning = plan->whole != NIL
                               ? make_answer_reader(node)
                               : make_returning(node, node->ss.ss_currentRelation, plan);
        if (state->returning != nullptr)
            state->modify.binary_results = state->returning->decoder->binary;
    });
}

TupleTableSlot *exec_update(CustomScanState *node) {
    return pg::entry([&]() -> TupleTableSlot * {
        UpdateState *state = state_of(node);
        if (!state->done)
            execute(state);
        return state->returning != nullptr ? next_returned(state) : nullptr;
    });
}

void end_update(CustomScanState *node) {
    pg::entry([&] {
        UpdateState *state = state_of(node);
        for (int i = state->request; i < state->request_count; i++)
            if (state->requests[i].request != nullptr)
                remote_release(state->requests[i].request);
        state->request = state->request_count;
    });
}

void explain_update(CustomScanState *node, List *, ExplainState *es) {
    pg::entry([&] {
        UpdateState *state = state_of(node);
        explain_modify(&state->modify, es, explained_shards(state), state->modify.plan->tail);
    });
}

const CustomExecMethods update_exec_methods =
    write_methods("Panvel Update", begin_update, exec_update, end_update, explain_update);
const CustomExecMethods delete_exec_methods =
    write_methods("Panvel Delete", begin_update, exec_update, end_update, explain_update);
const CustomExecMethods insert_select_exec_methods =
    write_methods("Panvel Insert Select", begin_update, exec_update, end_update, explain_update);

const CustomExecMethods *methods_of(const CustomScanMethods *scan) {
    if (scan == &insert_select_scan_methods)
        return &insert_select_exec_methods;
    return scan == &update_scan_methods ? &update_exec_methods : &delete_exec_methods;
}

Node *create_update_state(CustomScan *scan) {
    return pg::entry([&] { return make_write_state<UpdateState>(methods_of(scan->methods)); });
}

} // namespace

const CustomScanMethods update_scan_methods = {"Panvel Update", create_update_state};
const CustomScanMethods delete_scan_methods = {"Panvel Delete", create_update_state};
const CustomScanMethods insert_select_scan_methods = {"Panvel Insert Select", create_update_state};

} // namespace panvel
