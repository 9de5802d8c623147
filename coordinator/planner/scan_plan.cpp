// Building the CustomScan of a distributed relation from its path.
#include "coordinator/planner/scan.h"

#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/source.h"
#include "extension/pg/boundary.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/sysattr.h"
#include "access/table.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

Node *as_node(void *pointer) {
    return static_cast<Node *>(pointer);
}

class Builder {
  public:
    Builder(PlannerInfo *root, RelOptInfo *rel, CustomPath *path)
        : root_(root), rel_(rel), path_(path), source_(root, rel) {}

    CustomScan *build(List *tlist, List *clauses) {
        split_clauses(clauses);
        collect_columns(tlist);
        add_sort_keys();
        finish_columns();

        auto *plan = static_cast<ScanPlan *>(palloc0(sizeof(ScanPlan)));
        plan->select_list = select_list_.data;
        plan->group_by = "";
        plan->order_by = order_by_.data;
        plan->lock = path_lock(path_);
        plan->push_limit = path_pushes_limit(path_);
        plan->small_result = is_unique_lookup();
        plan->is_target = is_target();
        plan->sources = sources_;
        plan->sort_columns = sort_columns_;
        plan->sort_operators = sort_operators_;
        plan->sort_collations = sort_collations_;
        plan->sort_nulls_first = sort_nulls_first_;
        source_.finish(plan, remote_quals_);
        if (plan->push_limit) {
            plan->limit_count = root_->parse->limitCount;
            plan->limit_offset = root_->parse->limitOffset;
        }

        CustomScan *scan = makeNode(CustomScan);
        scan->scan.plan.targetlist = tlist;
        scan->scan.plan.qual = local_quals_;
        scan->scan.scanrelid = rel_->relid;
        scan->flags = path_->flags;
        scan->custom_scan_tlist = scan_tlist_;
        scan->methods = &kScanMethods;
        store_scan_plan(scan, plan);
        return scan;
    }

  private:
    // The relation that the statement changes: its rows are named by their place.
    bool is_target() const {
        return root_->parse->commandType != CMD_SELECT && root_->parse->commandType != CMD_INSERT &&
               static_cast<int>(rel_->relid) == root_->parse->resultRelation;
    }

    // Equality with every column of a unique key, all of it applied by the nodes.
    bool is_unique_lookup() const {
        return !source_.is_join() && local_quals_ == NIL &&
               finds_one_row(root_, rel_, path_->path.param_info);
    }

    void split_clauses(List *clauses) {
        ListCell *cell;
        foreach (cell, clauses) {
            RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
            if (clause->pseudoconstant)
                continue;
            if (is_remote_clause(rel_, clause))
                remote_quals_ = lappend(remote_quals_, clause->clause);
            else
                local_quals_ = lappend(local_quals_, clause->clause);
        }
    }

    // What the scan must hand out: whole expressions that the workers compute, and the columns
    // of everything else.
    void collect_columns(List *tlist) {
        bool whole_expressions = local_quals_ == NIL && !root_->parse->hasTargetSRFs;
        ListCell *cell;
        foreach (cell, rel_->reltarget->exprs) {
            auto *expr = static_cast<Expr *>(lfirst(cell));
            if (whole_expressions && computes_on_worker(expr))
                add_entry(expr);
            else
                add_columns_of(as_node(expr));
        }
        add_columns_of(as_node(local_quals_));
        // The target list may still hold columns of its own (row identifiers).
        foreach (cell, tlist)
            if (IsA(lfirst_node(TargetEntry, cell)->expr, Var))
                add_columns_of(as_node(lfirst_node(TargetEntry, cell)->expr));
    }

    // Distances and the like: functions of `vector` columns travel as their result, not as
    // vectors.
    bool computes_on_worker(Expr *expr) const {
        if (IsA(expr, Var) || !references_relation(as_node(expr), source_.relids()))
            return false;
        return is_sort_key(expr) ||
               (takes_wide_column(expr) && is_shippable(source_.relids(), expr));
    }

    bool is_sort_key(Expr *expr) const {
        ListCell *cell;
        foreach (cell, path_sort_keys(path_))
            if (equal(static_cast<SortKey *>(lfirst(cell))->expr, expr))
                return true;
        return false;
    }

    // Whether the expression gives a value of fixed length from a column of a type whose values
    // are usually stored out of line.
    static bool takes_wide_column(Expr *expr) {
        if (get_typlen(exprType(as_node(expr))) < 0)
            return false;
        ListCell *cell;
        foreach (cell, pull_var_clause(as_node(expr), PVC_RECURSE_PLACEHOLDERS))
            if (get_typstorage(lfirst_node(Var, cell)->vartype) == TYPSTORAGE_EXTERNAL)
                return true;
        return false;
    }

