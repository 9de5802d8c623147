// Turning an ordinary table into shards and a shell, in the caller's transaction.
#include "coordinator/catalog/make_shards.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/estimates.h"
#include "coordinator/catalog/online_copy.h"
#include "coordinator/catalog/shell_am.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/foreign_keys.h"
#include "coordinator/ddl/node_batch.h"
#include "coordinator/ddl/objects.h"
#include "coordinator/ddl/shard_ddl.h"
#include "coordinator/ddl/shard_loader.h"
#include "coordinator/ddl/watch.h"
#include "coordinator/executor/node_rows.h"
#include "coordinator/replication/catch_up.h"

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
#include "storage/predicate.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

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
        if (new_group && is_replicated(table))
            commands = list_concat(commands, journal_commands(schema));
        return list_concat(commands, shard_table_commands(relation, schema));
    });
}

// The rows and the indexes of the shards, and in the end nobody but us has the table. Returns the
// number of rows. What is committed counts, whatever the transaction's own snapshot.
double move_rows(const DistributedTable *table, Relation relation) {
    auto build_indexes = [&] {
        run_on_placements(
            table, [&](const char *schema) { return shard_index_commands(relation, schema); });
    };
    Snapshot before = RegisterSnapshot(GetLatestSnapshot());
    auto rows = static_cast<double>(copy_snapshot(table, relation, before));
    build_indexes();
    if (!CheckRelationLockedByMe(relation, AccessExclusiveLock, true)) {
        const char *rights = rights_as_text(relation);
        // What has changed in all this time follows first while others go on, then the rest.
        for (bool last : {false, true}) {
            if (last)
                LockRelationOid(RelationGetRelid(relation), AccessExclusiveLock);
            Snapshot now = RegisterSnapshot(GetLatestSnapshot());
            rows += static_cast<double>(copy_changes(table, relation, before, now));
            UnregisterSnapshot(before);
            before = now;
        }
        if (strcmp(rights, rights_as_text(relation)) != 0) // GRANT takes no lock
            ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                            errmsg("rights on table \"%s\" have changed while its rows moved",
                                   RelationGetRelationName(relation)),
                            errhint("Try again.")));
    }
    UnregisterSnapshot(before);
    return rows;
}

// ---------------------------------------------------------------- the shell

// As TRUNCATE does, but for its check of foreign keys: tables that reference this one may follow it
// (check_foreign_keys()). The indexes are made anew with the change of the access method.
void empty_table(Oid relid) {
    Relation relation = table_open(relid, NoLock);
    mark_index_clustered(relation, InvalidOid, true); // CLUSTER of a whole database passes it by
    CheckTableForSerializableConflictIn(relation);
    RelationSetNewRelfilenode(relation, relation->rd_rel->relpersistence);
    if (OidIsValid(relation->rd_rel->reltoastrelid)) {
        Relation toast = table_open(relation->rd_rel->reltoastrelid, AccessExclusiveLock);
        RelationSetNewRelfilenode(toast, toast->rd_rel->relpersistence);
        table_close(toast, NoLock);
    }
    table_close(relation, NoLock);
    CommandCounterIncrement();
}

void make_shell(Oid relid) {
    AlterTableCmd *command = makeNode(AlterTableCmd);
    command->subtype = AT_SetAccessMethod;
    command->name = pstrdup("panvel");
    allow_shell_conversion(true);
    PG_TRY();
    {
        empty_table(relid);
        AlterTableInternal(relid, list_make1(command), false);
    }
    PG_FINALLY();
    { allow_shell_conversion(false); }
    PG_END_TRY();
    CommandCounterIncrement();
    clear_freeze_horizon(relid);
}

} // namespace

void insert_shard(Relation shards, Relation placements, int32 colocation_id, int64 hash_min,
                  int64 hash_max, const int32 *nodes, int node_count) {
    int64 shard_id = next_catalog_id("shard_id_seq");
    Datum shard[kShardColumns];
    shard[kShardId - 1] = Int64GetDatum(shard_id);
    shard[kShardColocationId - 1] = Int32GetDatum(colocation_id);
    shard[kShardHashMin - 1] = Int64GetDatum(hash_min);
    shard[kShardHashMax - 1] = Int64GetDatum(hash_max);
    shard[kShardEpoch - 1] = Int64GetDatum(1);
    insert_catalog_row(shards, shard);
    for (int i = 0; i < node_count; i++)
        insert_placement(placements, shard_id, nodes[i], i == 0);
}

