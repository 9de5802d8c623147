// Joins that every shard computes by itself: of colocated tables by equal distribution columns, and
// with reference tables. Their rows over all shards are the join's rows.
#pragma once

#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/scan_internal.h"

extern "C" {
#include "lib/stringinfo.h"
}

namespace panvel {

struct RemoteRel;

// A part of a conjunction: an expression, or [NOT] EXISTS (SELECT FROM rel WHERE ... AND on).
struct JoinCondition {
    Expr *expr;
    const RemoteRel *exists; // null: `expr`
    bool negated;
    List *on; // JoinCondition *
};

// A relation or a join that a shard can compute from its own tables.
struct RemoteRel {
    Relids relids;  // of all relations
    Relids visible; // whose columns the rows have: not those inside EXISTS
    // Whose shards it has: a distributed table; a reference table where there is nothing else.
    const DistributedTable *table;
    List *keys;     // integer List: relations whose distribution column, not being NULL, tells a
                    // row's shard
    Cost read;      // cost of reading the distributed tables, on all nodes together
    Cost read_copy; // cost of reading the reference tables, on each node

    Index varno; // of a relation; 0: a join
    JoinType type;
    const RemoteRel *outer;
    const RemoteRel *inner;
    List *on;    // JoinCondition *, of LEFT and FULL joins
    List *where; // JoinCondition *, of the rows as a whole
};

// The relation as part of a remote join, or null.
const RemoteRel *remote_rel_of(PlannerInfo *root, RelOptInfo *rel);

// Makes `joined` a remote join if it can be one, and offers to scan it; from
// set_join_pathlist_hook.
void add_join_paths(PlannerInfo *root, RelOptInfo *joined, RelOptInfo *outer, RelOptInfo *inner,
                    JoinType type, const JoinPathExtraData *extra);

// "SELECT r1.a AS c1_1, ... FROM ... WHERE ..." of one shard, in pieces (List of String) between
// which the schema of the shard belongs. `columns`: Var *.
List *join_statement(PlannerInfo *root, const RemoteRel *rel, List *columns, ShippedParams *params);

// "items i JOIN labels l", for EXPLAIN.
char *describe_join(PlannerInfo *root, const RemoteRel *rel);

// What the rows' shards follow from, among the conditions on all rows; null: all shards.
PruneKey *find_join_prune_key(PlannerInfo *root, const RemoteRel *rel);

} // namespace panvel
