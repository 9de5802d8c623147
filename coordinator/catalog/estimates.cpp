#include "coordinator/catalog/estimates.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/remote/remote.h"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace panvel {

void set_estimates(Oid relid, double rows, int64 pages) {
    CatalogScan scan = begin_catalog_scan_oid(Catalog::kDistributedTable, RowExclusiveLock,
                                              "distributed_table_pkey", kTableRelation, relid);
    HeapTuple row = next_catalog_row(&scan);
    if (!HeapTupleIsValid(row))
        elog(ERROR, "relation %u is not in panvel.distributed_table", relid);
    Datum values[kTableColumns] = {};
    bool replace[kTableColumns] = {};
    values[kTableRowEstimate - 1] = Float8GetDatum(rows);
    values[kTablePageEstimate - 1] = Int64GetDatum(pages);
    replace[kTableRowEstimate - 1] = replace[kTablePageEstimate - 1] = true;
    update_catalog_row(scan.relation, row, values, replace);
    end_catalog_scan(&scan);
    invalidate_table(relid);
    CommandCounterIncrement();
}

namespace {

const char *const kEstimateQuery =
    "SELECT n.nspname, c.reltuples::pg_catalog.float8, c.relpages "
    "FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid "
    "WHERE n.nspname = ANY ($1::pg_catalog.text[]) AND c.relname = $2::pg_catalog.text "
    "AND c.relkind = 'r' AND c.reltuples >= 0";

// Schemas of the shards that are read on the node, as the text of an array.
char *schemas_read_on(const DistributedTable *table, int32 node_id) {
    StringInfoData array;
    initStringInfo(&array);
    appendStringInfoChar(&array, '{');
    for (int i = 0; i < table->shard_count; i++)
        if (read_node(&table->shards[i]) == node_id)
            appendStringInfo(&array, "%s%s", array.len > 1 ? "," : "", table->shards[i].schema);
    appendStringInfoChar(&array, '}');
    return array.data;
}

RemoteRequest *ask_for_estimates(const DistributedTable *table, int32 node_id) {
    const Oid types[] = {TEXTARRAYOID, TEXTOID};
    const char *values[] = {schemas_read_on(table, node_id), get_rel_name(table->relid)};
    const int lengths[] = {static_cast<int>(strlen(values[0])),
                           static_cast<int>(strlen(values[1]))};
    const int formats[] = {0, 0};
    RemoteParams params = {2, types, values, lengths, formats};
    RemoteStatement statement = {};
    statement.sql = kEstimateQuery;
    statement.params = &params;
    statement.effect = Effect::kReadOnce;
    return remote_send(node_id, &statement);
}

} // namespace

TableEstimates *refresh_estimates(const DistributedTable *table) {
    List *node_ids = nullptr;
    for (int i = 0; i < table->shard_count; i++)
        node_ids = list_append_unique_int(node_ids, read_node(&table->shards[i]));
    List *requests = nullptr;
    ListCell *cell;
    foreach (cell, node_ids)
        requests = lappend(requests, ask_for_estimates(table, lfirst_int(cell)));

    auto *estimates = palloc0_object(TableEstimates);
    foreach (cell, requests) {
        auto *request = static_cast<RemoteRequest *>(lfirst(cell));
        PGresult *result = remote_wait(request);
        if (PQnfields(result) != 3)
            ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                            errmsg("unexpected answer to a query for estimates")));
        for (int row = 0; row < PQntuples(result); row++) {
            auto *shard = palloc_object(ShardEstimate);
            shard->schema = pstrdup(PQgetvalue(result, row, 0));
            shard->node_id = remote_node(request);
            shard->rows = DatumGetFloat8(
                DirectFunctionCall1(float8in, CStringGetDatum(PQgetvalue(result, row, 1))));
            shard->pages = static_cast<double>(pg_strtoint64(PQgetvalue(result, row, 2)));
            estimates->shards = lappend(estimates->shards, shard);
            estimates->rows += shard->rows;
            estimates->pages += static_cast<int64>(shard->pages);
        }
        remote_release(request);
    }
    set_estimates(table->relid, estimates->rows, estimates->pages);
    return estimates;
}

} // namespace panvel
