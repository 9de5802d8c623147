// What the views show of the nodes, and run_on_nodes(). One statement per node, all under way at
// the same time; a node that does not answer is a row, not an error.
#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/nodes.h"
#include "coordinator/monitor/servers.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"
}

namespace panvel {
namespace {

constexpr char kSchemaPrefix[] = "panvel_s";

// Schema names of the shards that the node has placements of, as the text of an array.
char *shard_schemas_of(int32 node_id) {
    StringInfoData array;
    initStringInfo(&array);
    appendStringInfoChar(&array, '{');
    CatalogScan scan = begin_catalog_scan_int32(Catalog::kPlacement, AccessShareLock,
                                                "placement_node_id_idx", kPlacementNodeId, node_id);
    while (HeapTuple row = next_catalog_row(&scan))
        appendStringInfo(
            &array, "%s%s%lld", array.len > 1 ? "," : "", kSchemaPrefix,
            static_cast<long long>(DatumGetInt64(catalog_value(&scan, row, kPlacementShardId))));
    end_catalog_scan(&scan);
    appendStringInfoChar(&array, '}');
    return array.data;
}

// Sends `sql`, whose $1 is the array of the node's shard schemas, to every node.
// Returns List of NodeRequest *.
List *ask_about_shards(const char *sql) {
    List *requests = nullptr;
    ListCell *cell;
    foreach (cell, all_nodes()) {
        auto *node = static_cast<ClusterNode *>(lfirst(cell));
        const Oid type = TEXTARRAYOID;
        const char *value = shard_schemas_of(node->node_id);
        const int length = static_cast<int>(strlen(value));
        const int format = 0;
        RemoteParams params = {1, &type, &value, &length, &format};
        RemoteStatement statement = {};
        statement.sql = sql;
        statement.params = &params;
        statement.effect = Effect::kReadOnce;
        requests = lappend(requests, send_to_node(node, &statement));
    }
    return requests;
}

Datum text_datum(const char *text) {
    return CStringGetTextDatum(text);
}

Datum int64_column(PGresult *result, int row, int column) {
    return Int64GetDatum(pg_strtoint64(PQgetvalue(result, row, column)));
}

void check_shape(const NodeRequest *request, PGresult *result, int columns) {
    if (PQnfields(result) != columns)
        ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                        errmsg("node \"%s\" answered with %d columns instead of %d",
                               request->node->name, PQnfields(result), columns)));
}

const char *const kStateQuery =
    "SELECT coalesce(pg_catalog.sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::pg_catalog.int8 "
    "FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid "
    "WHERE n.nspname = ANY ($1::pg_catalog.text[]) AND c.relkind = 'r'";

char *error_text(const NodeRequest *request) {
    const ErrorData *error = request->error;
    return error->detail != nullptr ? psprintf("%s: %s", error->message, error->detail)
                                    : error->message;
}

// Status and its time are the monitor's; a server it knows nothing of is as it answers just now.
// An error is shown also of a node that is up, but does not let us do this.
void put_node_state(ReturnSetInfo *out, NodeRequest *request) {
    PGresult *result = wait_for_node(request);
    Datum values[5] = {};
    bool isnull[5] = {false, false, true, true, true};
    ServerState state;
    bool known = read_server(server_of_node(request->node->node_id), &state) &&
                 state.health.reach != Reach::kUnknown;
    bool up = known ? state.health.reach == Reach::kUp : result != nullptr;
    values[0] = Int32GetDatum(request->node->node_id);
    values[1] = text_datum(up ? "up" : "down");
    if (known) {
        values[2] = TimestampTzGetDatum(state.health.since);
        isnull[2] = false;
    }
    if (result == nullptr) {
        values[3] = text_datum(error_text(request));
        isnull[3] = false;
    } else {
        check_shape(request, result, 1);
        values[4] = int64_column(result, 0, 0);
        isnull[4] = false;
    }
    tuplestore_putvalues(out->setResult, out->setDesc, values, isnull);
}

// Has the monitor look at all nodes now, and gives it a moment to see an answer or the lack of it.
void refresh_health() {
    constexpr int kMoment_ms = 500;
    TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kMoment_ms);
    ListCell *cell;
    foreach (cell, all_nodes()) {
        ServerHandle server = server_of_node(static_cast<ClusterNode *>(lfirst(cell))->node_id);
        ServerState before;
        ServerState now;
        if (!monitor_runs() || !read_server(server, &before))
            continue;
        want_probe(server);
        while (read_server(server, &now) && now.probes == before.probes &&
               GetCurrentTimestamp() < deadline && before.health.reach != Reach::kDown) {
            (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 5,
                            PG_WAIT_EXTENSION);
            ResetLatch(MyLatch);
            CHECK_FOR_INTERRUPTS();
        }
    }
}

// reltuples is -1 until the first ANALYZE, and lags behind inserts; the statistics collector's
// count is empty after a crash.
const char *const kSizeQuery =
    "SELECT n.nspname, c.relname, "
    "CASE WHEN pg_catalog.pg_stat_get_live_tuples(c.oid) > 0 "
    "THEN pg_catalog.pg_stat_get_live_tuples(c.oid) "
    "ELSE greatest(c.reltuples, 0)::pg_catalog.int8 END, "
    "pg_catalog.pg_total_relation_size(c.oid) "
    "FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid "
    "WHERE n.nspname = ANY ($1::pg_catalog.text[]) AND c.relkind = 'r'";

