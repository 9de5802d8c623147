// How large a distributed table is, for the planner: kept in panvel.distributed_table.
#pragma once

#include "coordinator/catalog/metadata.h"

namespace panvel {

// Records rows and pages of the whole table; negative rows: unknown.
void set_estimates(Oid relid, double rows, int64 pages);

struct ShardEstimate {
    const char *schema;
    int32 node_id; // whose placement it is about
    double rows;
    double pages;
};

struct TableEstimates {
    double rows;
    int64 pages;
    List *shards; // ShardEstimate *
};

// Asks the nodes for what their last ANALYZE counted, and records the sums. In
// CurrentMemoryContext.
TableEstimates *refresh_estimates(const DistributedTable *table);

} // namespace panvel
