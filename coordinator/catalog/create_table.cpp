// create_distributed_table(): an ordinary table becomes a shell, its rows move to shards.
//
// Everything happens in the caller's transaction: an error at any point, on any node, leaves the
// table as it was and no shard anywhere.
#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/distributable.h"
#include "coordinator/catalog/estimates.h"
#include "coordinator/catalog/metadata.h"
#include "coordinator/catalog/nodes.h"
#include "coordinator/catalog/settings.h"
#include "coordinator/catalog/shell_am.h"
#include "coordinator/core/hash_range.h"
#include "coordinator/core/placement.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/node_batch.h"
#include "coordinator/ddl/shard_ddl.h"
#include "coordinator/ddl/shard_loader.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "commands/cluster.h"
#include "commands/tablecmds.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

struct Request {
    Oid relid;
    const char *column;
    int shard_count;        // 0: not given
    int replication_factor; // 0: not given
    Oid colocate_with;      // invalid: not given
};

// ---------------------------------------------------------------- the colocation group

int64 count_placements(int32 node_id) {
    CatalogScan scan = begin_catalog_scan_int32(Catalog::kPlacement, AccessShareLock,
                                                "placement_node_id_idx", kPlacementNodeId, node_id);
    int64 count = 0;
    while (HeapTupleIsValid(next_catalog_row(&scan)))
        count++;
    end_catalog_scan(&scan);
    return count;
}

void insert_shard(Relation shards, Relation placements, int32 colocation_id, int64 hash_min,
                  int64 hash_max, const int32 *nodes, int node_count) {
    int64 shard_id = next_catalog_id("shard_id_seq");
    Datum shard[kShardColumns];
    shard[kShardId - 1] = Int64GetDatum(shard_id);
    shard[kShardColocationId - 1] = Int32GetDatum(colocation_id);
    shard[kShardHashMin - 1] = Int64GetDatum(hash_min);
    shard[kShardHashMax - 1] = Int64GetDatum(hash_max);
    insert_catalog_row(shards, shard);
    for (int i = 0; i < node_count; i++) {
        Datum placement[kPlacementColumns];
        placement[kPlacementShardId - 1] = Int64GetDatum(shard_id);
        placement[kPlacementNodeId - 1] = Int32GetDatum(nodes[i]);
        placement[kPlacementLeader - 1] = BoolGetDatum(i == 0);
        placement[kPlacementActive - 1] = BoolGetDatum(true);
        insert_catalog_row(placements, placement);
    }
}

// Nodes of each shard, `factor` per shard: node_ids[shard * factor + i].
int32 *plan_nodes(List *nodes, int shard_count, int factor) {
    int count = list_length(nodes);
    auto *loads = palloc_array(NodeLoad, count);
    ListCell *cell;
    foreach (cell, nodes) {
        int32 node_id = static_cast<ClusterNode *>(lfirst(cell))->node_id;
        loads[foreach_current_index(cell)] = {node_id, count_placements(node_id)};
    }
    auto *planned = palloc_array(int32, shard_count * factor);
    pg::core([&] {
        auto plan =
            plan_placements(std::vector<NodeLoad>(loads, loads + count),
                            static_cast<uint32_t>(shard_count), static_cast<uint32_t>(factor));
        for (int shard = 0; shard < shard_count; shard++)
            std::copy(plan[shard].begin(), plan[shard].end(), planned + shard * factor);
    });
    return planned;
}

void check_replication_factor(int factor, int node_count) {
    if (node_count == 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("there is no node that could hold shards"),
                        errhint("Add nodes with panvel.add_node().")));
    if (factor > node_count)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("replication factor %d needs %d nodes, there are %d", factor, factor,
                               node_count),
                        errhint("Add nodes with panvel.add_node(), or choose a lower factor.")));
    if (factor > 1)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("replication factor %d is not supported", factor),
                        errhint("Use replication factor 1.")));
}

