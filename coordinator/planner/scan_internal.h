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

// A path's private data: List of SortKey *, whether LIMIT goes to the nodes, the locking clause.
List *path_sort_keys(const CustomPath *path);
bool path_pushes_limit(const CustomPath *path);
const char *path_lock(const CustomPath *path);

// The locking clause of a relation whose rows the query locks, or "". The nodes lock the rows: the
// query then has no row marks any more. Refuses (0A000) what they cannot lock.
const char *take_row_lock(PlannerInfo *root, RelOptInfo *rel);

// Refuses row locks on a relation where the shape of its query alone forbids them.
void check_row_lock(const Query *query, Index index, Oid relid);

// Whether the workers apply this restriction.
bool is_remote_clause(RelOptInfo *rel, RestrictInfo *clause);

// Offers scans that find the rows for a row of other relations (lookup_path.cpp).
void add_lookup_paths(PlannerInfo *root, RelOptInfo *rel, const DistributedTable *table);
// Whether equality with every column of a unique key leaves one row at most. `lookup`: of a path's,
// may be null.
bool finds_one_row(PlannerInfo *root, RelOptInfo *rel, const ParamPathInfo *lookup);

// A scan without order; its costs are still to be set.
CustomPath *make_scan_path(RelOptInfo *rel, ParamPathInfo *lookup, const char *lock);

// A scan or an aggregation on the nodes whose result one statement a node gives.
bool has_small_result(PlannerInfo *root, const CustomPath *path);

// Costs in the planner's unit (a sequential page read): one exchange of messages with the nodes.
constexpr Cost kRoundTripCost = 25.0;
// Reading the relation on all nodes together.
Cost read_cost(const RelOptInfo *rel);
// `nodes` read their shares at the same time.
int count_read_nodes(const DistributedTable *table);
Cost remote_read_cost(PlannerInfo *root, RelOptInfo *rel, int nodes);
Cost transfer_cost(double rows, double width);

// The table whose shards a relation or remote join has; null when it is neither.
const DistributedTable *scanned_table(PlannerInfo *root, RelOptInfo *rel);

// Offers to scan a distributed relation or a remote join, unordered and in the query's order.
// `lock`: as path_lock().
void add_remote_paths(PlannerInfo *root, RelOptInfo *rel, const DistributedTable *table,
                      const char *lock);

// PlanCustomPath callback.
Plan *plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses,
                List *custom_plans);

} // namespace panvel
