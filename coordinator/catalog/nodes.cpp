// add_node, remove_node, set_node: which servers are part of the cluster.
#include "coordinator/catalog/nodes.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/reference_table.h"
#include "coordinator/ddl/objects.h"
#include "coordinator/remote/remote.h"
#include "coordinator/transaction/doubt.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
}

namespace panvel {

NodeRequest *send_to_node(const ClusterNode *node, const RemoteStatement *statement) {
    auto *sent = palloc0_object(NodeRequest);
    MemoryContext context = CurrentMemoryContext;
    sent->node = node;
    PG_TRY();
    { sent->request = remote_send(node->node_id, statement); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        sent->error = CopyErrorData();
        if (sent->error->sqlerrcode == ERRCODE_QUERY_CANCELED)
            PG_RE_THROW();
        FlushErrorState();
    }
    PG_END_TRY();
    return sent;
}

PGresult *wait_for_node(NodeRequest *sent) {
    if (sent->request == nullptr)
        return nullptr;
    remote_wait_any(&sent->request, 1);
    sent->error = remote_error(sent->request);
    return sent->error != nullptr ? nullptr : remote_wait(sent->request);
}

OwnVector own_vector() {
    Relation extensions = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
                CStringGetDatum("vector"));
    SysScanDesc scan = systable_beginscan(extensions, ExtensionNameIndexId, true, nullptr, 1, &key);
    HeapTuple row = systable_getnext(scan);
    if (!HeapTupleIsValid(row))
        elog(ERROR, "extension \"vector\" is not installed");
    bool isnull;
    Datum version =
        heap_getattr(row, Anum_pg_extension_extversion, RelationGetDescr(extensions), &isnull);
    auto *form = reinterpret_cast<Form_pg_extension>(GETSTRUCT(row));
    OwnVector vector = {TextDatumGetCString(version), get_namespace_name(form->extnamespace)};
    systable_endscan(scan);
    table_close(extensions, AccessShareLock);
    return vector;
}

namespace {

// What a server says about itself.
struct NodeFacts {
    int version_num;
    char *version;
    int64 system_identifier; // of the initdb; clones of a data directory share it
    int64 started;           // microseconds since 1970; tells clones apart
    char *database;
    int max_prepared_transactions;
    bool in_recovery;
    char *encoding;
    char *collate;
    char *ctype;
    char *locale_provider;
    char *vector_version;   // null: not created there
    char *vector_schema;    // null: not created there
    char *vector_available; // null: not installed there
};

const char *const kFactsQuery =
    "SELECT current_setting('server_version_num'), current_setting('server_version'), "
    "(SELECT system_identifier FROM pg_catalog.pg_control_system()), "
    "(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8, "
    "datname, "
    "current_setting('max_prepared_transactions'), pg_catalog.pg_is_in_recovery(), "
    "pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype, "
    "datlocprovider::pg_catalog.text || coalesce(daticulocale, ''), "
    "extversion, nspname, "
    "(SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'vector') "
    "FROM pg_catalog.pg_database "
    "LEFT JOIN pg_catalog.pg_extension ON extname = 'vector' "
    "LEFT JOIN pg_catalog.pg_namespace n ON n.oid = extnamespace "
    "WHERE datname = pg_catalog.current_database()";
constexpr int kFactsColumns = 14;

char *text_column(PGresult *result, int column) {
    return PQgetisnull(result, 0, column) ? nullptr : pstrdup(PQgetvalue(result, 0, column));
}

char *text_or_empty(PGresult *result, int column) {
    return pstrdup(PQgetvalue(result, 0, column));
}

// The error as it came, with a hint where it is about the connection.
[[noreturn]] void raise_unreachable(const ClusterNode *node, ErrorData *error) {
    if (error->hint == nullptr &&
        error->sqlerrcode == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)
        error->hint =
            psprintf("Check that a server listens at %s:%d, that it has database \"%s\" and role "
                     "\"%s\", and that its pg_hba.conf admits the coordinator.",
                     node->host, node->port, node->dbname, GetUserNameFromId(GetUserId(), false));
    ReThrowError(error);
    pg_unreachable();
}

// False when the node does not answer; `error` then says why.
bool try_ask_node(const ClusterNode *node, NodeFacts *answer, ErrorData **error) {
    RemoteStatement statement = {};
    statement.sql = kFactsQuery;
    statement.effect = Effect::kReadOnce;
    statement.may_be_stale = true; // what is in doubt there can only be settled when this is known
    NodeRequest *sent = send_to_node(node, &statement);
    PGresult *result = wait_for_node(sent);
    if (result == nullptr) {
        *error = sent->error;
        return false;
    }
    if (PQntuples(result) != 1 || PQnfields(result) != kFactsColumns)
        ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                        errmsg("node \"%s\" does not answer as PostgreSQL does", node->name)));
    NodeFacts facts = {};
    facts.version_num = pg_strtoint32(PQgetvalue(result, 0, 0));
    facts.version = text_or_empty(result, 1);
    facts.system_identifier = pg_strtoint64(PQgetvalue(result, 0, 2));
    facts.started = pg_strtoint64(PQgetvalue(result, 0, 3));
    facts.database = text_or_empty(result, 4);
    facts.max_prepared_transactions = pg_strtoint32(PQgetvalue(result, 0, 5));
    facts.in_recovery = PQgetvalue(result, 0, 6)[0] == 't';
    facts.encoding = text_or_empty(result, 7);
    facts.collate = text_or_empty(result, 8);
    facts.ctype = text_or_empty(result, 9);
    facts.locale_provider = text_or_empty(result, 10);
    facts.vector_version = text_column(result, 11);
    facts.vector_schema = text_column(result, 12);
    facts.vector_available = text_column(result, 13);
    remote_release(sent->request);
    *answer = facts;
    return true;
}

