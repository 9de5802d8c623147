// What the shippability check and the deparser share.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/pathnodes.h"
}

namespace panvel {

// Whether the expression has columns of relation `varno`, or a part that only means something in
// its place in the plan (subplans, aggregates, placeholders).
bool references_relation(Node *node, Index varno);

// Whether the coordinator computes this part and sends the value: no columns of the relation, not
// volatile.
bool is_evaluated_locally(Node *node, Index varno);

} // namespace panvel
