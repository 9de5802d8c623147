// REINDEX and CLUSTER on the shards.
#include "coordinator/ddl/concurrent_index.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/node_batch.h"

extern "C" {
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

// Queues `command(name)` for every placement, with the qualified name of `relation` there.
template <typename Command>
void send_to_placements(NodeBatch *batch, const DistributedTable *table, const char *relation,
                        Effect effect, Command &&command) {
    for (int i = 0; i < table->shard_count; i++) {
        const Shard *shard = &table->shards[i];
        for (int j = 0; j < shard->placement_count; j++)
            batch_send(batch, shard->placements[j].node_id,
                       command(quote_qualified_identifier(shard->schema, relation)), effect);
    }
}

bool is_concurrent(const ReindexStmt *statement) {
    ListCell *cell;
    foreach (cell, statement->params)
        if (strcmp(lfirst_node(DefElem, cell)->defname, "concurrently") == 0)
            return defGetBoolean(lfirst_node(DefElem, cell));
    return false;
}

void check_owner(Oid relid) {
    if (!pg_class_ownercheck(relid, GetUserId()))
        aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(relid));
}

} // namespace

List *invalid_indexes(const DistributedTable *table) {
    List *tables = table != nullptr ? list_make1_oid(table->relid) : all_distributed_tables();
    List *invalid = NIL;
    ListCell *cell;
    foreach (cell, tables) {
        Relation relation = try_relation_open(lfirst_oid(cell), AccessShareLock);
        if (relation == nullptr)
            continue;
        ListCell *index;
        foreach (index, RelationGetIndexList(relation))
            if (!is_index_valid(lfirst_oid(index)))
                invalid = lappend_oid(invalid, lfirst_oid(index));
        relation_close(relation, NoLock);
    }
    return invalid;
}

void reindex_shards(const DistributedTable *table, const ReindexStmt *statement, List *invalid) {
    const char *kind = statement->kind == REINDEX_OBJECT_INDEX ? "INDEX" : "TABLE";
    Oid relid = RangeVarGetRelid(statement->relation, NoLock, false);
    NodeBatch batch;
    ListCell *cell;
    foreach (cell, invalid) // here it is valid now: so it has to be on every shard
        if (lfirst_oid(cell) != relid)
            send_to_placements(&batch, table, get_rel_name(lfirst_oid(cell)), Effect::kWrite,
                               [](const char *name) { return psprintf("REINDEX INDEX %s", name); });
    send_to_placements(&batch, table, get_rel_name(relid), Effect::kWrite,
                       [&](const char *name) { return psprintf("REINDEX %s %s", kind, name); });
    batch_finish(&batch);
}

void reindex_many(const ReindexStmt *statement, List *invalid) {
    ListCell *cell;
    foreach (cell, invalid) // PostgreSQL has seen the shell's only, and takes it for valid now
        if (SearchSysCacheExists1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell))))
            set_index_valid(lfirst_oid(cell), false);
    if (invalid != NIL)
        next_transaction(CurrentMemoryContext); // whatever the shards will say
    if (statement->kind == REINDEX_OBJECT_SYSTEM)
        return;
    NodeBatch batch;
    foreach (cell, all_distributed_tables()) {
        Oid relid = lfirst_oid(cell);
        LockRelationOid(relid, AccessShareLock);
        const DistributedTable *table = find_distributed_table(relid);
        if (table == nullptr || !pg_class_ownercheck(relid, GetUserId()) ||
            (statement->kind == REINDEX_OBJECT_SCHEMA &&
             strcmp(get_namespace_name(get_rel_namespace(relid)), statement->name) != 0))
            continue;
        send_to_placements(
            &batch, table, get_rel_name(relid), Effect::kNoTransaction, [&](const char *name) {
                return psprintf("REINDEX TABLE %s%s",
                                is_concurrent(statement) ? "CONCURRENTLY " : "", name);
            });
    }
    batch_finish(&batch);
}

// The shards do not remember the index: CLUSTER without USING, of a whole database too, passes the
// shell by, and would do the same on the nodes.
void cluster_shards(const DistributedTable *table, const ClusterStmt *statement) {
    Oid relid = table->relid;
    check_owner(relid);
    LockRelationOid(relid, AccessExclusiveLock);
    const char *name = get_rel_name(relid);
    if (statement->indexname == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("there is no previously clustered index for table \"%s\"", name),
                        errhint("Name it: CLUSTER ... USING.")));
    Oid index = get_relname_relid(statement->indexname, get_rel_namespace(relid));
    if (!OidIsValid(index) || IndexGetRelation(index, true) != relid)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("index \"%s\" for table \"%s\" does not exist", statement->indexname,
                               name)));
    NodeBatch batch;
    send_to_placements(
        &batch, get_distributed_table(relid), name, Effect::kWrite, [&](const char *shard) {
            return psprintf("CLUSTER %s USING %s", shard, quote_identifier(statement->indexname));
        });
    send_to_placements(
        &batch, get_distributed_table(relid), name, Effect::kWrite,
        [](const char *shard) { return psprintf("ALTER TABLE %s SET WITHOUT CLUSTER", shard); });
    batch_finish(&batch);
}

} // namespace panvel
