// The buffers that nodes use for a plan, for EXPLAIN (ANALYZE, BUFFERS).
//
// A node's backend says what it has used so far (vector.buffer_usage); the difference of two
// readings is what the statements between them used, their planning included. Where several plan
// nodes have statements on one node at the same time, each difference is counted once, by the plan
// node that reads it.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "executor/instrument.h"
#include "nodes/bitmapset.h"
#include "nodes/execnodes.h"
}

namespace panvel {

// The nodes whose buffers a plan node counts: Bitmapset of node_id, in the query's context.
using CountedNodes = Bitmapset *;

// To be called before each statement; sends the first reading, and does not wait. Does nothing
// where nobody asks for buffers.
void count_buffers(PlanState *plan, CountedNodes *nodes, int32 node_id);

// After the last statement: adds what was used to the backend's own, as with the buffers of
// parallel workers, calls `count` with each node's part, and forgets the nodes. Waits. A node that
// cannot be asked has used nothing.
void collect_buffers(PlanState *plan, CountedNodes *nodes,
                     void (*count)(PlanState *, int32 node_id, const BufferUsage &));

void add_buffer_usage(BufferUsage *to, const BufferUsage &used);

} // namespace panvel