// A group of its own for the table. Returns its id.
int32 create_colocation(const Request *request, Oid type, Oid collation) {
    int shard_count = request->shard_count > 0 ? request->shard_count : default_shard_count;
    int factor =
        request->replication_factor > 0 ? request->replication_factor : default_replication_factor;
    LockRelationOid(catalog_oid(Catalog::kNode), ShareLock); // until the shards are in the catalog
    List *nodes = all_nodes();
    check_replication_factor(factor, list_length(nodes));
    int32 *plan = plan_nodes(nodes, shard_count, factor);

    auto colocation_id = static_cast<int32>(next_catalog_id("colocation_id_seq"));
    Datum values[kColocationColumns];
    values[kColocationId - 1] = Int32GetDatum(colocation_id);
    values[kColocationShardCount - 1] = Int32GetDatum(shard_count);
    values[kColocationReplicationFactor - 1] = Int32GetDatum(factor);
    values[kColocationType - 1] = ObjectIdGetDatum(type);
    values[kColocationCollation - 1] = ObjectIdGetDatum(collation);
    Relation colocations = open_catalog(Catalog::kColocation, RowExclusiveLock);
    insert_catalog_row(colocations, values);
    table_close(colocations, NoLock);

    auto *ranges = palloc_array(HashRange, shard_count);
    pg::core([&] {
        auto split = split_hash_space(static_cast<uint32_t>(shard_count));
        std::copy(split.begin(), split.end(), ranges);
    });
    Relation shards = open_catalog(Catalog::kShard, RowExclusiveLock);
    Relation placements = open_catalog(Catalog::kPlacement, RowExclusiveLock);
    for (int i = 0; i < shard_count; i++)
        insert_shard(shards, placements, colocation_id, ranges[i].min, ranges[i].max,
                     plan + i * factor, factor);
    table_close(placements, NoLock);
    table_close(shards, NoLock);
    return colocation_id;
}

// The group of another table, once it is clear that this one fits into it.
int32 join_colocation(const Request *request, Relation relation, Oid type, Oid collation) {
    if (request->colocate_with == request->relid)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a table cannot be colocated with itself")));
    // Held until the end, so that the other table and with it the shards cannot be dropped.
    LockRelationOid(request->colocate_with, AccessShareLock);
    const DistributedTable *other = get_distributed_table(request->colocate_with);
    const char *other_name = get_rel_name(other->relid);
    if (other->distribution_type != type || other->distribution_collation != collation)
        ereport(ERROR,
                (errcode(ERRCODE_DATATYPE_MISMATCH),
                 errmsg("cannot colocate \"%s\" with \"%s\"", RelationGetRelationName(relation),
                        other_name),
                 errdetail("Their distribution columns have types %s and %s%s.",
                           format_type_be(type), format_type_be(other->distribution_type),
                           other->distribution_type == type ? " with different collations" : "")));
    if (request->shard_count > 0 && request->shard_count != other->shard_count)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("colocated tables have the same shards: \"%s\" has %d, not %d",
                               other_name, other->shard_count, request->shard_count)));
    if (request->replication_factor > 0 && request->replication_factor != other->replication_factor)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("colocated tables have the same placements: \"%s\" has replication "
                        "factor %d, not %d",
                        other_name, other->replication_factor, request->replication_factor)));
    ListCell *cell;
    foreach (cell, colocated_tables(other->colocation_id))
        if (strcmp(get_rel_name(lfirst_oid(cell)), RelationGetRelationName(relation)) == 0)
            ereport(ERROR, (errcode(ERRCODE_DUPLICATE_TABLE),
                            errmsg("the group of \"%s\" already has a table called \"%s\"",
                                   other_name, RelationGetRelationName(relation)),
                            errdetail("Tables of one group share a schema on the nodes."),
                            errhint("Rename the table before distributing it.")));
    return other->colocation_id;
}

void insert_table(Relation relation, AttrNumber column, int32 colocation_id) {
    Datum values[kTableColumns];
    values[kTableRelation - 1] = ObjectIdGetDatum(RelationGetRelid(relation));
    values[kTableDistributionColumn - 1] = Int16GetDatum(column);
    values[kTableColocationId - 1] = Int32GetDatum(colocation_id);
    values[kTableRowEstimate - 1] = Float8GetDatum(-1);
    values[kTablePageEstimate - 1] = Int64GetDatum(0);
    Relation catalog = open_catalog(Catalog::kDistributedTable, RowExclusiveLock);
    insert_catalog_row(catalog, values);
    table_close(catalog, NoLock);
    invalidate_table(RelationGetRelid(relation));
    CommandCounterIncrement();
}

// ---------------------------------------------------------------- the shards

