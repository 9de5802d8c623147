// Requests to several nodes at once, and what all nodes have in common.
#pragma once

#include "coordinator/catalog/metadata.h"
#include "coordinator/remote/remote.h"

namespace panvel {

// One node's part of a statement that goes to many. `request` is null where sending failed
// already; `error` then says why.
struct NodeRequest {
    const ClusterNode *node;
    RemoteRequest *request;
    ErrorData *error;
};

// Sends `statement` to a node without raising an error: for what must go on without it.
NodeRequest *send_to_node(const ClusterNode *node, const RemoteStatement *statement);

// Waits for the answer. Null when there is none: `error` is then filled.
PGresult *wait_for_node(NodeRequest *request);

// Extension `vector` in this database: panvel requires it, and the same on every node.
struct OwnVector {
    char *version;
    char *schema;
};
OwnVector own_vector();

} // namespace panvel
