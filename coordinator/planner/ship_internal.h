// What the shippability check and the deparser share.
#pragma once

#include "coordinator/planner/ship.h"

extern "C" {
#include "nodes/pathnodes.h"
}

namespace panvel {

// Whether the expression has columns of the relations, or a part that only means something in its
// place in the plan (subplans, aggregates, placeholders).
bool references_relation(Node *node, Relids relids);

// Whether the value does not depend on a row of the relations: no columns of theirs, not volatile.
bool is_free_of_columns(Node *node, Relids relids);

// Whether evaluating the expression, which has no subplans, might raise an error.
bool may_raise(Node *node);

// Whether a node computes an expression that is free of columns as the coordinator does, from the
// values in it.
bool is_computed_alike(Node *node);

// Whether every node has the object: it is built in, or of extension `vector`.
bool is_function_everywhere(Oid function);
bool is_operator_everywhere(Oid op);
bool is_type_everywhere(Oid type);

// Whether the function may give another result on a node than here, at the same time.
bool may_differ_on_nodes(Oid function);

// Whether values of the type can be parameters and results: not of those that have no form of their
// own on the wire, nor rows of tables, whose types the nodes have under the shards' names.
bool is_transportable(Oid type);

// $n with an explicit cast to its type, for an expression that the coordinator evaluates.
Node *make_shipped_param(Expr *expr, ShippedParams *params);

// (SELECT $n): a value that the worker's planner does not know, else it would compute 1 / $n ahead.
Node *make_unknown(Node *param);

// Whether the expression is a cast to varchar(5) or the like, whose length is an argument that is
// printed only as a constant: it must not become a parameter.
bool is_length_coercion(Node *node);
Node *with_first_argument(const FuncExpr *call, Node *argument);

// "c<varno>_<attribute>": a column among those of a join.
char *joined_column_name(const Var *var);

} // namespace panvel