void insert_placement(Relation placements, int64 shard_id, int32 node_id, bool leader) {
    Datum placement[kPlacementColumns];
    placement[kPlacementShardId - 1] = Int64GetDatum(shard_id);
    placement[kPlacementNodeId - 1] = Int32GetDatum(node_id);
    placement[kPlacementLeader - 1] = BoolGetDatum(leader);
    placement[kPlacementActive - 1] = BoolGetDatum(true);
    placement[kPlacementCopying - 1] = BoolGetDatum(false);
    placement[kPlacementJournaled - 1] = BoolGetDatum(true);
    placement[kPlacementFilled - 1] = BoolGetDatum(true);
    placement[kPlacementLagging - 1] = BoolGetDatum(false);
    insert_catalog_row(placements, placement);
}

int64 count_placements(int32 node_id) {
    CatalogScan scan = begin_catalog_scan_int32(Catalog::kPlacement, AccessShareLock,
                                                "placement_node_id_idx", kPlacementNodeId, node_id);
    int64 count = 0;
    while (HeapTupleIsValid(next_catalog_row(&scan)))
        count++;
    end_catalog_scan(&scan);
    return count;
}

void insert_distributed_table(Relation relation, AttrNumber column, int32 colocation_id) {
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

void move_to_shards(Relation relation, bool new_group) {
    Oid relid = RelationGetRelid(relation);
    const DistributedTable *table = get_distributed_table(relid);
    check_foreign_keys(table, relation);
    check_roles(table, relation);
    if (new_group)
        check_schemas(table);
    int level = enter_qualified_names();
    create_on_nodes(objects_needed_by_table(relation), relation);
    create_shards(table, relation, new_group);
    double rows = move_rows(table, relation);
    int64 pages = RelationGetNumberOfBlocks(relation);
    finish_shards(table, relation);
    leave_qualified_names(level);

    table_close(relation, NoLock);
    make_shell(relid);
    if (rows > 0)
        set_estimates(relid, rows, pages);
}

namespace {

// The columns of a row that are stored, not computed: numbers from 0.
List *stored_columns(Relation relation) {
    TupleDesc columns = RelationGetDescr(relation);
    List *stored = NIL;
    for (int i = 0; i < columns->natts; i++)
        if (!TupleDescAttr(columns, i)->attisdropped &&
            TupleDescAttr(columns, i)->attgenerated == '\0')
            stored = lappend_int(stored, i);
    return stored;
}

void copy_rows(const DistributedTable *from, const DistributedTable *to, Relation relation,
               int32 source, void (*progress)(int64)) {
    TupleDesc columns = RelationGetDescr(relation);
    List *stored = stored_columns(relation);
    int count = list_length(stored);
    TupleDesc sent = CreateTemplateTupleDesc(count);
    StringInfoData sql;
    initStringInfo(&sql);
    for (int i = 0; i < count; i++) {
        int number = list_nth_int(stored, i);
        TupleDescCopyEntry(sent, static_cast<AttrNumber>(i + 1), columns,
                           static_cast<AttrNumber>(number + 1));
        appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "SELECT ",
                         quote_identifier(NameStr(TupleDescAttr(columns, number)->attname)));
    }
    appendStringInfo(&sql, "%s FROM %s", count == 0 ? "SELECT" : "",
                     shard_relation_name(from, &from->shards[0]));

    constexpr int kBatchRows = 1000;
    NodeRows rows = {};
    rows.node_id = source;
    rows.shard_id = from->shards[0].shard_id;
    rows.sql = sql.data;
    rows.decoder = make_row_decoder(sent);
    rows.batch_rows = kBatchRows;
    rows.context =
        AllocSetContextCreate(CurrentMemoryContext, "panvel copied rows", ALLOCSET_DEFAULT_SIZES);
    rows.row_context =
        AllocSetContextCreate(rows.context, "panvel copied row", ALLOCSET_DEFAULT_SIZES);
    auto *values = palloc0_array(Datum, columns->natts + 1);
    auto *isnull = palloc_array(bool, columns->natts + 1);
    auto *sent_values = palloc0_array(Datum, count + 1);
    auto *sent_isnull = palloc0_array(bool, count + 1);
    memset(isnull, true, columns->natts);

    ShardLoader *loader = begin_shard_load(to, relation);
    start_node_rows(&rows);
    int64 untold = 0;
    while (next_node_row(&rows, sent_values, sent_isnull)) {
        CHECK_FOR_INTERRUPTS();
        if (progress != nullptr && ++untold == kBatchRows) {
            progress(untold);
            untold = 0;
        }
        for (int i = 0; i < count; i++) {
            values[list_nth_int(stored, i)] = sent_values[i];
            isnull[list_nth_int(stored, i)] = sent_isnull[i];
        }
        MemoryContext caller = MemoryContextSwitchTo(rows.row_context);
        load_row(loader, values, isnull, 0);
        MemoryContextSwitchTo(caller);
    }
    stop_node_rows(&rows);
    finish_shard_load(loader);
    if (progress != nullptr)
        progress(untold);
    MemoryContextDelete(rows.context);
}

} // namespace

