// Which expressions may be evaluated on the workers, and their SQL text there.
//
// An expression is shippable when a worker computes what the coordinator would: its functions,
// operators and types are built in or belong to an extension that every node has (`vector`), it
// is immutable in what depends on columns, and its only columns are those of one distributed
// relation. Parts without columns (parameters, now(), current_user, outer references of a
// subquery) are evaluated on the coordinator, once per execution, and travel as parameters.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/pathnodes.h"
}

namespace panvel {

// One remote statement under construction: its parameters in the order of $1, $2, ...
struct ShippedParams {
    List *exprs = nullptr; // Expr *, free of columns of the relation; evaluated at execution
};

// `varno`: the distributed relation's range table index. Volatile functions, subplans that
// depend on the relation's columns, aggregates, window functions and system columns (but
// tableoid) are not shippable.
bool is_shippable(PlannerInfo *root, Index varno, Expr *expr);

// The expression's SQL text under the alias `t`, with search_path = pg_catalog, every parameter
// cast explicitly by type name; parameters are appended to `params` (equal ones are shared).
// REQUIRES: is_shippable().
char *deparse_shipped(PlannerInfo *root, Index varno, Expr *expr, ShippedParams *params);

// "$n::type" for an expression that is evaluated on the coordinator.
char *deparse_param(Expr *expr, ShippedParams *params);

// The shards that rows satisfying `quals` (List of Expr, all ANDed) can be in, as far as the
// planner can tell from `column = expr` or `column = ANY(array)` on the distribution column.
// Returned exprs are evaluated at execution (see executor/prune.h); null: all shards.
struct PruneKey {
    Expr *value;   // of the distribution column's type, or an array of it
    bool is_array;
};
PruneKey *find_prune_key(PlannerInfo *root, Index varno, List *quals);

} // namespace panvel
