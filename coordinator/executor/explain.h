// What EXPLAIN says about the nodes of a distributed plan; one form for scans and writes.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "commands/explain.h"
#include "executor/instrument.h"
#include "nodes/bitmapset.h"
}

namespace panvel {

// One node's part of a plan node.
struct NodeReport {
    int32 node_id;
    int shard_count;
    Bitmapset *shards;  // where they are asked one by one
    const char *sql;    // the remote statement
    int64 rows;         // rows received (or written), over all executions
    int64 microseconds; // time the node took, over all executions
    int64 executions;   // 0: never executed
    BufferUsage buffers;
};

// Shows nodes and shards; with VERBOSE each node's remote SQL; with ANALYZE each node's rows and
// time; with BUFFERS what each node used.
void explain_nodes(ExplainState *es, const NodeReport *reports, int count, int table_shards);

} // namespace panvel
