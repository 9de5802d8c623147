#include "coordinator/planner/whole_modify.h"

#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/modify.h"

extern "C" {
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
}

namespace panvel {
namespace {

bool is_plain_do_nothing(const OnConflictExpr *conflict) {
    return conflict->action == ONCONFLICT_NOTHING && conflict->arbiterElems == NIL &&
           !OidIsValid(conflict->constraint);
}

// An INSERT that has its target and a SELECT.
bool is_insert_select(const Query *query) {
    if ((query->onConflict != nullptr && !is_plain_do_nothing(query->onConflict)) ||
        query->returningList != NIL)
        return false;
    ListCell *cell;
    foreach (cell, query->rtable)
        if (foreach_current_index(cell) + 1 != query->resultRelation)
            return lfirst_node(RangeTblEntry, cell)->rtekind == RTE_SUBQUERY &&
                   list_length(query->rtable) == 2;
    return false;
}

bool assigns_key(const Query *query, const DistributedTable *table) {
    ListCell *cell;
    foreach (cell, query->targetList) {
        auto *entry = lfirst_node(TargetEntry, cell);
        if (!entry->resjunk && entry->resno == table->distribution_attribute)
            return true;
    }
    return false;
}

// A literal of no type in the SELECT of an INSERT is taken to the INSERT's own columns by the
// parser, which has a type for it there. The SELECT's column, which nobody uses, has none.
void drop_untyped_literals(Query *insert) {
    ListCell *cell;
    foreach (cell, insert->rtable) {
        auto *entry = lfirst_node(RangeTblEntry, cell);
        if (entry->rtekind != RTE_SUBQUERY)
            continue;
        ListCell *column_cell;
        foreach (column_cell, entry->subquery->targetList) {
            auto *column = lfirst_node(TargetEntry, column_cell);
            if (IsA(column->expr, Const) && castNode(Const, column->expr)->consttype == UNKNOWNOID)
                column->expr = reinterpret_cast<Expr *>(makeBoolConst(false, true));
        }
    }
}

// Whether the statement reads something besides the rows that it changes.
bool reads_others(const Query *query) {
    switch (query->commandType) {
    case CMD_INSERT:
        return is_insert_select(query);
    case CMD_UPDATE:
    case CMD_DELETE:
        return query->hasSubLinks || list_length(query->rtable) > 1;
    default:
        return false;
    }
}

// The target, whose shards are to do it; null for one that cannot be asked for that. Followers need
// the images of changed rows, whose columns only PostgreSQL's plan adds to what is returned.
const DistributedTable *target_of(const Query *query) {
    if (query->utilityStmt != nullptr || query->cteList != NIL || query->hasRowSecurity ||
        query->withCheckOptions != NIL || !reads_others(query))
        return nullptr;
    RangeTblEntry *target = rt_fetch(query->resultRelation, query->rtable);
    if (target->rtekind != RTE_RELATION || target->relkind != RELKIND_RELATION)
        return nullptr;
    const DistributedTable *table = find_distributed_table(target->relid);
    if (table == nullptr || table->is_reference || table->replication_factor > 1 ||
        (query->commandType == CMD_UPDATE && assigns_key(query, table)))
        return nullptr;
    return table;
}

// Rows to write, or what a subquery reads.
bool fetches_rows(const PlannedStmt *statement) {
    if (!IsA(statement->planTree, CustomScan))
        return false;
    const CustomScanMethods *methods = castNode(CustomScan, statement->planTree)->methods;
    if (methods == &update_scan_methods || methods == &delete_scan_methods)
        return statement->subplans != NIL;
    return methods == &update_rows_scan_methods || methods == &delete_rows_scan_methods ||
           methods == &insert_scan_methods;
}

const CustomScanMethods *methods_of(CmdType operation) {
    switch (operation) {
    case CMD_INSERT:
        return &insert_select_scan_methods;
    case CMD_UPDATE:
        return &update_scan_methods;
    default:
        return &delete_scan_methods;
    }
}

} // namespace

WholeModify *find_whole_modify(const Query *original) {
    bool locks = false;
    if (target_of(original) == nullptr)
        return nullptr;
    auto *query = static_cast<Query *>(copyObjectImpl(original));
    if (query->commandType == CMD_INSERT)
        drop_untyped_literals(query);
    ShardPin split = find_shard_split(query);
    if (split.table == nullptr || !is_shippable_query(query, &locks) || locks)
        return nullptr;
    auto *whole = palloc0_object(WholeModify);
    whole->query = query;
    whole->key = split.key;
    whole->text = deparse_query(query, &whole->params);
    return whole->text != NIL ? whole : nullptr;
}

void use_whole_modify(PlannedStmt *statement, const WholeModify *whole) {
    if (!fetches_rows(statement))
        return;
    const Query *query = whole->query;
    ModifyPlan plan = {};
    plan.operation = query->commandType;
    plan.can_set_tag = query->canSetTag;
    plan.whole = whole->text;
    plan.params = plan_expressions(whole->params);
    plan.prune = plan_key(whole->key);

    CustomScan *scan = makeNode(CustomScan);
    scan->methods = methods_of(query->commandType);
    scan->scan.scanrelid = static_cast<Index>(query->resultRelation);
    if (query->returningList != NIL)
        scan->custom_scan_tlist =
            answer_columns(query->returningList, add_answer_entry(statement, query->returningList));
    Plan *node = &scan->scan.plan;
    node->targetlist = answer_columns(query->returningList, INDEX_VAR);
    node->plan_rows = statement->planTree->plan_rows;
    node->plan_width = statement->planTree->plan_width;
    node->startup_cost = node->total_cost = statement->planTree->startup_cost;
    store_modify_plan(scan, &plan);
    statement->planTree = node;
    statement->subplans = NIL;
    statement->rewindPlanIDs = nullptr;
    statement->paramExecTypes = NIL;
    statement->parallelModeNeeded = false;
}

} // namespace panvel
