// REINDEX on the shards.
#include "coordinator/catalog/distributable.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/node_batch.h"
#include "coordinator/ddl/shard_ddl.h"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {

void reindex_shards(const DistributedTable *table, const ReindexStmt *statement) {
    const char *kind = statement->kind == REINDEX_OBJECT_INDEX ? "INDEX" : "TABLE";
    Oid relid = RangeVarGetRelid(statement->relation, NoLock, false);
    const char *name = get_rel_name(relid);
    NodeBatch batch;
    for (int i = 0; i < table->shard_count; i++) {
        const Shard *shard = &table->shards[i];
        for (int j = 0; j < shard->placement_count; j++)
            batch_send(
                &batch, shard->placements[j].node_id,
                psprintf("REINDEX %s %s", kind, quote_qualified_identifier(shard->schema, name)));
    }
    batch_finish(&batch);
}

} // namespace panvel