NodeFacts ask_node(const ClusterNode *node) {
    NodeFacts facts;
    ErrorData *error;
    if (!try_ask_node(node, &facts, &error))
        raise_unreachable(node, error);
    return facts;
}

// The same of this server and database.
NodeFacts own_facts() {
    NodeFacts facts = {};
    facts.version_num = PG_VERSION_NUM;
    facts.version = pstrdup(PG_VERSION);
    facts.system_identifier = static_cast<int64>(GetSystemIdentifier());
    facts.started = PgStartTime + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
    facts.database = get_database_name(MyDatabaseId);
    facts.encoding = pstrdup(GetDatabaseEncodingName());

    HeapTuple database = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
    if (!HeapTupleIsValid(database))
        elog(ERROR, "cache lookup failed for database %u", MyDatabaseId);
    auto attribute = [&](AttrNumber number) {
        bool isnull;
        Datum value = SysCacheGetAttr(DATABASEOID, database, number, &isnull);
        return isnull ? pstrdup("") : TextDatumGetCString(value);
    };
    auto *form = reinterpret_cast<Form_pg_database>(GETSTRUCT(database));
    facts.collate = attribute(Anum_pg_database_datcollate);
    facts.ctype = attribute(Anum_pg_database_datctype);
    facts.locale_provider =
        psprintf("%c%s", form->datlocprovider, attribute(Anum_pg_database_daticulocale));
    ReleaseSysCache(database);

    OwnVector vector = own_vector();
    facts.vector_version = vector.version;
    facts.vector_schema = vector.schema;
    return facts;
}

void check_versions(const ClusterNode *node, const NodeFacts *theirs, const NodeFacts *ours) {
    if (theirs->version_num / 10000 != ours->version_num / 10000)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("node \"%s\" runs PostgreSQL %s, the coordinator %s", node->name,
                               theirs->version, ours->version),
                        errhint("All nodes must run the same major version of PostgreSQL.")));
    if (theirs->vector_version == nullptr) {
        if (theirs->vector_available == nullptr)
            ereport(ERROR,
                    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                     errmsg("extension \"vector\" is not available on node \"%s\"", node->name),
                     errhint("Install Panvel's extension vector on that server, then run "
                             "CREATE EXTENSION vector in its database \"%s\".",
                             node->dbname)));
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("extension \"vector\" is not created on node \"%s\"", node->name),
                        errhint("Run CREATE EXTENSION vector in database \"%s\" of that server.",
                                node->dbname)));
    }
    if (strcmp(theirs->vector_version, ours->vector_version) != 0)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("node \"%s\" has version %s of extension \"vector\", the coordinator has "
                        "version %s",
                        node->name, theirs->vector_version, ours->vector_version),
                 errhint("Install the same version everywhere and run ALTER EXTENSION vector "
                         "UPDATE.")));
    if (strcmp(theirs->vector_schema, ours->vector_schema) != 0)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("extension \"vector\" is in schema \"%s\" on node \"%s\" and in schema "
                        "\"%s\" on the coordinator",
                        theirs->vector_schema, node->name, ours->vector_schema),
                 errhint("Run ALTER EXTENSION vector SET SCHEMA %s in database \"%s\" of that "
                         "server.",
                         quote_identifier(ours->vector_schema), node->dbname)));
}

