// Lookups: scans of a distributed relation for a row of others, d.id = o.item. The inner side of a
// nested loop; with lookahead (lookahead.cpp) many rows ask in one message.
#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/scan_internal.h"

extern "C" {
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
}

namespace panvel {
namespace {

bool is_column(Node *node, Index varno, AttrNumber attribute) {
    while (node != nullptr && IsA(node, RelabelType))
        node = reinterpret_cast<Node *>(castNode(RelabelType, node)->arg);
    if (node == nullptr || !IsA(node, Var))
        return false;
    Var *var = castNode(Var, node);
    return var->varno == static_cast<int>(varno) && var->varattno == attribute &&
           var->varlevelsup == 0;
}

// By which columns a node finds rows without reading all: those that indexes begin with.
Bitmapset *lookup_columns(const RelOptInfo *rel) {
    Bitmapset *columns = nullptr;
    ListCell *cell;
    foreach (cell, rel->indexlist) {
        auto *index = static_cast<IndexOptInfo *>(lfirst(cell));
        if (index->sortopfamily != nullptr && index->indpred == NIL && index->indexkeys[0] > 0)
            columns = bms_add_member(columns, index->indexkeys[0]);
    }
    return columns;
}

// Whether the clause is an equality of the column with something that has none of the relation's.
bool is_lookup(const RelOptInfo *rel, const RestrictInfo *clause, AttrNumber attribute) {
    if (!IsA(clause->clause, OpExpr) || clause->mergeopfamilies == NIL ||
        list_length(castNode(OpExpr, clause->clause)->args) != 2)
        return false;
    auto *args = castNode(OpExpr, clause->clause)->args;
    return (is_column(static_cast<Node *>(linitial(args)), rel->relid, attribute) &&
            !bms_is_member(static_cast<int>(rel->relid), clause->right_relids)) ||
           (is_column(static_cast<Node *>(lsecond(args)), rel->relid, attribute) &&
            !bms_is_member(static_cast<int>(rel->relid), clause->left_relids));
}

bool is_member_of_column(PlannerInfo *, RelOptInfo *rel, EquivalenceClass *,
                         EquivalenceMember *member, void *attribute) {
    return is_column(reinterpret_cast<Node *>(member->em_expr), rel->relid,
                     *static_cast<AttrNumber *>(attribute));
}

// The clauses that say which rows to find by the column.
List *lookup_clauses(PlannerInfo *root, RelOptInfo *rel, AttrNumber attribute) {
    List *clauses = NIL;
    ListCell *cell;
    foreach (cell, rel->joininfo) {
        RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
        if (join_clause_is_movable_to(clause, rel) && is_lookup(rel, clause, attribute))
            clauses = lappend(clauses, clause);
    }
    if (rel->has_eclass_joins)
        clauses = list_concat(
            clauses, generate_implied_equalities_for_column(root, rel, is_member_of_column,
                                                            &attribute, rel->lateral_referencers));
    return clauses;
}

void add_lookup_path(PlannerInfo *root, RelOptInfo *rel, Relids outer) {
    ParamPathInfo *lookup = get_baserel_parampathinfo(root, rel, outer);
    CustomPath *path = make_scan_path(rel, lookup, "");
    double rows = clamp_row_est(lookup->ppi_rows);
    Cost per_row = random_page_cost + cpu_tuple_cost + rel->baserestrictcost.per_tuple;
    Cost read = std::min(read_cost(rel), rows * per_row);
    path->path.rows = rows;
    path->path.startup_cost = kRoundTripCost;
    path->path.total_cost = kRoundTripCost + read + transfer_cost(rows, rel->reltarget->width);
    add_path(rel, &path->path);
}

bool has_relids(List *list, Relids relids) {
    ListCell *cell;
    foreach (cell, list)
        if (bms_equal(static_cast<Relids>(lfirst(cell)), relids))
            return true;
    return false;
}

} // namespace

void add_lookup_paths(PlannerInfo *root, RelOptInfo *rel, const DistributedTable *table) {
    CmdType command = root->parse->commandType;
    if ((command != CMD_SELECT && command != CMD_INSERT) || root->rowMarks != NIL ||
        (rel->joininfo == NIL && !rel->has_eclass_joins))
        return;
    Bitmapset *columns = lookup_columns(rel);
    if (!table->is_reference)
        columns = bms_add_member(columns, table->distribution_attribute);
    List *made = NIL; // Relids
    int attribute = -1;
    while ((attribute = bms_next_member(columns, attribute)) >= 0) {
        ListCell *cell;
        foreach (cell, lookup_clauses(root, rel, static_cast<AttrNumber>(attribute))) {
            RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
            if (!is_remote_clause(rel, clause))
                continue;
            Relids outer = bms_union(clause->clause_relids, rel->lateral_relids);
            outer = bms_del_member(outer, static_cast<int>(rel->relid));
            if (bms_is_empty(outer) || has_relids(made, outer))
                continue;
            made = lappend(made, outer);
            add_lookup_path(root, rel, outer);
        }
    }
}

bool finds_one_row(PlannerInfo *root, RelOptInfo *rel, const ParamPathInfo *lookup) {
    List *equalities = NIL;
    ListCell *cell;
    foreach (cell, lookup != nullptr ? lookup->ppi_clauses : NIL) {
        RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
        if (clause->mergeopfamilies == NIL || !clause->can_join || !is_remote_clause(rel, clause))
            continue;
        // Which side is the relation's, as the function below is told by its other callers.
        clause->outer_is_left = !bms_is_member(static_cast<int>(rel->relid), clause->left_relids);
        equalities = lappend(equalities, clause);
    }
    return relation_has_unique_index_for(root, rel, equalities, NIL, NIL);
}

} // namespace panvel
