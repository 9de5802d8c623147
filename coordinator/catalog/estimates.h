// How large a distributed table is, for the planner: kept in panvel.distributed_table.
#pragma once

#include "coordinator/catalog/metadata.h"

namespace panvel {

// Records rows and pages of the whole table; negative rows: unknown.
void set_estimates(Oid relid, double rows, int64 pages);

// Asks the nodes for what their last ANALYZE counted, and records the sum.
void refresh_estimates(const DistributedTable *table);

} // namespace panvel
