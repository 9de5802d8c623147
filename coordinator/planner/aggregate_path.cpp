// Aggregating on the nodes: every node groups its own rows and sends one row a group with the
// aggregates' transition values; PostgreSQL's Finalize Aggregate above combines them.
//
// An aggregate takes part when SQL can say its transition value: where the aggregate has no final
// function, its result is its transition value (count, sum, min, max, bool_and, ...), and avg's is
// an array of count and sum. Others (numeric sums, string_agg, percentiles) read the rows.
#include "coordinator/planner/source.h"

#include "coordinator/catalog/metadata.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "optimizer/prep.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
}

namespace panvel {
namespace {

// How a node computes an aggregate's transition value.
enum class Shape {
    kNone,       // it cannot
    kPlain,      // f(args)
    kCountSum,   // {count, sum}: avg of small integers
    kCountSumSxx // {count, sum, 0}: avg of floats, whose final function ignores the third
};

Shape shape_of(const Aggref *aggregate) {
    if (aggregate->aggkind != AGGKIND_NORMAL || aggregate->aggdistinct != NIL ||
        aggregate->aggorder != NIL || aggregate->aggvariadic ||
        aggregate->aggfnoid >= FirstGenbkiObjectId)
        return Shape::kNone;
    HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate->aggfnoid));
    if (!HeapTupleIsValid(tuple))
        return Shape::kNone;
    auto *form = reinterpret_cast<Form_pg_aggregate>(GETSTRUCT(tuple));
    bool plain = !OidIsValid(form->aggfinalfn) && OidIsValid(form->aggcombinefn) &&
                 form->aggtranstype == aggregate->aggtype;
    Oid transition = form->aggtranstype;
    ReleaseSysCache(tuple);
    if (plain)
        return Shape::kPlain;
    char *name = get_func_name(aggregate->aggfnoid);
    if (name == nullptr || strcmp(name, "avg") != 0)
        return Shape::kNone;
    if (transition == INT8ARRAYOID)
        return Shape::kCountSum;
    return transition == FLOAT8ARRAYOID ? Shape::kCountSumSxx : Shape::kNone;
}

bool is_supported(Relids relids, const Aggref *aggregate) {
    if (shape_of(aggregate) == Shape::kNone)
        return false;
    ListCell *cell;
    foreach (cell, aggregate->args) {
        Expr *argument = lfirst_node(TargetEntry, cell)->expr;
        if (!is_shippable(relids, argument) ||
            !is_shippable_with_collation(relids, argument, aggregate->inputcollid))
            return false;
    }
    return aggregate->aggfilter == nullptr || is_shippable(relids, aggregate->aggfilter);
}

// Whether the nodes' GROUP BY means the same: the type's default equality, the same collation.
bool is_supported_group(Relids relids, SortGroupClause *group, Expr *expr) {
    TypeCacheEntry *type =
        lookup_type_cache(exprType(reinterpret_cast<Node *>(expr)), TYPECACHE_EQ_OPR);
    return group->eqop == type->eq_opr && is_shippable(relids, expr) &&
           is_shippable_with_collation(relids, expr, exprCollation(reinterpret_cast<Node *>(expr)));
}

// What the nodes send: the groups' expressions and the aggregates in partial mode. Null when
// there is something that they cannot compute.
PathTarget *make_partial_target(PlannerInfo *root, Relids relids, PathTarget *final, Node *having) {
    PathTarget *partial = create_empty_pathtarget();
    List *others = having != nullptr ? list_make1(having) : NIL;
    int position = 0;
    ListCell *cell;
    foreach (cell, final->exprs) {
        auto *expr = static_cast<Expr *>(lfirst(cell));
        Index reference = get_pathtarget_sortgroupref(final, position++);
        SortGroupClause *group =
            reference != 0 ? get_sortgroupref_clause_noerr(reference, root->parse->groupClause)
                           : nullptr;
        if (group == nullptr)
            others = lappend(others, expr);
        else if (is_supported_group(relids, group, expr))
            add_column_to_pathtarget(partial, expr, reference);
        else
            return nullptr;
    }
    if (list_length(partial->exprs) < list_length(root->parse->groupClause))
        return nullptr;
    List *needed = pull_var_clause(reinterpret_cast<Node *>(others), PVC_INCLUDE_AGGREGATES |
                                                                         PVC_RECURSE_WINDOWFUNCS |
                                                                         PVC_INCLUDE_PLACEHOLDERS);
    foreach (cell, needed) {
        auto *node = static_cast<Node *>(lfirst(cell));
        if (list_member(partial->exprs, node))
            continue; // a column that is a group
        if (!IsA(node, Aggref) || !is_supported(relids, castNode(Aggref, node)))
            return nullptr;
        add_new_column_to_pathtarget(partial, reinterpret_cast<Expr *>(node));
    }
    foreach (cell, partial->exprs)
        if (IsA(lfirst(cell), Aggref)) {
            Aggref *aggregate = makeNode(Aggref);
            *aggregate = *lfirst_node(Aggref, cell);
            mark_partial_aggref(aggregate, AGGSPLIT_INITIAL_SERIAL);
            lfirst(cell) = aggregate;
        }
    return set_pathtarget_cost_width(root, partial);
}