    void add_columns_of(Node *node) {
        List *vars = pull_var_clause(node, PVC_RECURSE_AGGREGATES | PVC_RECURSE_WINDOWFUNCS |
                                               PVC_RECURSE_PLACEHOLDERS);
        ListCell *cell;
        foreach (cell, vars) {
            Var *var = lfirst_node(Var, cell);
            if (source_.has_column(var))
                add_entry(reinterpret_cast<Expr *>(var));
        }
    }

    // Position of the expression in the scan tuple, from 1; appended when it is not there yet.
    int add_entry(Expr *expr) {
        if (TargetEntry *entry = tlist_member(expr, scan_tlist_))
            return entry->resno;
        int position = list_length(scan_tlist_) + 1;
        scan_tlist_ = lappend(scan_tlist_,
                              makeTargetEntry(static_cast<Expr *>(copyObjectImpl(expr)),
                                              static_cast<AttrNumber>(position), nullptr, false));
        return position;
    }

    void add_sort_keys() {
        initStringInfo(&order_by_);
        ListCell *cell;
        foreach (cell, path_sort_keys(path_)) {
            auto *key = static_cast<SortKey *>(lfirst(cell));
            sort_columns_ = lappend_int(sort_columns_, add_entry(key->expr));
            sort_operators_ = lappend_oid(sort_operators_, key->sort_operator);
            sort_collations_ = lappend_oid(sort_collations_, key->collation);
            sort_nulls_first_ = lappend_int(sort_nulls_first_, key->nulls_first);
            appendStringInfo(&order_by_, "%s%s %s NULLS %s", order_by_.len > 0 ? ", " : "",
                             source_.ship(key->expr), key->descending ? "DESC" : "ASC",
                             key->nulls_first ? "FIRST" : "LAST");
        }
    }

    // A whole row is put together from all columns, so they are entries, too.
    void finish_columns() {
        if (has_whole_row())
            add_all_columns(planner_rt_fetch(rel_->relid, root_)->relid);
        initStringInfo(&select_list_);
        ListCell *cell;
        foreach (cell, scan_tlist_) {
            Expr *expr = lfirst_node(TargetEntry, cell)->expr;
            ColumnSource source = source_of(expr);
            sources_ = lappend_int(sources_, static_cast<int>(source));
            if (source != ColumnSource::kRemote)
                continue;
            appendStringInfo(&select_list_, "%s%s", select_list_.len > 0 ? ", " : "",
                             source_.ship(expr));
        }
    }

    ColumnSource source_of(Expr *expr) const {
        if (!IsA(expr, Var))
            return ColumnSource::kRemote;
        switch (reinterpret_cast<Var *>(expr)->varattno) {
        case InvalidAttrNumber:
            return ColumnSource::kWholeRow;
        case TableOidAttributeNumber:
            return ColumnSource::kTableOid;
        case SelfItemPointerAttributeNumber:
            return is_target() ? ColumnSource::kRemote : ColumnSource::kRowIdentifier;
        default:
            return ColumnSource::kRemote;
        }
    }

    bool has_whole_row() const {
        ListCell *cell;
        foreach (cell, scan_tlist_)
            if (source_of(lfirst_node(TargetEntry, cell)->expr) == ColumnSource::kWholeRow)
                return true;
        return false;
    }

    void add_all_columns(Oid relid) {
        Relation relation = table_open(relid, NoLock);
        TupleDesc columns = RelationGetDescr(relation);
        for (int i = 0; i < columns->natts; i++) {
            Form_pg_attribute attribute = TupleDescAttr(columns, i);
            if (!attribute->attisdropped)
                add_entry(reinterpret_cast<Expr *>(
                    makeVar(static_cast<int>(rel_->relid), attribute->attnum, attribute->atttypid,
                            attribute->atttypmod, attribute->attcollation, 0)));
        }
        table_close(relation, NoLock);
    }

    PlannerInfo *root_;
    RelOptInfo *rel_;
    CustomPath *path_;
    Source source_;

    List *remote_quals_ = NIL;
    List *local_quals_ = NIL;
    List *scan_tlist_ = NIL;
    List *sources_ = NIL;
    List *sort_columns_ = NIL;
    List *sort_operators_ = NIL;
    List *sort_collations_ = NIL;
    List *sort_nulls_first_ = NIL;
    StringInfoData select_list_ = {};
    StringInfoData order_by_ = {};
};

