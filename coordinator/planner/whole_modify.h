// UPDATE ... FROM, DELETE ... USING, subqueries over the row and INSERT ... SELECT that every shard
// can do by itself: all they use are colocated tables by equal distribution columns, and reference
// tables. Such a statement goes to the shards as it is written.
#pragma once

#include "coordinator/planner/whole_query.h"

namespace panvel {

struct WholeModify {
    const Query *query; // a copy, as it was before planning
    PruneKey *key;      // tells the one shard that has all rows; null: all shards
    List *text;         // as WholeQuery::text
    List *params;       // Expr *
};

// The statement as one for the shards, or null.
WholeModify *find_whole_modify(const Query *query);

// Puts it in the place of a plan that fetches rows to the coordinator; leaves any other.
void use_whole_modify(PlannedStmt *statement, const WholeModify *whole);

} // namespace panvel
