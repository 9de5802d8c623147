// LATERAL subqueries that ask the nodes for a few rows for every row of something else: a nested
// loop would wait for the nodes once for each. A node on the loop's outer side reads some rows
// ahead and sends what the subquery will ask for.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/extensible.h"
#include "nodes/pathnodes.h"
}

namespace panvel {

// Offers nested loops that look ahead; from set_join_pathlist_hook.
void add_lookahead_paths(PlannerInfo *root, RelOptInfo *joined, RelOptInfo *outer,
                         RelOptInfo *inner, JoinType type, JoinPathExtraData *extra);

// The executor's side (coordinator/executor/lookahead.cpp).
extern const CustomScanMethods kLookaheadMethods;
void register_lookahead_methods();

} // namespace panvel