void check_locale(const ClusterNode *node, const NodeFacts *theirs, const NodeFacts *ours) {
    struct {
        const char *what;
        const char *theirs;
        const char *ours;
    } settings[] = {
        {"encoding", theirs->encoding, ours->encoding},
        {"collation", theirs->collate, ours->collate},
        {"character type", theirs->ctype, ours->ctype},
        {"locale provider", theirs->locale_provider, ours->locale_provider},
    };
    for (const auto &setting : settings)
        if (strcmp(setting.theirs, setting.ours) != 0)
            ereport(ERROR,
                    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                     errmsg("database \"%s\" of node \"%s\" has %s \"%s\", the coordinator's has "
                            "\"%s\"",
                            node->dbname, node->name, setting.what, setting.theirs, setting.ours),
                     errhint("Texts would compare or sort differently there. Create the node's "
                             "database with the coordinator's encoding and locale.")));
}

// The same database of the same running server.
bool is_same(const NodeFacts *a, const NodeFacts *b) {
    return a->system_identifier == b->system_identifier && a->started == b->started &&
           strcmp(a->database, b->database) == 0;
}

// Raises an error unless the server may hold shards of this database.
void check_node(const ClusterNode *node, const NodeFacts *theirs) {
    NodeFacts ours = own_facts();
    if (is_same(theirs, &ours))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("node \"%s\" is the coordinator itself", node->name),
                        errhint("Shards are held by other servers, or at least by other databases "
                                "of this server.")));
    if (theirs->in_recovery)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("node \"%s\" is a standby", node->name),
                        errhint("Add the primary server instead.")));
    check_versions(node, theirs, &ours);
    check_locale(node, theirs, &ours);
    if (theirs->max_prepared_transactions == 0)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("node \"%s\" has max_prepared_transactions = 0", node->name),
                 errdetail("A transaction over several nodes is committed by two-phase commit."),
                 errhint("Set max_prepared_transactions to at least max_connections in that "
                         "server's postgresql.conf and restart it.")));
}

void check_name(const char *name) {
    size_t length = strlen(name);
    bool valid = length > 0 && length < NAMEDATALEN;
    for (const char *c = name; *c != '\0'; c++)
        valid &= isalnum(static_cast<unsigned char>(*c)) || strchr("_-.", *c) != nullptr;
    if (!valid)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" is not a valid node name", name),
                 errhint("Use 1 to %d letters, digits, \"_\", \"-\" and \".\".", NAMEDATALEN - 1)));
}

void check_address(const char *host, int32 port) {
    if (host[0] == '\0')
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the host is empty")));
    if (port < 1 || port > 65535)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("port %d is not between 1 and 65535", port)));
}

char *text_argument(FunctionCallInfo fcinfo, int number, const char *name) {
    if (PG_ARGISNULL(number))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("argument \"%s\" must not be null", name)));
    return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

int32 int_argument(FunctionCallInfo fcinfo, int number, const char *name) {
    if (PG_ARGISNULL(number))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("argument \"%s\" must not be null", name)));
    return PG_GETARG_INT32(number);
}

const ClusterNode *require_node(const char *name) {
    const ClusterNode *node = find_node_by_name(name);
    if (node == nullptr)
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("node \"%s\" does not exist", name),
                 errhint("The view panvel.nodes lists the nodes.")));
    return node;
}

// Changes to the list of nodes exclude each other and whoever counts on it (ShareLock).
void lock_nodes() {
    LockRelationOid(catalog_oid(Catalog::kNode), ShareRowExclusiveLock);
}