bool executor_param_walker(Node *node, void *context) {
    if (node == nullptr)
        return false;
    if (IsA(node, Var)) // of a relation around, a parameter of the nested loop in the end
        return true;
    if (IsA(node, Param))
        return castNode(Param, node)->paramkind == PARAM_EXEC;
    return expression_tree_walker(node, pg::walker(executor_param_walker), context);
}

bool has_executor_param(Node *node) {
    return executor_param_walker(node, nullptr);
}

Integer *make_integer(int value) {
    return makeInteger(value);
}

} // namespace

Plan *plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses,
                List *) {
    return pg::entry(
        [&] { return reinterpret_cast<Plan *>(Builder(root, rel, path).build(tlist, clauses)); });
}

// custom_private: (select list, columns, where, order by, push limit, sources, sort columns,
// operators, collations, nulls first, prune is array, prune hash function, group by, small result,
// relid, join, description, lock, whole query, correlated, is target).
// custom_exprs: (params, prune value, limit count, limit offset), each a List.
void store_scan_plan(CustomScan *scan, const ScanPlan *plan) {
    auto text = [](const char *value) { return makeString(pstrdup(value)); };
    const PruneKey *key = plan->prune_key;
    scan->custom_private =
        list_make5(text(plan->select_list), text(plan->columns), text(plan->where),
                   text(plan->order_by), make_integer(plan->push_limit));
    scan->custom_private = list_concat(
        scan->custom_private, list_make5(plan->sources, plan->sort_columns, plan->sort_operators,
                                         plan->sort_collations, plan->sort_nulls_first));
    scan->custom_private =
        lappend(scan->custom_private, make_integer(key != nullptr && key->is_array));
    scan->custom_private =
        lappend(scan->custom_private, list_make1_oid(key ? key->hash_function : InvalidOid));
    scan->custom_private = lappend(scan->custom_private, text(plan->group_by));
    scan->custom_private = lappend(scan->custom_private, make_integer(plan->small_result));
    scan->custom_private = lappend(scan->custom_private, list_make1_oid(plan->relid));
    scan->custom_private = lappend(scan->custom_private, plan->join);
    scan->custom_private = lappend(scan->custom_private, text(plan->description));
    scan->custom_private = lappend(scan->custom_private, text(plan->lock));
    scan->custom_private = lappend(scan->custom_private, make_integer(plan->whole_query));
    auto optional = [](void *expr) { return expr ? list_make1(expr) : NIL; };
    scan->custom_exprs = list_make4(plan->params, optional(key ? key->value : nullptr),
                                    optional(plan->limit_count), optional(plan->limit_offset));
    scan->custom_private =
        lappend(scan->custom_private,
                make_integer(has_executor_param(reinterpret_cast<Node *>(scan->custom_exprs))));
    scan->custom_private = lappend(scan->custom_private, make_integer(plan->is_target));
}

ScanPlan *load_scan_plan(const CustomScan *scan) {
    auto *plan = static_cast<ScanPlan *>(palloc0(sizeof(ScanPlan)));
    List *items = scan->custom_private;
    auto text = [&](int i) { return strVal(list_nth(items, i)); };
    auto list = [](List *from, int i) { return static_cast<List *>(list_nth(from, i)); };
    auto first = [&](int i) {
        List *exprs = list(scan->custom_exprs, i);
        return exprs == NIL ? nullptr : static_cast<Node *>(linitial(exprs));
    };
    plan->select_list = text(0);
    plan->columns = text(1);
    plan->where = text(2);
    plan->order_by = text(3);
    plan->push_limit = intVal(list_nth(items, 4)) != 0;
    plan->sources = list(items, 5);
    plan->sort_columns = list(items, 6);
    plan->sort_operators = list(items, 7);
    plan->sort_collations = list(items, 8);
    plan->sort_nulls_first = list(items, 9);
    plan->params = list(scan->custom_exprs, 0);
    if (Node *value = first(1)) {
        plan->prune_key = static_cast<PruneKey *>(palloc(sizeof(PruneKey)));
        *plan->prune_key = {reinterpret_cast<Expr *>(value), intVal(list_nth(items, 10)) != 0,
                            linitial_oid(list(items, 11))};
    }
    plan->group_by = text(12);
    plan->small_result = intVal(list_nth(items, 13)) != 0;
    plan->relid = linitial_oid(list(items, 14));
    plan->join = list(items, 15);
    plan->description = text(16);
    plan->lock = text(17);
    plan->whole_query = intVal(list_nth(items, 18)) != 0;
    plan->correlated = intVal(list_nth(items, 19)) != 0;
    plan->is_target = intVal(list_nth(items, 20)) != 0;
    plan->limit_count = first(2);
    plan->limit_offset = first(3);
    return plan;
}

} // namespace panvel
