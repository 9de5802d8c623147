// TRUNCATE, VACUUM and ANALYZE on the shards of a table.
#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/sample.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/node_batch.h"
#include "coordinator/ddl/shard_ddl.h"
#include "coordinator/replication/in_sync.h"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {

char *shard_names_on_node(const DistributedTable *table, int32 node_id, const char *relation_name) {
    StringInfoData names;
    initStringInfo(&names);
    for (int i = 0; i < table->shard_count; i++) {
        const Shard *shard = &table->shards[i];
        for (int j = 0; j < shard->placement_count; j++)
            if (shard->placements[j].node_id == node_id)
                appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
                                 quote_qualified_identifier(shard->schema, relation_name));
    }
    return names.len > 0 ? names.data : nullptr;
}

List *nodes_of_table(const DistributedTable *table) {
    List *node_ids = nullptr;
    for (int i = 0; i < table->shard_count; i++)
        for (int j = 0; j < table->shards[i].placement_count; j++)
            node_ids = list_append_unique_int(node_ids, table->shards[i].placements[j].node_id);
    return node_ids;
}

// One statement per node, because of foreign keys between the tables.
void truncate_shards(List *tables) {
    List *node_ids = NIL;
    ListCell *cell;
    foreach (cell, tables) {
        auto *table = static_cast<const DistributedTable *>(lfirst(cell));
        for (int i = 0; i < table->shard_count; i++)
            note_written(table, &table->shards[i]);
        node_ids = list_concat_unique_int(node_ids, nodes_of_table(table));
    }
    NodeBatch batch;
    ListCell *node;
    foreach (node, node_ids) {
        StringInfoData sql;
        initStringInfo(&sql);
        foreach (cell, tables) {
            auto *table = static_cast<const DistributedTable *>(lfirst(cell));
            char *names = shard_names_on_node(table, lfirst_int(node), get_rel_name(table->relid));
            if (names != nullptr)
                appendStringInfo(&sql, "%s%s", sql.len > 0 ? ", " : "TRUNCATE TABLE ", names);
        }
        batch_send(&batch, lfirst_int(node), sql.data);
    }
    batch_finish(&batch);
    foreach (cell, tables)
        set_estimates(static_cast<const DistributedTable *>(lfirst(cell))->relid, -1, 0);
}

// ---------------------------------------------------------------- VACUUM and ANALYZE

namespace {

// The options as PostgreSQL takes them in parentheses: known names and values only.
char *vacuum_options(const VacuumStmt *statement) {
    StringInfoData options;
    initStringInfo(&options);
    ListCell *cell;
    foreach (cell, statement->options) {
        auto *option = static_cast<DefElem *>(lfirst(cell));
        // Messages of VERBOSE would not come back from the nodes.
        if (strcmp(option->defname, "verbose") == 0)
            continue;
        appendStringInfo(&options, "%s%s", options.len > 0 ? ", " : "",
                         quote_identifier(option->defname));
        if (option->arg != nullptr)
            appendStringInfo(&options, " %s",
                             IsA(option->arg, Integer) ? defGetString(option)
                                                       : quote_identifier(defGetString(option)));
    }
    return options.data;
}

bool wants_analyze(const VacuumStmt *statement) {
    bool analyze = !statement->is_vacuumcmd;
    ListCell *cell;
    foreach (cell, statement->options) {
        auto *option = static_cast<DefElem *>(lfirst(cell));
        if (strcmp(option->defname, "analyze") == 0)
            analyze = defGetBoolean(option);
    }
    return analyze;
}

char *column_list(const VacuumRelation *relation) {
    if (relation->va_cols == nullptr)
        return pstrdup("");
    StringInfoData columns;
    initStringInfo(&columns);
    ListCell *cell;
    foreach (cell, relation->va_cols)
        appendStringInfo(&columns, "%s%s", columns.len > 0 ? ", " : " (",
                         quote_identifier(strVal(lfirst(cell))));
    appendStringInfoChar(&columns, ')');
    return columns.data;
}

// "VACUUM (...) a (x), b (x)" for the placements on one node.
char *vacuum_command(const VacuumStmt *statement, const VacuumRelation *relation,
                     const DistributedTable *table, int32 node_id) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, statement->is_vacuumcmd ? "VACUUM" : "ANALYZE");
    char *options = vacuum_options(statement);
    if (options[0] != '\0')
        appendStringInfo(&sql, " (%s)", options);
    char *columns = column_list(relation);
    const char *name = get_rel_name(table->relid);
    const char *separator = " ";
    for (int i = 0; i < table->shard_count; i++)
        for (int j = 0; j < table->shards[i].placement_count; j++)
            if (table->shards[i].placements[j].node_id == node_id) {
                appendStringInfo(&sql, "%s%s%s", separator,
                                 quote_qualified_identifier(table->shards[i].schema, name),
                                 columns);
                separator = ", ";
            }
    return sql.data;
}

} // namespace

List *vacuum_shards(List *relations, const VacuumStmt *statement, bool is_top_level) {
    // VACUUM commits as it goes; ANALYZE can be part of the user's transaction.
    Effect effect = Effect::kNoTransaction;
    if (statement->is_vacuumcmd)
        PreventInTransactionBlock(is_top_level, "VACUUM");
    else if (IsInTransactionBlock(is_top_level))
        effect = Effect::kWrite;

    NodeBatch batch;
    List *tables = nullptr;
    ListCell *cell;
    foreach (cell, relations) {
        auto *relation = static_cast<VacuumRelation *>(lfirst(cell));
        Oid relid = relation->oid;
        if (!pg_class_ownercheck(relid, GetUserId()) &&
            !pg_database_ownercheck(MyDatabaseId, GetUserId())) {
            ereport(WARNING, (errmsg("skipping \"%s\" --- only its owner or the database owner "
                                     "can vacuum or analyze it",
                                     get_rel_name(relid))));
            continue;
        }
        // Shards must not be dropped meanwhile; reads and writes go on.
        LockRelationOid(relid, ShareUpdateExclusiveLock);
        const DistributedTable *table = get_distributed_table(relid);
        ListCell *node;
        foreach (node, nodes_of_table(table))
            batch_send(&batch, lfirst_int(node),
                       vacuum_command(statement, relation, table, lfirst_int(node)), effect);
        tables = lappend(tables, const_cast<DistributedTable *>(table));
    }
    batch_finish(&batch);
    List *samples = NIL;
    if (!wants_analyze(statement))
        return samples;
    foreach (cell, tables) {
        auto *table = static_cast<const DistributedTable *>(lfirst(cell));
        TableEstimates *estimates = refresh_estimates(table);
        // The owner of the database may ANALYZE what it may not read.
        if (pg_class_aclcheck(table->relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
            samples = lappend(samples, fetch_sample(table, estimates));
        else
            ereport(WARNING,
                    (errmsg("no column statistics for \"%s\": it may not be read by "
                            "role \"%s\"",
                            get_rel_name(table->relid), GetUserNameFromId(GetUserId(), false))));
    }
    return samples;
}

} // namespace panvel
