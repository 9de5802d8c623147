// create_distributed_table() and create_reference_table(), for other callers than SQL.
#pragma once

#include "extension/pg/pg.h"

namespace panvel {

struct DistributionRequest {
    Oid relid;
    const char *column;
    int shard_count;        // 0: not given
    int replication_factor; // 0: not given
    Oid colocate_with;      // invalid: not given
    const char *group;      // the group's name in labels; null: one is made
};

// Both check the caller's rights on the table.
void create_distributed_table(const DistributionRequest *request);
void create_reference_table(Oid relid);

} // namespace panvel
