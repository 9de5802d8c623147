// Statements for many nodes, sent without waiting in between: a node gets all of its statements
// in one go.
#pragma once

#include "coordinator/remote/remote.h"

namespace panvel {

struct NodeBatch {
    List *requests = nullptr; // RemoteRequest *, in the order of sending
};

// Queues a writing statement on the node.
void batch_send(NodeBatch *batch, int32 node_id, const char *sql, Effect effect = Effect::kWrite);

// Waits for all of them; raises the first error. The batch is then empty.
void batch_finish(NodeBatch *batch);

} // namespace panvel
