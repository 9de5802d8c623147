// What the path and the plan of a distributed scan share.
#pragma once

#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/scan.h"
#include "coordinator/planner/ship_internal.h"

namespace panvel {

// One key of an ordered scan.
struct SortKey {
    Expr *expr;
    Oid sort_operator; // the type's default < or >
    Oid collation;
    bool descending;
    bool nulls_first;
};

// A path's private data: List of SortKey *, and whether LIMIT goes to the nodes.
List *path_sort_keys(const CustomPath *path);
bool path_pushes_limit(const CustomPath *path);

// Whether the workers apply this restriction.
bool is_remote_clause(PlannerInfo *root, RelOptInfo *rel, RestrictInfo *clause);

// Names of a relation's columns (pull_varattnos() form), as a select list.
char *column_list_of(PlannerInfo *root, Index varno, Bitmapset *columns);

// Costs in the planner's units. `nodes` read their shares at the same time.
int count_read_nodes(const DistributedTable *table);
Cost remote_read_cost(RelOptInfo *rel, int nodes);
Cost transfer_cost(double rows, double width);

// PlanCustomPath callback.
Plan *plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses,
                List *custom_plans);

} // namespace panvel
