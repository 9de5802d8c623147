// Which expressions may be evaluated on the workers, and their SQL text there.
//
// An expression is shippable when a worker computes what the coordinator would: its functions,
// operators and types are built in or belong to an extension that every node has (`vector`), it
// is immutable in what depends on columns (or depends on TimeZone, which the nodes are given), and
// its only columns are those of one distributed relation. Parts without columns (parameters, now(),
// current_user, outer references of a subquery) are evaluated on the coordinator, once per
// execution, and travel as parameters.
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

// Whether a worker that sorts or compares by the expression uses this collation.
// REQUIRES: is_shippable().
bool is_shippable_with_collation(Index varno, Expr *expr, Oid collation);

// The expression's SQL text under the alias `t`, with search_path = pg_catalog, every parameter
// cast explicitly by type name; parameters are appended to `params` (equal ones are shared).
// REQUIRES: is_shippable().
char *deparse_shipped(PlannerInfo *root, Index varno, Expr *expr, ShippedParams *params);

// ON CONFLICT DO UPDATE has a second row in its expressions, EXCLUDED, with the same columns. To
// the functions above a column of it is one of `varno` with this added to its number.
constexpr AttrNumber kExcludedColumns = 2000;

// "$n::type" for an expression that is evaluated on the coordinator.
char *deparse_param(Expr *expr, ShippedParams *params);

// What tells the shards that rows satisfying a condition can be in: `column = value` or
// `column = ANY(array)` on the distribution column. The value is evaluated at execution
// (coordinator/executor/prune.h).
struct PruneKey {
    Expr *value;       // free of the relation's columns
    bool is_array;     // `value` is an array of the type below
    Oid hash_function; // extended hash function of the value's type, in the column's family
};

// The first such condition among `quals` (List of Expr, all ANDed), or null: all shards.
PruneKey *find_prune_key(PlannerInfo *root, Index varno, List *quals);

} // namespace panvel