void changed_nodes() {
    invalidate_nodes();
    CommandCounterIncrement();
}

void insert_node(int32 node_id, const char *name, const char *host, int32 port,
                 const char *dbname) {
    Datum values[kNodeColumns];
    values[kNodeId - 1] = Int32GetDatum(node_id);
    values[kNodeName - 1] = CStringGetTextDatum(name);
    values[kNodeHost - 1] = CStringGetTextDatum(host);
    values[kNodePort - 1] = Int32GetDatum(port);
    values[kNodeDbname - 1] = CStringGetTextDatum(dbname);
    values[kNodeSystemIdentifier - 1] = Int64GetDatum(0);
    Relation catalog = open_catalog(Catalog::kNode, RowExclusiveLock);
    insert_catalog_row(catalog, values);
    table_close(catalog, NoLock);
    changed_nodes();
}

void update_node(int32 node_id, Datum *values, const bool *replace) {
    CatalogScan scan =
        begin_catalog_scan_int32(Catalog::kNode, RowExclusiveLock, "node_pkey", kNodeId, node_id);
    HeapTuple row = next_catalog_row(&scan);
    if (!HeapTupleIsValid(row))
        elog(ERROR, "node %d is not in the catalog", node_id);
    update_catalog_row(scan.relation, row, values, replace);
    end_catalog_scan(&scan);
    changed_nodes();
}

int64 known_system_identifier(int32 node_id) {
    CatalogScan scan =
        begin_catalog_scan_int32(Catalog::kNode, AccessShareLock, "node_pkey", kNodeId, node_id);
    HeapTuple row = next_catalog_row(&scan);
    if (!HeapTupleIsValid(row))
        elog(ERROR, "node %d is not in the catalog", node_id);
    int64 identifier = DatumGetInt64(catalog_value(&scan, row, kNodeSystemIdentifier));
    end_catalog_scan(&scan);
    return identifier;
}

// Another node that is the same database, or null. A node that does not answer is known by its
// address only.
const char *find_same_database(const ClusterNode *added, const NodeFacts *facts) {
    ListCell *cell;
    foreach (cell, all_nodes()) {
        auto *node = static_cast<const ClusterNode *>(lfirst(cell));
        if (node->node_id == added->node_id || strcmp(node->dbname, added->dbname) != 0 ||
            known_system_identifier(node->node_id) != facts->system_identifier)
            continue;
        if (node->port == added->port && strcmp(node->host, added->host) == 0)
            return node->name;
        ErrorData *error;
        NodeFacts known;
        if (try_ask_node(node, &known, &error) && is_same(&known, facts))
            return node->name;
    }
    return nullptr;
}

int32 add_node(const char *name, const char *host, int32 port, const char *dbname) {
    require_preload();
    PreventCommandIfReadOnly("panvel.add_node()");
    check_name(name);
    check_address(host, port);
    if (dbname[0] == '\0')
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the database name is empty")));
    lock_nodes();
    if (find_node_by_name(name) != nullptr)
        ereport(ERROR,
                (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("node \"%s\" already exists", name),
                 errhint("Choose another name, or change its address with "
                         "panvel.set_node().")));

    // The connection layer reads the address from the catalog, so the row comes first; an error
    // below takes it back.
    auto node_id = static_cast<int32>(next_catalog_id("node_id_seq"));
    insert_node(node_id, name, host, port, dbname);
    const ClusterNode *node = get_node(node_id);
    NodeFacts facts = ask_node(node);
    check_node(node, &facts);
    const char *same = find_same_database(node, &facts);
    if (same != nullptr)
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
                        errmsg("database \"%s\" at %s:%d already is node \"%s\"", dbname, host,
                               port, same)));

    Datum values[kNodeColumns] = {};
    bool replace[kNodeColumns] = {};
    values[kNodeSystemIdentifier - 1] = Int64GetDatum(facts.system_identifier);
    replace[kNodeSystemIdentifier - 1] = true;
    update_node(node_id, values, replace);
    copy_objects_to_node(node_id);
    copy_reference_tables(node_id);
    return node_id;
}