// The owner and all grantees must be there: a clear message instead of a failing GRANT.
void check_roles(const DistributedTable *table, Relation relation) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, "SELECT r FROM pg_catalog.unnest(ARRAY[");
    ListCell *cell;
    foreach (cell, shard_table_roles(relation))
        appendStringInfo(&sql, "%s%s", foreach_current_index(cell) > 0 ? ", " : "",
                         quote_literal_cstr(static_cast<char *>(lfirst(cell))));
    appendStringInfoString(&sql, "]) r WHERE NOT EXISTS "
                                 "(SELECT FROM pg_catalog.pg_roles WHERE rolname = r) LIMIT 1");
    RemoteStatement statement = {};
    statement.sql = sql.data;
    statement.effect = Effect::kReadOnce;

    List *requests = nullptr;
    foreach (cell, nodes_of_table(table))
        requests = lappend(requests, remote_send(lfirst_int(cell), &statement));
    foreach (cell, requests) {
        auto *request = static_cast<RemoteRequest *>(lfirst(cell));
        PGresult *missing = remote_wait(request);
        if (PQntuples(missing) > 0)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                            errmsg("role \"%s\" does not exist on node \"%s\"",
                                   PQgetvalue(missing, 0, 0), get_node(remote_node(request))->name),
                            errdetail("It owns table \"%s\" or has rights on it.",
                                      RelationGetRelationName(relation)),
                            errhint("Create the role on all nodes first.")));
        remote_release(request);
    }
}

// Schemas of that name can only be left over from another coordinator: say so.
void check_schemas(const DistributedTable *table) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, "SELECT nspname FROM pg_catalog.pg_namespace "
                                 "WHERE nspname::pg_catalog.text IN (");
    for (int i = 0; i < table->shard_count; i++)
        appendStringInfo(&sql, "%s'%s'", i > 0 ? ", " : "", table->shards[i].schema);
    appendStringInfoString(&sql, ") LIMIT 1");
    RemoteStatement statement = {};
    statement.sql = sql.data;
    statement.effect = Effect::kReadOnce;

    List *requests = nullptr;
    ListCell *cell;
    foreach (cell, nodes_of_table(table))
        requests = lappend(requests, remote_send(lfirst_int(cell), &statement));
    foreach (cell, requests) {
        auto *request = static_cast<RemoteRequest *>(lfirst(cell));
        PGresult *found = remote_wait(request);
        if (PQntuples(found) > 0)
            ereport(ERROR,
                    (errcode(ERRCODE_DUPLICATE_SCHEMA),
                     errmsg("schema \"%s\" already exists on node \"%s\"", PQgetvalue(found, 0, 0),
                            get_node(remote_node(request))->name),
                     errdetail("It is left over from a coordinator that used this database "
                               "before."),
                     errhint("Drop the schemas called panvel_s... there if nobody needs their "
                             "tables, or add another database as the node.")));
        remote_release(request);
    }
}

// Sends `commands(schema)`, a List of char *, for every placement.
template <typename Commands>
void run_on_placements(const DistributedTable *table, Commands &&commands) {
    NodeBatch batch;
    for (int i = 0; i < table->shard_count; i++) {
        const Shard *shard = &table->shards[i];
        List *shard_commands = commands(shard->schema);
        for (int j = 0; j < shard->placement_count; j++) {
            ListCell *cell;
            foreach (cell, shard_commands)
                batch_send(&batch, shard->placements[j].node_id, static_cast<char *>(lfirst(cell)));
        }
    }
    batch_finish(&batch);
}

// Anybody may look a shard up by name; what may be done with it is for its own grants.
List *schema_commands(Relation relation, const char *schema) {
    const char *owner = quote_identifier(GetUserNameFromId(relation->rd_rel->relowner, false));
    return list_make2(psprintf("CREATE SCHEMA %s AUTHORIZATION %s", schema, owner),
                      psprintf("GRANT USAGE ON SCHEMA %s TO PUBLIC", schema));
}

void create_shards(const DistributedTable *table, Relation relation, bool new_group) {
    run_on_placements(table, [&](const char *schema) {
        List *commands = new_group ? schema_commands(relation, schema) : nullptr;
        return list_concat(commands, shard_table_commands(relation, schema));
    });
}