void put_placement_sizes(ReturnSetInfo *out, NodeRequest *request) {
    PGresult *result = wait_for_node(request);
    if (result == nullptr)
        return;
    check_shape(request, result, 4);
    for (int row = 0; row < PQntuples(result); row++) {
        if (PQgetisnull(result, row, 3)) // dropped meanwhile
            continue;
        const char *schema = PQgetvalue(result, row, 0);
        if (strncmp(schema, kSchemaPrefix, strlen(kSchemaPrefix)) != 0)
            continue;
        NameData table_name;
        namestrcpy(&table_name, PQgetvalue(result, row, 1));
        Datum values[5];
        bool isnull[5] = {};
        values[0] = Int32GetDatum(request->node->node_id);
        values[1] = Int64GetDatum(pg_strtoint64(schema + strlen(kSchemaPrefix)));
        values[2] = NameGetDatum(&table_name);
        values[3] = int64_column(result, row, 2);
        values[4] = int64_column(result, row, 3);
        tuplestore_putvalues(out->setResult, out->setDesc, values, isnull);
    }
}

// ---------------------------------------------------------------- run_on_nodes

bool is_number(const char *text) { // "NaN" and "Infinity" are none in JSON
    return *text != '\0' && strspn(text, "0123456789+-.eE") == strlen(text);
}

void append_json_value(StringInfo json, PGresult *result, int row, int column) {
    if (PQgetisnull(result, row, column)) {
        appendStringInfoString(json, "null");
        return;
    }
    const char *text = PQgetvalue(result, row, column);
    switch (PQftype(result, column)) {
    case BOOLOID:
        appendStringInfoString(json, text[0] == 't' ? "true" : "false");
        return;
    case JSONOID:
    case JSONBOID:
        appendStringInfoString(json, text);
        return;
    case INT2OID:
    case INT4OID:
    case INT8OID:
    case FLOAT4OID:
    case FLOAT8OID:
    case NUMERICOID:
        if (is_number(text)) {
            appendStringInfoString(json, text);
            return;
        }
        break;
    default:
        break;
    }
    escape_json(json, text);
}

char *rows_as_json(PGresult *result) {
    StringInfoData json;
    initStringInfo(&json);
    appendStringInfoChar(&json, '[');
    for (int row = 0; row < PQntuples(result); row++) {
        CHECK_FOR_INTERRUPTS();
        appendStringInfoString(&json, row > 0 ? ", {" : "{");
        for (int column = 0; column < PQnfields(result); column++) {
            if (column > 0)
                appendStringInfoString(&json, ", ");
            escape_json(&json, PQfname(result, column));
            appendStringInfoString(&json, ": ");
            append_json_value(&json, result, row, column);
        }
        appendStringInfoChar(&json, '}');
    }
    appendStringInfoChar(&json, ']');
    return json.data;
}

// The single value, else all rows as JSON; a command without rows gives its tag. Null: SQL NULL.
char *result_text(PGresult *result) {
    if (PQnfields(result) == 0)
        return pstrdup(PQcmdStatus(result));
    if (PQntuples(result) == 1 && PQnfields(result) == 1)
        return PQgetisnull(result, 0, 0) ? nullptr : pstrdup(PQgetvalue(result, 0, 0));
    return rows_as_json(result);
}

void put_node_result(ReturnSetInfo *out, NodeRequest *request) {
    PGresult *result = wait_for_node(request);
    char *text = result != nullptr ? result_text(result) : error_text(request);
    Datum values[3] = {};
    bool isnull[3] = {};
    values[0] = text_datum(request->node->name);
    values[1] = BoolGetDatum(result != nullptr);
    if (text != nullptr)
        values[2] = text_datum(text);
    else
        isnull[2] = true;
    tuplestore_putvalues(out->setResult, out->setDesc, values, isnull);
}

List *send_to_all(const char *sql) {
    RemoteStatement statement = {};
    statement.sql = sql;
    statement.effect = Effect::kNoTransaction;
    statement.search_path = namespace_search_path; // it is the user's text
    List *requests = nullptr;
    ListCell *cell;
    foreach (cell, all_nodes())
        requests =
            lappend(requests, send_to_node(static_cast<ClusterNode *>(lfirst(cell)), &statement));
    return requests;
}

template <typename Put> void put_all(FunctionCallInfo fcinfo, List *requests, Put &&put) {
    InitMaterializedSRF(fcinfo, 0);
    auto *out = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    ListCell *cell;
    foreach (cell, requests)
        put(out, static_cast<NodeRequest *>(lfirst(cell)));
}

} // namespace
} // namespace panvel

SQL_FUNCTION(panvel_node_states) {
    panvel::require_preload();
    panvel::refresh_health();
    panvel::put_all(fcinfo, panvel::ask_about_shards(panvel::kStateQuery), panvel::put_node_state);
    return static_cast<Datum>(0);
}

SQL_FUNCTION(panvel_placement_sizes) {
    panvel::require_preload();
    panvel::put_all(fcinfo, panvel::ask_about_shards(panvel::kSizeQuery),
                    panvel::put_placement_sizes);
    return static_cast<Datum>(0);
}

SQL_FUNCTION(panvel_run_on_nodes) {
    panvel::require_preload();
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("argument \"sql\" must not be null")));
    char *sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
    panvel::put_all(fcinfo, panvel::send_to_all(sql), panvel::put_node_result);
    return static_cast<Datum>(0);
}
