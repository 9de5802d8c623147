// Reading a distributed relation: the paths the planner may choose and the plan node they become.
//
// The plan node is a CustomScan on the relation. What its executor needs is in ScanPlan, which
// goes into custom_private and custom_exprs as nodes, so that plans can be copied and cached.
#pragma once

#include "coordinator/planner/ship.h"

extern "C" {
#include "nodes/plannodes.h"
}

namespace panvel {

// Where a column of the scan tuple comes from.
enum class ColumnSource { kRemote, kTableOid, kRowIdentifier, kWholeRow };

struct ScanPlan {
    Oid relid; // the table whose shards are read; of a join, one of them
    // Pieces of the remote statement. A node's statement reads one shard's table, or the UNION ALL
    // of several, or of the joins of one or several, as `t`.
    List *join;              // String: the SELECT of a join, without the shard's schema in between;
                             // NIL for a relation
    const char *description; // of a join
    bool whole_query;        // `join` is the statement itself, of one shard
    const char *select_list; // SQL, may be empty
    const char *columns;     // columns of the shards' tables that the pieces mention
    const char *where;       // SQL, empty for none
    const char *group_by;    // SQL, empty for none
    const char *order_by;    // SQL, empty for none
    const char *lock;        // "FOR UPDATE OF t NOWAIT", empty for none
    bool push_limit;         // LIMIT count + offset goes to the nodes
    bool small_result;       // known to be a row or so a node: no cursor needed

    List *sources; // integer List of ColumnSource, one per entry of custom_scan_tlist

    // Sort keys of the merge; empty for an unordered scan. Lists of equal length.
    List *sort_columns;     // integer List: position in custom_scan_tlist, from 1
    List *sort_operators;   // Oid List
    List *sort_collations;  // Oid List
    List *sort_nulls_first; // integer List

    bool is_target;  // of UPDATE or DELETE: its rows are read where they will be written
    bool correlated; // expressions have parameters of a plan around it
    // Expressions (custom_exprs).
    List *params;        // of Expr: $1, $2, ...
    PruneKey *prune_key; // may be null
    Node *limit_count;   // may be null
    Node *limit_offset;  // may be null
};

// Into and out of a CustomScan's custom_private and custom_exprs.
void store_scan_plan(CustomScan *scan, const ScanPlan *plan);
ScanPlan *load_scan_plan(const CustomScan *scan);

// Replaces the paths of a distributed relation; from set_rel_pathlist_hook.
void add_scan_paths(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *entry);

// Offers to aggregate on the nodes and finish above; from create_upper_paths_hook at
// UPPERREL_GROUP_AGG.
void add_aggregate_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *grouped,
                         const GroupPathExtraData *extra);

// The executor's side (coordinator/executor/scan.cpp).
extern const CustomScanMethods kScanMethods;
void register_scan_methods();

} // namespace panvel