namespace {

const Shard *shard_of(const DistributedTable *table, int64 shard_id) {
    for (int i = 0; i < table->shard_count; i++)
        if (table->shards[i].shard_id == shard_id)
            return &table->shards[i];
    elog(ERROR, "table %u has no shard %lld", table->relid, static_cast<long long>(shard_id));
    pg_unreachable();
}

// The table as if this placement of this shard were all of it.
struct Copy {
    Placement placement;
    Shard shard;
    DistributedTable table;
};

void make_copy(Copy *copy, const DistributedTable *table, const Shard *shard, int32 target) {
    copy->placement = {target, true, true, true, true};
    copy->shard = *shard;
    copy->shard.placement_count = 1;
    copy->shard.placements = &copy->placement;
    copy->table = *table;
    copy->table.shard_count = 1;
    copy->table.shards = &copy->shard;
}

} // namespace

void copy_shard_rows(Relation relation, int64 shard_id, int32 source, int32 target,
                     void (*progress)(int64 rows)) {
    const DistributedTable *table = get_distributed_table(RelationGetRelid(relation));
    Copy copy;
    make_copy(&copy, table, shard_of(table, shard_id), target);
    // One shard that takes all rows, as a reference table's does.
    copy.table.is_reference = true;
    copy.table.distribution_attribute = 0;
    copy_rows(&copy.table, &copy.table, relation, source, progress);
}

void copy_to_node(const DistributedTable *table, Relation relation, int32 source, int32 target) {
    Copy copy;
    make_copy(&copy, table, &table->shards[0], target);
    check_roles(&copy.table, relation);
    check_schemas(&copy.table);
    int level = enter_qualified_names();
    create_shards(&copy.table, relation, true);
    copy_rows(table, &copy.table, relation, source, nullptr);
    run_on_placements(&copy.table,
                      [&](const char *schema) { return shard_index_commands(relation, schema); });
    leave_qualified_names(level);
}

void finish_copy(const DistributedTable *table, Relation relation, int32 target) {
    Copy copy;
    make_copy(&copy, table, &table->shards[0], target);
    int level = enter_qualified_names();
    finish_shards(&copy.table, relation);
    leave_qualified_names(level);
}

namespace {

// All shards, of which one has a placement: foreign keys go to the shard of the same place in the
// group.
const Shard *only_placement(const DistributedTable *table, int64 shard_id, int32 target) {
    auto *placement = palloc_object(Placement);
    *placement = {target, true, true, true, true};
    auto *shards = palloc_array(Shard, table->shard_count);
    for (int i = 0; i < table->shard_count; i++) {
        shards[i] = table->shards[i];
        shards[i].placement_count = shards[i].shard_id == shard_id ? 1 : 0;
        shards[i].placements = placement;
    }
    return shards;
}

} // namespace

void create_placement(List *tables, int64 shard_id, int32 target) {
    int level = enter_qualified_names();
    ListCell *cell;
    foreach (cell, tables) {
        const DistributedTable *table = get_distributed_table(lfirst_oid(cell));
        Relation relation = table_open(table->relid, NoLock);
        bool first = foreach_current_index(cell) == 0;
        Copy copy;
        make_copy(&copy, table, shard_of(table, shard_id), target);
        check_roles(&copy.table, relation);
        if (first)
            check_schemas(&copy.table);
        create_shards(&copy.table, relation, first);
        run_on_placements(&copy.table, [&](const char *schema) {
            return shard_index_commands(relation, schema);
        });
        table_close(relation, NoLock);
    }
    foreach (cell, tables) { // once all that foreign keys refer to is there
        DistributedTable table = *get_distributed_table(lfirst_oid(cell));
        Relation relation = table_open(table.relid, NoLock);
        table.shards = only_placement(&table, shard_id, target);
        finish_shards(&table, relation);
        table_close(relation, NoLock);
    }
    leave_qualified_names(level);
}

} // namespace panvel
