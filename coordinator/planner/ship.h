// Which expressions may be evaluated on the workers, and their SQL text there.
//
// An expression is shippable when a worker computes what the coordinator would: its functions,
// operators and types are built in or belong to an extension that every node has (`vector`), it
// is immutable in what depends on columns (or depends on TimeZone, which the nodes are given), and
// its only columns are those of one distributed relation, or of several that a shard can join.
// Parts without columns (parameters, now(), current_user, outer references of a subquery) are
// evaluated on the coordinator, once per execution, and travel as parameters; but what might raise
// an error (1 / $1) and need not be evaluated at all, as in a branch of CASE, the workers evaluate
// (ship_value.cpp).
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/pathnodes.h"
}

namespace panvel {

struct DistributedTable;

// One remote statement under construction: its parameters in the order of $1, $2, ...
struct ShippedParams {
    List *exprs = nullptr; // Expr *, free of columns of the relation; evaluated at execution
};

// `relids`: the range table indexes of the relations whose columns the shards know. Volatile
// functions, subplans that depend on their columns, aggregates, window functions and system columns
// (but tableoid) are not shippable.
bool is_shippable(Relids relids, Expr *expr);

// Whether a worker that sorts or compares by the expression uses this collation.
// REQUIRES: is_shippable().
bool is_shippable_with_collation(Relids relids, Expr *expr, Oid collation);

// The expression's SQL text, with search_path = pg_catalog, every parameter cast explicitly by type
// name; parameters are appended to `params` (equal ones are shared). REQUIRES: is_shippable().
//
// The forms differ in what they call a column: of the relation `varno`, t.name; of several
// relations, r<varno>.name; or in the rows of a join of theirs, t.c<varno>_<attribute number>.
char *deparse_shipped(PlannerInfo *root, Index varno, Expr *expr, ShippedParams *params);
char *deparse_for_join(PlannerInfo *root, Relids relids, Expr *expr, ShippedParams *params);
char *deparse_over_join(Relids relids, Expr *expr, ShippedParams *params);

// For a single relation.
inline bool is_shippable(Index varno, Expr *expr) {
    return is_shippable(bms_make_singleton(static_cast<int>(varno)), expr);
}

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

// The first such condition on `varno` among `quals` (List of Expr, all ANDed), or null: all shards.
// The value has no columns of `relids`.
PruneKey *find_prune_key(PlannerInfo *root, Relids relids, Index varno, List *quals);

// The key for `distribution column op value`; null when values of that type cannot be hashed as the
// column's. REQUIRES: is_key_equality(op).
PruneKey *make_prune_key(const DistributedTable *table, Oid op, Node *value, bool is_array);

// Whether the operator is the equality that the table's rows are hashed by, under the same
// collation.
bool is_key_equality(const DistributedTable *table, Oid op, Oid collation);

// Whether the expression is the distribution column of `varno`, a relation of `table`.
bool is_distribution_column(Index varno, const DistributedTable *table, Node *node);

} // namespace panvel
