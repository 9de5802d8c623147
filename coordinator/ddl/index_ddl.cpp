// Indexes on the shards: the same names and definitions as the shell's.
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

void create_indexes_on_shards(const DistributedTable *table, List *indexes_before) {
    CommandCounterIncrement();
    Relation relation = table_open(table->relid, AccessShareLock);
    List *created = list_difference_oid(RelationGetIndexList(relation), indexes_before);
    int level = enter_qualified_names();
    NodeBatch batch;
    ListCell *cell;
    foreach (cell, created) {
        check_unique_index(relation, lfirst_oid(cell), table->distribution_attribute);
        for (int i = 0; i < table->shard_count; i++) {
            const Shard *shard = &table->shards[i];
            char *command = shard_index_command(lfirst_oid(cell), shard->schema);
            for (int j = 0; j < shard->placement_count; j++)
                batch_send(&batch, shard->placements[j].node_id, command);
        }
    }
    batch_finish(&batch);
    leave_qualified_names(level);
    table_close(relation, NoLock);
}

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
