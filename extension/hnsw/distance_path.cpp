// Where the planner may hand out an index's distances, and the plan for it.
#include "extension/hnsw/distance_scan.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
}

namespace vec {
namespace {

bool enabled = true;
set_rel_pathlist_hook_type previous_hook;

void *distance_indexes[2]; // cost functions, one per access method of this library
int distance_index_count;

// An index keeps distances as floats: what a jaccard distance is, only the operator says exactly,
// and quickly.
bool hands_out_distances(const IndexOptInfo *info) {
    if (info->opcintype[0] == BITOID)
        return false;
    void **end = distance_indexes + distance_index_count;
    return std::find(distance_indexes, end, reinterpret_cast<void *>(info->amcostestimate)) != end;
}

// The columns of the table that a query needs, some perhaps only for its distance.
List *needed_columns(const RelOptInfo *rel) {
    List *expressions = list_copy(rel->reltarget->exprs);
    ListCell *cell;
    foreach (cell, rel->baserestrictinfo)
        expressions = lappend(expressions, lfirst_node(RestrictInfo, cell)->clause);
    return pull_var_clause(reinterpret_cast<Node *>(expressions), PVC_RECURSE_PLACEHOLDERS);
}

bool needs_whole_rows(const RelOptInfo *rel) {
    ListCell *cell;
    foreach (cell, needed_columns(rel))
        if (lfirst_node(Var, cell)->varattno == InvalidAttrNumber)
            return true;
    return false;
}

// A row that is locked or changed is fetched again by its place, so its distance would be missing.
bool may_serve(const PlannerInfo *root, const RelOptInfo *rel, const RangeTblEntry *table) {
    return enabled && root->parse->commandType == CMD_SELECT && root->rowMarks == NIL &&
           table->rtekind == RTE_RELATION && table->tablesample == nullptr &&
           (table->relkind == RELKIND_RELATION || table->relkind == RELKIND_MATVIEW) &&
           IS_SIMPLE_REL(rel) && rel->lateral_relids == nullptr;
}

bool may_replace(const Path *path) {
    if (!IsA(path, IndexPath))
        return false;
    auto *index_path = reinterpret_cast<const IndexPath *>(path);
    return hands_out_distances(index_path->indexinfo) && path->pathtype == T_IndexScan &&
           path->param_info == nullptr && path->pathkeys != NIL &&
           list_length(index_path->indexorderbys) == 1 && index_path->indexclauses == NIL &&
           exprType(static_cast<Node *>(linitial(index_path->indexorderbys))) == FLOAT8OID;
}

// The same distance with its operands the other way round; NULL when there is no such operator.
Expr *commuted(const OpExpr *distance) {
    Oid commutator = get_commutator(distance->opno);
    if (!OidIsValid(commutator))
        return nullptr;
    auto *result = static_cast<OpExpr *>(copyObjectImpl(distance));
    result->opno = commutator;
    result->opfuncid = get_opcode(commutator);
    result->args = list_make2(lsecond(result->args), linitial(result->args));
    return &result->xpr;
}

List *add_target(List *targets, void *expression) {
    return lappend(targets, makeTargetEntry(static_cast<Expr *>(expression),
                                            static_cast<AttrNumber>(list_length(targets) + 1),
                                            nullptr, false));
}

List *scan_targets(const RelOptInfo *rel, OpExpr *distance) {
    List *columns = NIL;
    ListCell *cell;
    foreach (cell, needed_columns(rel))
        columns = list_append_unique(columns, lfirst(cell));
    List *targets = NIL;
    foreach (cell, columns)
        targets = add_target(targets, lfirst(cell));
    targets = add_target(targets, distance);
    if (Expr *other = commuted(distance); other != nullptr)
        targets = add_target(targets, other);
    return targets;
}

// `clauses` without those that a partial index's predicate implies.
List *remaining_clauses(const IndexPath *index_path, List *clauses) {
    List *remaining = NIL;
    ListCell *cell;
    foreach (cell, clauses)
        if (list_member_ptr(index_path->indexinfo->indrestrictinfo, lfirst(cell)))
            remaining = lappend(remaining, lfirst(cell));
    return remaining;
}

Plan *plan_distance_scan(PlannerInfo *, RelOptInfo *rel, CustomPath *path, List *targets,
                         List *clauses, List *) {
    return pg::entry([&] {
        auto *index_path = linitial_node(IndexPath, path->custom_private);
        auto *distance = linitial_node(OpExpr, index_path->indexorderbys);
        CustomScan *scan = makeNode(CustomScan);
        scan->scan.plan.targetlist = targets;
        scan->scan.plan.qual =
            extract_actual_clauses(remaining_clauses(index_path, clauses), false);
        scan->scan.scanrelid = rel->relid;
        scan->flags = path->flags;
        scan->custom_scan_tlist = scan_targets(rel, distance);
        scan->custom_exprs = list_make2(distance, lsecond(distance->args));
        scan->custom_private =
            list_make2(list_make1_oid(index_path->indexinfo->indexoid),
                       list_make1_int(linitial_int(index_path->indexorderbycols)));
        scan->methods = &kDistanceScanMethods;
        return &scan->scan.plan;
    });
}

const CustomPathMethods kPathMethods = {
    .CustomName = "Vector Index Scan",
    .PlanCustomPath = plan_distance_scan,
    .ReparameterizeCustomPathByChild = nullptr,
};

// As the index path, and cheaper by the distance that is not computed again.
Path *make_distance_path(IndexPath *index_path) {
    CustomPath *path = makeNode(CustomPath);
    path->path = index_path->path;
    path->path.type = T_CustomPath;
    path->path.pathtype = T_CustomScan;
    Cost cost = index_path->path.total_cost;
    // A saving too small to be seen beside a large cost (enable_indexscan = off) would not count.
    Cost saving = Max(cpu_operator_cost * index_path->path.rows, cost * 1e-8);
    path->path.total_cost = Max(index_path->path.startup_cost, cost - saving);
    path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
    path->custom_private = list_make1(index_path);
    path->methods = &kPathMethods;
    return &path->path;
}

void add_distance_paths(RelOptInfo *rel) {
    List *found = NIL;
    ListCell *cell;
    foreach (cell, rel->pathlist)
        if (may_replace(static_cast<Path *>(lfirst(cell))))
            found = lappend(found, lfirst(cell));
    if (found == NIL || needs_whole_rows(rel))
        return;
    foreach (cell, found)
        add_path(rel, make_distance_path(lfirst_node(IndexPath, cell)));
}

void on_paths(PlannerInfo *root, RelOptInfo *rel, Index index, RangeTblEntry *table) {
    if (previous_hook != nullptr)
        previous_hook(root, rel, index, table);
    pg::entry([&] {
        if (may_serve(root, rel, table))
            add_distance_paths(rel);
    });
}

} // namespace

void register_distance_index(amcostestimate_function cost_estimate) {
    PANVEL_ASSERT(distance_index_count < static_cast<int>(lengthof(distance_indexes)));
    distance_indexes[distance_index_count++] = reinterpret_cast<void *>(cost_estimate);
}

void init_distance_scan() {
    DefineCustomBoolVariable(
        "vector.distance_scan", "Lets index scans hand out the distances that they have computed.",
        "For tests. When off, the executor computes each row's again.", &enabled, true, PGC_USERSET,
        GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
    RegisterCustomScanMethods(&kDistanceScanMethods);
    previous_hook = set_rel_pathlist_hook;
    set_rel_pathlist_hook = on_paths;
}

} // namespace vec