void remove_node(const char *name) {
    require_preload();
    PreventCommandIfReadOnly("panvel.remove_node()");
    lock_nodes();
    const ClusterNode *node = require_node(name);
    drop_reference_copies(node);
    CatalogScan placements =
        begin_catalog_scan_int32(Catalog::kPlacement, AccessShareLock, "placement_node_id_idx",
                                 kPlacementNodeId, node->node_id);
    int count = 0;
    while (HeapTupleIsValid(next_catalog_row(&placements)))
        count++;
    end_catalog_scan(&placements);
    if (count > 0)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_IN_USE),
                 errmsg("node \"%s\" cannot be removed: it holds %d shards", name, count),
                 errhint("Drop the tables that have shards on it first; the view panvel.shards "
                         "lists them. While the node is down, panvel.repair() replaces what other "
                         "nodes have as well.")));
    delete_catalog_rows(begin_catalog_scan_int32(Catalog::kLeftover, RowExclusiveLock,
                                                 "leftover_pkey", kLeftoverNodeId, node->node_id));
    delete_catalog_rows(begin_catalog_scan_int32(Catalog::kNode, RowExclusiveLock, "node_pkey",
                                                 kNodeId, node->node_id));
    changed_nodes();
}

// Whether the server has the schemas of all shards that are placed on the node.
bool has_shards(const ClusterNode *node) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, "SELECT count(*) FROM pg_catalog.pg_namespace "
                                 "WHERE nspname::pg_catalog.text IN (''");
    int64 expected = 0;
    CatalogScan scan =
        begin_catalog_scan_int32(Catalog::kPlacement, AccessShareLock, "placement_node_id_idx",
                                 kPlacementNodeId, node->node_id);
    while (HeapTuple row = next_catalog_row(&scan)) {
        appendStringInfo(
            &sql, ", 'panvel_s%lld'",
            static_cast<long long>(DatumGetInt64(catalog_value(&scan, row, kPlacementShardId))));
        expected++;
    }
    end_catalog_scan(&scan);
    appendStringInfoChar(&sql, ')');
    RemoteStatement statement = {};
    statement.sql = sql.data;
    statement.effect = Effect::kReadOnce;
    statement.may_be_stale = true;
    PGresult *result = remote_wait(remote_send(node->node_id, &statement));
    return PQntuples(result) == 1 && pg_strtoint64(PQgetvalue(result, 0, 0)) == expected;
}

void set_node(const char *name, const char *host, int32 port) {
    require_preload();
    PreventCommandIfReadOnly("panvel.set_node()");
    check_address(host, port);
    lock_nodes();
    int32 node_id = require_node(name)->node_id;
    Datum values[kNodeColumns] = {};
    bool replace[kNodeColumns] = {};
    values[kNodeHost - 1] = CStringGetTextDatum(host);
    values[kNodePort - 1] = Int32GetDatum(port);
    replace[kNodeHost - 1] = replace[kNodePort - 1] = true;
    update_node(node_id, values, replace);

    const ClusterNode *node = get_node(node_id);
    NodeFacts facts = ask_node(node);
    check_node(node, &facts);
    if (facts.system_identifier != known_system_identifier(node_id) || !has_shards(node))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the server at %s:%d is not node \"%s\"", host, port, name),
                        errdetail("It does not have the node's shards.")));
    mark_in_doubt(node_id); // a standby may not have replayed a COMMIT PREPARED that was confirmed
}

} // namespace
} // namespace panvel

SQL_FUNCTION(panvel_add_node) {
    char *name = panvel::text_argument(fcinfo, 0, "name");
    char *host = panvel::text_argument(fcinfo, 1, "host");
    int32 port = panvel::int_argument(fcinfo, 2, "port");
    char *dbname = panvel::text_argument(fcinfo, 3, "dbname");
    PG_RETURN_INT32(panvel::add_node(name, host, port, dbname));
}

SQL_FUNCTION(panvel_remove_node) {
    panvel::remove_node(panvel::text_argument(fcinfo, 0, "name"));
    PG_RETURN_VOID();
}

SQL_FUNCTION(panvel_set_node) {
    char *name = panvel::text_argument(fcinfo, 0, "name");
    char *host = panvel::text_argument(fcinfo, 1, "host");
    panvel::set_node(name, host, panvel::int_argument(fcinfo, 2, "port"));
    PG_RETURN_VOID();
}
