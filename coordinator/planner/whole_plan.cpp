// A whole query in the place of its plan: one scan that sends it to its shard's node.
//
// PostgreSQL has planned the query before. So rights, dependencies and row estimates are those of
// the plan, and the cheaper of both is taken.
#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/scan_internal.h"
#include "coordinator/planner/whole_query.h"

extern "C" {
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planmain.h"
}

namespace panvel {
namespace {

Expr *plan_expression(void *expr) {
    return expression_planner(static_cast<Expr *>(copyObjectImpl(expr)));
}

bool has_one_row(const Query *query) {
    return query->hasAggs && query->groupClause == NIL && query->groupingSets == NIL &&
           query->setOperations == nullptr && !query->hasTargetSRFs;
}

ScanPlan *make_scan_plan(const WholeQuery *whole, int columns) {
    const Query *query = whole->query;
    auto *plan = palloc0_object(ScanPlan);
    plan->relid = whole->table->relid;
    plan->whole_query = true;
    plan->join = whole->text;
    plan->description = "";
    plan->select_list = plan->columns = plan->where = plan->group_by = plan->order_by = "";
    plan->lock = whole->locks ? "rows" : "";
    plan->small_result = has_one_row(query);
    for (int i = 0; i < columns; i++)
        plan->sources = lappend_int(plan->sources, static_cast<int>(ColumnSource::kRemote));
    plan->params = plan_expressions(whole->params);
    plan->prune_key = plan_key(whole->key);
    if (query->limitCount != nullptr && is_known_value(query->limitCount))
        plan->limit_count = reinterpret_cast<Node *>(plan_expression(query->limitCount));
    return plan;
}

CustomScan *make_scan(PlannedStmt *statement, const WholeQuery *whole) {
    List *columns = whole->query->targetList;
    int varno = add_answer_entry(statement, columns);
    CustomScan *scan = makeNode(CustomScan);
    scan->custom_scan_tlist = answer_columns(columns, varno);
    scan->custom_relids = bms_make_singleton(varno);
    scan->methods = &kScanMethods;
    Plan *plan = &scan->scan.plan;
    plan->targetlist = answer_columns(columns, INDEX_VAR);
    plan->plan_rows = statement->planTree->plan_rows;
    plan->plan_width = statement->planTree->plan_width;
    plan->startup_cost = kRoundTripCost;
    plan->total_cost = kRoundTripCost + transfer_cost(plan->plan_rows, plan->plan_width);
    store_scan_plan(scan, make_scan_plan(whole, list_length(plan->targetlist)));
    return scan;
}

// A scan of one relation with a LIMIT at most sends the same.
bool is_simple_scan(const Plan *plan) {
    if (IsA(plan, Limit))
        plan = plan->lefttree;
    return IsA(plan, CustomScan);
}

} // namespace

List *plan_expressions(List *exprs) {
    List *planned = NIL;
    ListCell *cell;
    foreach (cell, exprs)
        planned = lappend(planned, plan_expression(lfirst(cell)));
    return planned;
}

PruneKey *plan_key(const PruneKey *key) {
    if (key == nullptr)
        return nullptr;
    auto *planned = palloc_object(PruneKey);
    *planned = *key;
    planned->value = plan_expression(key->value);
    return planned;
}

int add_answer_entry(PlannedStmt *statement, List *columns) {
    List *names = NIL;
    ListCell *cell;
    foreach (cell, columns) {
        TargetEntry *entry = lfirst_node(TargetEntry, cell);
        if (!entry->resjunk)
            names =
                lappend(names, makeString(pstrdup(entry->resname ? entry->resname : "?column?")));
    }
    RangeTblEntry *entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_VALUES;
    entry->eref = makeAlias("answer", names);
    statement->rtable = lappend(statement->rtable, entry);
    return list_length(statement->rtable);
}

List *answer_columns(List *columns, int varno) {
    List *list = NIL;
    ListCell *cell;
    foreach (cell, columns) {
        TargetEntry *column = lfirst_node(TargetEntry, cell);
        if (column->resjunk)
            continue;
        auto number = static_cast<AttrNumber>(list_length(list) + 1);
        Node *expr = reinterpret_cast<Node *>(column->expr);
        Var *var = makeVar(varno, number, exprType(expr), exprTypmod(expr), exprCollation(expr), 0);
        TargetEntry *entry = flatCopyTargetEntry(column);
        entry->expr = reinterpret_cast<Expr *>(var);
        entry->resno = number;
        entry->ressortgroupref = 0;
        list = lappend(list, entry);
    }
    return list;
}

void use_whole_query(PlannedStmt *statement, const WholeQuery *whole, int cursor_options) {
    if (!whole->locks && whole->single_relation && is_simple_scan(statement->planTree))
        return;
    List *entries = list_copy(statement->rtable);
    Plan *plan = &make_scan(statement, whole)->scan.plan;
    if (!whole->locks && plan->total_cost >= statement->planTree->total_cost) {
        statement->rtable = entries;
        return;
    }
    if ((cursor_options & CURSOR_OPT_SCROLL) != 0)
        plan = materialize_finished_plan(plan);
    statement->planTree = plan;
    statement->subplans = NIL;
    statement->rewindPlanIDs = nullptr;
    statement->paramExecTypes = NIL;
    statement->parallelModeNeeded = false;
}

} // namespace panvel
