#include "coordinator/executor/modify.h"

#include "coordinator/executor/explain.h"

extern "C" {
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "executor/nodeSubplan.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "portability/instr_time.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

int64 now_in_microseconds() {
    instr_time now;
    INSTR_TIME_SET_CURRENT(now);
    return static_cast<int64>(INSTR_TIME_GET_MICROSEC(now));
}

// Range table entries of the table in the whole statement.
int references(EState *estate, Oid relid) {
    int count = 0;
    ListCell *cell;
    foreach (cell, estate->es_range_table) {
        RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);
        // ON CONFLICT's EXCLUDED is an entry of the same relation with another kind.
        count += entry->rtekind == RTE_RELATION && entry->relid == relid &&
                 entry->relkind == RELKIND_RELATION;
    }
    return count;
}

WriteReport::PerNode *report_of(WriteReport *report, int32 node_id) {
    ListCell *cell;
    foreach (cell, report->nodes) {
        auto *node = static_cast<WriteReport::PerNode *>(lfirst(cell));
        if (node->node_id == node_id)
            return node;
    }
    return nullptr;
}

} // namespace

void begin_modify(ModifyState *state) {
    CustomScanState *node = &state->custom;
    EState *estate = node->ss.ps.state;
    state->plan = modify_plan_of(castNode(CustomScan, node->ss.ps.plan));
    state->table = get_distributed_table(RelationGetRelid(node->ss.ss_currentRelation));
    state->reads_own_table = references(estate, state->table->relid) > 1;
    const char *hint = "Use separate statements in one transaction.";
    if (state->reads_own_table && estate->es_plannedstmt->hasModifyingCTE)
        refuse_modification(state->table->relid,
                            "using the table twice in a statement with data-modifying WITH", hint);
    if (state->reads_own_table &&
        contain_subplans(reinterpret_cast<Node *>(node->ss.ps.plan->targetlist)))
        refuse_modification(state->table->relid, "a subquery in RETURNING that may read the table",
                            hint);
    state->params = make_param_evaluator(state->plan->params, &node->ss.ps);
    if (!state->plan->can_set_tag)
        estate->es_auxmodifytables = lcons(node, estate->es_auxmodifytables);
}

void evaluate_initplans(ModifyState *state) {
    if (!state->reads_own_table)
        return;
    PlanState *planstate = &state->custom.ss.ps;
    ListCell *cell;
    foreach (cell, planstate->initPlan) {
        SubPlanState *subplan = lfirst_node(SubPlanState, cell);
        if (subplan->subplan->subLinkType == CTE_SUBLINK)
            continue;
        int param = linitial_int(subplan->subplan->setParam);
        if (planstate->state->es_param_exec_vals[param].execPlan != nullptr)
            ExecSetParamPlan(subplan, planstate->ps_ExprContext);
    }
}

WriteRequest send_write(ModifyState *state, const Shard *shard, const char *tail,
                        const RemoteParams *params, bool binary_results) {
    RemoteStatement statement = {};
    char *relation = shard_relation_name(state->table, shard);
    char *sql = psprintf("%s%s%s", state->plan->command, relation, tail);
    statement.sql = sql;
    statement.params = params;
    statement.effect = Effect::kWrite;
    statement.keep_prepared = true;
    statement.binary_results = binary_results;
    statement.shard_id = shard->shard_id;
    WriteRequest request = {nullptr, now_in_microseconds()};
    request.request = remote_send(write_node(shard), &statement);
    pfree(sql);
    pfree(relation);
    return request;
}

PGresult *finish_write(ModifyState *state, WriteRequest *request) {
    PGresult *result = remote_wait(request->request);
    int64 rows = remote_affected(result);
    EState *estate = state->custom.ss.ps.state;
    if (state->plan->can_set_tag)
        estate->es_processed += rows;
    if (estate->es_instrument == 0)
        return result;

    MemoryContext previous = MemoryContextSwitchTo(estate->es_query_cxt);
    int32 node_id = remote_node(request->request);
    WriteReport::PerNode *node = report_of(&state->report, node_id);
    if (node == nullptr) {
        node = palloc0_object(WriteReport::PerNode);
        node->node_id = node_id;
        node->first_sent = request->sent;
        state->report.nodes = lappend(state->report.nodes, node);
    }
    node->rows += rows;
    node->first_sent = Min(node->first_sent, request->sent);
    node->last_done = Max(node->last_done, request->sent + remote_elapsed(request->request));
    MemoryContextSwitchTo(previous);
    return result;
}

void explain_modify(ModifyState *state, ExplainState *es, Bitmapset *shards, const char *tail) {
    auto *reports = palloc0_array(NodeReport, state->table->shard_count);
    int count = 0;
    int index = -1;
    while ((index = bms_next_member(shards, index)) >= 0) {
        const Shard *shard = &state->table->shards[index];
        int32 node_id = write_node(shard);
        int position = 0;
        while (position < count && reports[position].node_id != node_id)
            position++;
        NodeReport *report = &reports[position];
        report->shard_count++;
        if (position < count)
            continue;
        count++;
        report->node_id = node_id;
        report->sql = psprintf("%s%s%s", state->plan->command,
                               shard_relation_name(state->table, shard), tail);
        if (const WriteReport::PerNode *done = report_of(&state->report, node_id)) {
            report->rows = done->rows;
            report->microseconds = done->last_done - done->first_sent;
            report->executions = 1;
        }
    }
    explain_nodes(es, reports, count, state->table->shard_count);
}

} // namespace panvel