// ------------------------------------------------------------------------- the plan

class AggregateBuilder {
  public:
    AggregateBuilder(PlannerInfo *root, RelOptInfo *input)
        : root_(root), input_(input), source_(root, input) {}

    CustomScan *build(PathTarget *target, List *tlist) {
        initStringInfo(&select_list_);
        initStringInfo(&group_by_);
        int position = 0;
        ListCell *cell;
        foreach (cell, target->exprs)
            add_column(static_cast<Expr *>(lfirst(cell)),
                       get_pathtarget_sortgroupref(target, position++));
        List *quals = NIL;
        foreach (cell, input_->baserestrictinfo)
            quals = lappend(quals, lfirst_node(RestrictInfo, cell)->clause);

        auto *plan = static_cast<ScanPlan *>(palloc0(sizeof(ScanPlan)));
        plan->select_list = select_list_.data;
        plan->group_by = group_by_.data;
        plan->order_by = "";
        plan->lock = "";
        plan->small_result = root_->parse->groupClause == NIL;
        plan->sources = sources_;
        source_.finish(plan, quals);

        CustomScan *scan = makeNode(CustomScan);
        scan->scan.plan.targetlist = tlist;
        scan->scan.scanrelid = input_->relid;
        scan->custom_scan_tlist = scan_tlist_;
        scan->methods = &kScanMethods;
        store_scan_plan(scan, plan);
        return scan;
    }

  private:
    void add_column(Expr *expr, Index reference) {
        auto number = static_cast<AttrNumber>(list_length(scan_tlist_) + 1);
        TargetEntry *entry =
            makeTargetEntry(static_cast<Expr *>(copyObjectImpl(expr)), number, nullptr, false);
        entry->ressortgroupref = reference;
        scan_tlist_ = lappend(scan_tlist_, entry);
        sources_ = lappend_int(sources_, static_cast<int>(ColumnSource::kRemote));
        const char *separator = select_list_.len > 0 ? ", " : "";
        if (IsA(expr, Aggref)) {
            appendStringInfoString(&select_list_, separator);
            add_aggregate(reinterpret_cast<Aggref *>(expr));
            return;
        }
        appendStringInfo(&select_list_, "%s%s", separator, source_.ship(expr));
        // By position: an expression with a parameter is not equal to itself for the parser.
        appendStringInfo(&group_by_, "%s%d", group_by_.len > 0 ? ", " : "", number);
    }

    void add_aggregate(Aggref *aggregate) {
        StringInfoData arguments;
        initStringInfo(&arguments);
        ListCell *cell;
        foreach (cell, aggregate->args)
            appendStringInfo(&arguments, "%s%s", arguments.len > 0 ? ", " : "",
                             source_.ship(lfirst_node(TargetEntry, cell)->expr));
        const char *filter =
            aggregate->aggfilter != nullptr
                ? psprintf(" FILTER (WHERE %s)", source_.ship(aggregate->aggfilter))
                : "";
        const char *all = aggregate->aggstar ? "*" : arguments.data;
        auto call = [&](const char *function) {
            return psprintf("pg_catalog.%s(%s)%s", quote_identifier(function), all, filter);
        };
        switch (shape_of_partial(aggregate)) {
        case Shape::kCountSum:
            appendStringInfo(&select_list_, "ARRAY[%s, coalesce(%s, 0)]", call("count"),
                             call("sum"));
            break;
        case Shape::kCountSumSxx:
            appendStringInfo(&select_list_, "ARRAY[%s::float8, coalesce(%s::float8, 0), 0]",
                             call("count"), call("sum"));
            break;
        default:
            appendStringInfoString(&select_list_, call(get_func_name(aggregate->aggfnoid)));
        }
    }