// Returns the number of rows moved.
uint64 move_rows(const DistributedTable *table, Relation relation) {
    ShardLoader *loader = begin_shard_load(table, relation);
    TupleTableSlot *slot = table_slot_create(relation, nullptr);
    MemoryContext row_context =
        AllocSetContextCreate(CurrentMemoryContext, "panvel moved row", ALLOCSET_DEFAULT_SIZES);
    // All that is committed, whatever the transaction's snapshot: the lock keeps writers out.
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    TableScanDesc scan = table_beginscan(relation, snapshot, 0, nullptr);
    while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        MemoryContext caller = MemoryContextSwitchTo(row_context);
        slot_getallattrs(slot);
        load_row(loader, slot->tts_values, slot->tts_isnull, 0);
        MemoryContextSwitchTo(caller);
        MemoryContextReset(row_context);
    }
    table_endscan(scan);
    UnregisterSnapshot(snapshot);
    ExecDropSingleTupleTableSlot(slot);
    MemoryContextDelete(row_context);
    return finish_shard_load(loader);
}

// ---------------------------------------------------------------- the shell

void empty_table(Oid relid) {
    Relation relation = table_open(relid, NoLock);
    mark_index_clustered(relation, InvalidOid, true); // CLUSTER of a whole database passes it by
    ExecuteTruncateGuts(list_make1(relation), list_make1_oid(relid), nullptr, DROP_RESTRICT, false);
    table_close(relation, NoLock);
}

// The rewrite of ALTER TABLE leaves a freeze horizon; a shell has no rows that could age, and no
// VACUUM would ever move it.
void clear_freeze_horizon(Oid relid) {
    Relation classes = table_open(RelationRelationId, RowExclusiveLock);
    HeapTuple tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relid));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", relid);
    auto *form = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    form->relfrozenxid = InvalidTransactionId;
    form->relminmxid = InvalidMultiXactId;
    CatalogTupleUpdate(classes, &tuple->t_self, tuple);
    heap_freetuple(tuple);
    table_close(classes, RowExclusiveLock);
    CommandCounterIncrement();
}

void make_shell(Oid relid) {
    AlterTableCmd *command = makeNode(AlterTableCmd);
    command->subtype = AT_SetAccessMethod;
    command->name = pstrdup("panvel");
    allow_shell_creation(true);
    PG_TRY();
    {
        empty_table(relid);
        AlterTableInternal(relid, list_make1(command), false);
    }
    PG_FINALLY();
    { allow_shell_creation(false); }
    PG_END_TRY();
    CommandCounterIncrement();
    clear_freeze_horizon(relid);
}

void create_distributed_table(const Request *request) {
    require_preload();
    PreventCommandIfReadOnly("panvel.create_distributed_table()");
    check_shard_settings(request->shard_count, request->replication_factor);
    Relation relation = open_distributable(request->relid);
    AttrNumber column = check_distribution_column(relation, request->column);
    check_unique_constraints(relation, column);
    Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), column - 1);

    bool new_group = !OidIsValid(request->colocate_with);
    int32 colocation_id =
        new_group
            ? create_colocation(request, attribute->atttypid, attribute->attcollation)
            : join_colocation(request, relation, attribute->atttypid, attribute->attcollation);
    insert_table(relation, column, colocation_id);

    const DistributedTable *table = get_distributed_table(request->relid);
    check_roles(table, relation);
    if (new_group)
        check_schemas(table);
    int level = enter_qualified_names();
    create_shards(table, relation, new_group);
    auto rows = static_cast<double>(move_rows(table, relation));
    int64 pages = RelationGetNumberOfBlocks(relation);
    run_on_placements(table,
                      [&](const char *schema) { return shard_index_commands(relation, schema); });
    leave_qualified_names(level);

    table_close(relation, NoLock);
    make_shell(request->relid);
    if (rows > 0)
        set_estimates(request->relid, rows, pages);
}

} // namespace
} // namespace panvel

SQL_FUNCTION(panvel_create_distributed_table) {
    for (int i = 0; i < 2; i++)
        if (PG_ARGISNULL(i))
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                            errmsg("argument \"%s\" must not be null",
                                   i == 0 ? "relation" : "distribution_column")));
    auto positive = [&](int number, const char *name) {
        if (PG_ARGISNULL(number))
            return 0;
        int32 value = PG_GETARG_INT32(number);
        if (value < 1)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("%s must be at least 1, not %d", name, value)));
        return value;
    };
    panvel::Request request = {};
    request.relid = PG_GETARG_OID(0);
    request.column = NameStr(*PG_GETARG_NAME(1));
    request.shard_count = positive(2, "shard_count");
    request.replication_factor = positive(3, "replication_factor");
    request.colocate_with = PG_ARGISNULL(4) ? InvalidOid : PG_GETARG_OID(4);
    panvel::create_distributed_table(&request);
    PG_RETURN_VOID();
}
