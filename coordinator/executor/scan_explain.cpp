// What EXPLAIN says about a distributed scan.
#include "coordinator/executor/scan_state.h"

extern "C" {
#include "nodes/nodeFuncs.h"
#include "utils/ruleutils.h"
}

namespace panvel {
namespace {

NodeReport *report_of(DistributedScanState *state, int32 node_id) {
    ListCell *cell;
    foreach (cell, state->reports) {
        auto *report = static_cast<NodeReport *>(lfirst(cell));
        if (report->node_id == node_id)
            return report;
    }
    MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);
    auto *report = static_cast<NodeReport *>(palloc0(sizeof(NodeReport)));
    report->node_id = node_id;
    state->reports = lappend(state->reports, report);
    MemoryContextSwitchTo(old);
    return report;
}

} // namespace

void report_statement(DistributedScanState *state, int32 node_id, Bitmapset *shards,
                      const char *sql) {
    NodeReport *report = report_of(state, node_id);
    MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);
    if (locks_rows(state)) {
        report->shards = bms_add_members(report->shards, shards);
        shards = report->shards;
    }
    report->shard_count = std::max(report->shard_count, bms_num_members(shards));
    if (report->sql == nullptr)
        report->sql = pstrdup(sql);
    MemoryContextSwitchTo(old);
}

void collect_reports(DistributedScanState *state, ScanRun *run) {
    for (int i = 0; i < run->stream_count; i++) {
        NodeRows *rows = &run->streams[i].rows;
        NodeReport *report = report_of(state, rows->node_id);
        report->rows += rows->rows_received;
        report->microseconds += rows->microseconds;
        bool counted = false; // another shard of the node
        for (int j = 0; j < i; j++)
            counted |= run->streams[j].rows.node_id == rows->node_id;
        report->executions += !counted;
        rows->rows_received = rows->microseconds = 0;
    }
}

void report_buffers(DistributedScanState *state) {
    auto add = [](PlanState *plan, int32 node_id, const BufferUsage &used) {
        auto *scan = reinterpret_cast<DistributedScanState *>(plan);
        add_buffer_usage(&report_of(scan, node_id)->buffers, used);
    };
    collect_buffers(&state->css.ss.ps, &state->counted, add);
}

namespace {

// Before execution: the statements as far as they are known without evaluating parameters of the
// plan itself.
void report_planned(DistributedScanState *state, ExprContext *context) {
    auto is_known = [](Node *expr) {
        return expr != nullptr &&
               (IsA(expr, Const) ||
                (IsA(expr, Param) && castNode(Param, expr)->paramkind == PARAM_EXTERN));
    };
    const ScanPlan *plan = state->plan;
    bool known = plan->whole_query || (plan->prune_key != nullptr &&
                                       is_known(reinterpret_cast<Node *>(plan->prune_key->value)));
    Bitmapset *shards = shards_to_read(state, known ? state->prune : nullptr, context);
    bool limit_known = is_known(plan->limit_count) &&
                       (plan->limit_offset == nullptr || is_known(plan->limit_offset));
    int64 limit = limit_known ? evaluate_limit(state, context) : -1;
    ListCell *cell;
    foreach (cell, group_by_node(state, shards)) {
        auto *group = static_cast<NodeShards *>(lfirst(cell));
        char *sql = scan_statement(state, group->shards, limit);
        if (plan->limit_count != nullptr && !limit_known && !plan->whole_query)
            sql = psprintf("%s LIMIT ...", sql);
        report_statement(state, group->node_id, group->shards, sql);
    }
}

void explain_merge_key(DistributedScanState *state, List *ancestors, ExplainState *es) {
    if (state->sort_key_count == 0)
        return;
    auto *scan = castNode(CustomScan, state->css.ss.ps.plan);
    List *context = set_deparse_context_plan(es->deparse_cxt, &scan->scan.plan, ancestors);
    List *keys = NIL;
    for (int i = 0; i < state->sort_key_count; i++) {
        int entry = list_nth_int(state->plan->sort_columns, i) - 1;
        auto *expr = list_nth_node(TargetEntry, scan->custom_scan_tlist, entry)->expr;
        char *text = deparse_expression(reinterpret_cast<Node *>(expr), context,
                                        list_length(es->rtable) > 1 || es->verbose, false);
        keys =
            lappend(keys, psprintf("%s%s", text, state->sort_keys[i].ssup_reverse ? " DESC" : ""));
    }
    ExplainPropertyList("Merge Key", keys, es);
}

} // namespace

void explain_scan(CustomScanState *node, List *ancestors, ExplainState *es) {
    auto *state = state_of(node);
    if (state->run != nullptr)
        collect_reports(state, state->run);
    report_buffers(state);
    if (state->reports == NIL)
        report_planned(state, node->ss.ps.ps_ExprContext);
    if (state->plan->whole_query)
        ExplainPropertyText("Query", "whole", es);
    else if (state->plan->join != NIL)
        ExplainPropertyText("Join", state->plan->description, es);
    explain_merge_key(state, ancestors, es);
    int count = list_length(state->reports);
    auto *reports = static_cast<NodeReport *>(palloc(sizeof(NodeReport) * std::max(1, count)));
    for (int i = 0; i < count; i++)
        reports[i] = *static_cast<NodeReport *>(list_nth(state->reports, i));
    explain_nodes(es, reports, count, state->table->shard_count);
}

} // namespace panvel