    // The partial Aggref's type is the transition type already.
    static Shape shape_of_partial(const Aggref *aggregate) {
        if (strcmp(get_func_name(aggregate->aggfnoid), "avg") != 0)
            return Shape::kPlain;
        return aggregate->aggtype == INT8ARRAYOID ? Shape::kCountSum : Shape::kCountSumSxx;
    }

    PlannerInfo *root_;
    RelOptInfo *input_;
    Source source_;
    List *scan_tlist_ = NIL;
    List *sources_ = NIL;
    StringInfoData select_list_ = {};
    StringInfoData group_by_ = {};
};

Plan *plan_aggregate(PlannerInfo *root, RelOptInfo *, CustomPath *path, List *tlist, List *,
                     List *) {
    return pg::entry([&] {
        auto *input = static_cast<RelOptInfo *>(linitial(path->custom_private));
        return reinterpret_cast<Plan *>(
            AggregateBuilder(root, input).build(path->path.pathtarget, tlist));
    });
}

const CustomPathMethods kAggregatePathMethods = {
    .CustomName = "Panvel Aggregate",
    .PlanCustomPath = plan_aggregate,
    .ReparameterizeCustomPathByChild = nullptr,
};

// ------------------------------------------------------------------------- the paths

bool conditions_allow(PlannerInfo *root, RelOptInfo *input) {
    if (!bms_is_empty(input->lateral_relids) || IS_DUMMY_REL(input) || root->parse->hasTargetSRFs)
        return false;
    ListCell *cell;
    foreach (cell, input->baserestrictinfo) {
        RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
        if (clause->pseudoconstant || !is_remote_clause(input, clause))
            return false;
    }
    return true;
}

Path *make_partial_path(PlannerInfo *root, RelOptInfo *input, RelOptInfo *grouped,
                        const DistributedTable *table, PathTarget *target, double groups) {
    CustomPath *path = makeNode(CustomPath);
    path->path.pathtype = T_CustomScan;
    path->path.parent = grouped;
    path->path.pathtarget = target;
    path->methods = &kAggregatePathMethods;
    path->custom_private = list_make1(input);
    int nodes = count_read_nodes(table);
    path->path.rows = clamp_row_est(std::min(groups * nodes, input->rows));
    Cost aggregate = input->rows * cpu_operator_cost * list_length(target->exprs) / nodes;
    path->path.startup_cost = remote_read_cost(root, input, nodes) + aggregate;
    path->path.total_cost = path->path.startup_cost + transfer_cost(path->path.rows, target->width);
    return &path->path;
}

} // namespace

void add_aggregate_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *grouped,
                         const GroupPathExtraData *extra) {
    if ((extra->flags & GROUPING_CAN_PARTIAL_AGG) == 0)
        return;
    const DistributedTable *table = scanned_table(root, input);
    if (table == nullptr || !conditions_allow(root, input))
        return;
    PathTarget *partial = make_partial_target(root, Source(root, input).relids(),
                                              grouped->reltarget, extra->havingQual);
    if (partial == nullptr)
        return;

    List *clauses = root->parse->groupClause;
    double groups = 1;
    if (clauses != NIL)
        groups = estimate_num_groups(root, get_sortgrouplist_exprs(clauses, extra->targetList),
                                     input->rows, nullptr, nullptr);
    Path *path = make_partial_path(root, input, grouped, table, partial, groups);
    AggClauseCosts costs = {};
    get_agg_clause_costs(root, AGGSPLIT_FINAL_DESERIAL, &costs);
    auto finish = [&](Path *below, AggStrategy strategy) {
        add_path(grouped,
                 reinterpret_cast<Path *>(create_agg_path(
                     root, grouped, below, grouped->reltarget, strategy, AGGSPLIT_FINAL_DESERIAL,
                     clauses, reinterpret_cast<List *>(extra->havingQual), &costs, groups)));
    };
    if (clauses == NIL) {
        finish(path, AGG_PLAIN);
        return;
    }
    if ((extra->flags & GROUPING_CAN_USE_HASH) != 0)
        finish(path, AGG_HASHED);
    if ((extra->flags & GROUPING_CAN_USE_SORT) != 0)
        finish(reinterpret_cast<Path *>(
                   create_sort_path(root, grouped, path, root->group_pathkeys, -1.0)),
               AGG_SORTED);
}

} // namespace panvel
