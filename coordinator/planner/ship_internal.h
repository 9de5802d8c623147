// What the shippability check and the deparser share.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/pathnodes.h"
}

namespace panvel {

// Whether the expression has columns of the relations, or a part that only means something in its
// place in the plan (subplans, aggregates, placeholders).
bool references_relation(Node *node, Relids relids);

// Whether the coordinator computes this part and sends the value: no columns of the relations, not
// volatile.
bool is_evaluated_locally(Node *node, Relids relids);

// "c<varno>_<attribute>": a column among those of a join.
char *joined_column_name(const Var *var);

} // namespace panvel
