// Rows streamed to the shards of a table by COPY: a batch in memory per shard, at most four batches
// per node on their way. Memory stays within kMaxBuffered plus four batches per node.
#pragma once

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "utils/relcache.h"
}

namespace panvel {

struct ShardLoader; // opaque

// `relation`: the table; rows have its columns, of which generated ones are left to the shards.
// Everything lives in CurrentMemoryContext; `table` must stay valid.
ShardLoader *begin_shard_load(const DistributedTable *table, Relation relation);

// Adds one row (arrays of all the relation's columns); allocates in CurrentMemoryContext what may
// be freed when it returns. 23502 when the distribution key is null; errors of earlier batches.
// `line`: where the row was in the user's input, for the context of a shard's error; 0: nowhere.
void load_row(ShardLoader *loader, const Datum *values, const bool *isnull, uint64 line);

// Sends what is left and waits until all nodes have taken it. Returns the number of rows.
uint64 finish_shard_load(ShardLoader *loader);

} // namespace panvel
