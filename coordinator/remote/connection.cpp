// The cache of connections, their start and their end.
#include "coordinator/remote/connection.h"

#include "coordinator/remote/resolve.h"

#include <poll.h>

extern "C" {
#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
}

namespace panvel {

dlist_head connections = DLIST_STATIC_INIT(connections);
MemoryContext remote_context;
int connect_timeout_ms = 2000;
int node_timeout_ms = 5000;
int max_connections_per_node = 2;
bool may_reconnect = true;

namespace {

// What a worker's session is like whatever its configuration: names mean the same everywhere,
// values travel without loss, and a coordinator that has gone is noticed within a second while a
// statement runs, within two minutes while none does.
constexpr const char *kSessionOptions =
    "-c search_path=pg_catalog -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 "
    "-c standard_conforming_strings=on -c statement_timeout=0 "
    "-c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 "
    "-c client_connection_check_interval=1000 -c tcp_keepalives_idle=60 "
    "-c tcp_keepalives_interval=15 -c tcp_keepalives_count=4";

void hold_descriptor(Connection *connection) {
    if (!AcquireExternalFD())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
                        errmsg("too many open files for a connection to node \"%s\"",
                               connection->node_name),
                        errhint("Raise max_files_per_process or close some of the session's "
                                "temporary files.")));
    connection->descriptor_held = true;
}

Failure cannot_connect(const char *detail) {
    return make_failure(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, nullptr, detail);
}

// `names` and `addresses` are libpq's host and hostaddr, of as many entries each.
bool resolve(const Connection *connection, TimestampTz deadline, StringInfo names,
             StringInfo addresses, const char **error) {
    if (is_absolute_path(connection->host) || connection->host[0] == '@') {
        appendStringInfoString(names, connection->host);
        return true;
    }
    int count = resolve_host(connection->host, deadline, addresses, error);
    for (int i = 0; i < count; i++)
        appendStringInfo(names, "%s%s", i > 0 ? "," : "", connection->host);
    return count > 0;
}

PGconn *start_libpq(const Connection *connection, const char *purpose, const char **error) {
    StringInfoData names;
    StringInfoData addresses;
    initStringInfo(&names);
    initStringInfo(&addresses);
    TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), connect_timeout_ms);
    if (!resolve(connection, deadline, &names, &addresses, error))
        return nullptr;

    char port[16];
    snprintf(port, sizeof(port), "%d", connection->port);
    char timeout[16];
    snprintf(timeout, sizeof(timeout), "%d", node_timeout_ms);
    char application[NAMEDATALEN];
    snprintf(application, sizeof(application), "panvel %s%d", purpose, MyProcPid);
    const char *keywords[] = {"host",
                              "hostaddr",
                              "port",
                              "dbname",
                              "user",
                              "application_name",
                              "client_encoding",
                              "options",
                              "keepalives_idle",
                              "keepalives_interval",
                              "keepalives_count",
                              "tcp_user_timeout",
                              nullptr};
    const char *values[] = {names.data,
                            addresses.len > 0 ? addresses.data : nullptr,
                            port,
                            connection->dbname,
                            connection->user_name,
                            application,
                            GetDatabaseEncodingName(),
                            kSessionOptions,
                            "10",
                            "5",
                            "3",
                            timeout,
                            nullptr};
    PGconn *pg = PQconnectStartParams(keywords, values, 0);
    pfree(names.data);
    pfree(addresses.data);
    if (pg == nullptr)
        *error = "out of memory";
    return pg;
}

Connection *find_connection(int32 node_id, Oid user_id) {
    dlist_iter iter;
    dlist_foreach(iter, &connections) {
        Connection *connection = dlist_container(Connection, node, iter.cur);
        if (connection->node_id == node_id && connection->user_id == user_id)
            return connection;
    }
    return nullptr;
}

// An idle connection of another role gives way when the node has its fill of this backend's.
void keep_within_bound(int32 node_id, Oid user_id) {
    int open = 0;
    Connection *idle = nullptr;
    dlist_iter iter;
    dlist_foreach(iter, &connections) {
        Connection *connection = dlist_container(Connection, node, iter.cur);
        if (connection->node_id != node_id || connection->user_id == user_id ||
            connection->phase == Phase::kClosed)
            continue;
        open++;
        if (idle == nullptr && !connection->used && is_quiet(connection))
            idle = connection;
    }
    if (open >= max_connections_per_node && idle != nullptr)
        close_connection(idle, Failure{});
}

void replace_text(char **text, const char *value) {
    char *copy = MemoryContextStrdup(remote_context, value);
    if (*text)
        pfree(*text);
    *text = copy;
}

Connection *make_connection(int32 node_id, Oid user_id) {
    Connection *connection =
        static_cast<Connection *>(MemoryContextAllocZero(remote_context, sizeof(Connection)));
    connection->node_id = node_id;
    connection->user_id = user_id;
    connection->watched.ready = connection_ready;
    dlist_init(&connection->under_way);
    dlist_init(&connection->queue);
    dlist_push_tail(&connections, &connection->node);
    return connection;
}

// True when the node is where the connection was made to.
bool is_at(const Connection *connection, const ClusterNode *node) {
    return connection->host != nullptr && strcmp(connection->host, node->host) == 0 &&
           strcmp(connection->dbname, node->dbname) == 0 && connection->port == node->port &&
           strcmp(connection->node_name, node->name) == 0;
}

void describe(Connection *connection, const ClusterNode *node) {
    replace_text(&connection->node_name, node->name);
    replace_text(&connection->host, node->host);
    replace_text(&connection->dbname, node->dbname);
    connection->port = node->port;
    char *user = GetUserNameFromId(connection->user_id, false);
    replace_text(&connection->user_name, user);
    pfree(user);
}

// A connection that nobody uses has nothing to read, unless the worker has closed it.
bool was_closed_by_worker(Connection *connection) {
    pollfd descriptor = {PQsocket(connection->watched.pg), POLLIN, 0};
    while (poll(&descriptor, 1, 0) > 0) {
        if (!PQconsumeInput(connection->watched.pg))
            return true;
        if (PQisBusy(connection->watched.pg))
            return true;
    }
    return PQstatus(connection->watched.pg) != CONNECTION_OK;
}

void close_socket(Connection *connection) {
    if (connection->watched.pg != nullptr) {
        unwatch(&connection->watched);
        PQfinish(connection->watched.pg);
        connection->watched.pg = nullptr;
    }
    if (connection->descriptor_held) {
        ReleaseExternalFD();
        connection->descriptor_held = false;
    }
    connection->phase = Phase::kClosed;
    connection->pipeline = false;
    connection->exclusive = nullptr;
    connection->depth = 0;
    release_settings(connection->settings);
    connection->settings = nullptr;
    connection->settings_in_transaction = false;
    if (connection->prepared) {
        HASH_SEQ_STATUS scan;
        hash_seq_init(&scan, connection->prepared);
        while (auto *statement = static_cast<PreparedStatement *>(hash_seq_search(&scan)))
            pfree(statement->sql);
        hash_destroy(connection->prepared);
        connection->prepared = nullptr;
    }
}

// Whether everything under way may be sent again on a new connection: nothing of it can have had
// a lasting effect, and the worker had closed the connection before it was used.
bool may_start_anew(const Connection *connection) {
    if (!may_reconnect || connection->answered || connection->fresh ||
        connection->phase != Phase::kReady || is_quiet(connection))
        return false;
    dlist_iter iter;
    dlist_foreach(iter, const_cast<dlist_head *>(&connection->under_way)) {
        if (!dlist_container(Entry, node, iter.cur)->retryable)
            return false;
    }
    return true;
}

void start_anew(Connection *connection) {
    while (!dlist_is_empty(&connection->under_way)) {
        Entry *entry = dlist_tail_element(Entry, node, &connection->under_way);
        dlist_delete(&entry->node);
        dlist_push_head(&connection->queue, &entry->node);
        entry->stage = Stage::kQueued;
        entry->parses = entry->sets = false;
        entry->step = entry->nulls = 0;
        entry->data_sent = 0;
        PQclear(entry->result);
        entry->result = nullptr;
    }
    close_socket(connection);
}

// A connection whose loss took nothing along that the transaction counts on may be made anew.
bool may_go_on(const Connection *connection) {
    return !connection->lost || (connection->write_level == 0 && !IsolationUsesXactSnapshot());
}

} // namespace

Connection *connection_to(int32 node_id, Failure *failure) {
    Oid user_id = GetUserId();
    Connection *connection = find_connection(node_id, user_id);
    if (connection != nullptr && connection->used &&
        (connection->phase != Phase::kClosed || !may_go_on(connection)))
        return connection;

    const ClusterNode *node = get_node(node_id);
    if (connection == nullptr)
        connection = make_connection(node_id, user_id);
    if (connection->phase != Phase::kClosed && is_quiet(connection) &&
        (!is_at(connection, node) ||
         (connection->phase == Phase::kReady && was_closed_by_worker(connection))))
        close_socket(connection);
    if (connection->phase == Phase::kClosed) {
        keep_within_bound(node_id, user_id);
        describe(connection, node);
        connection->lost = false;
        start_connection(connection, failure);
    }
    return connection;
}

bool start_connection(Connection *connection, Failure *failure) {
    const char *error = nullptr;
    hold_descriptor(connection);
    PGconn *pg = nullptr;
    PG_TRY();
    { pg = start_libpq(connection, "", &error); }
    PG_CATCH();
    {
        close_socket(connection);
        PG_RE_THROW();
    }
    PG_END_TRY();
    if (pg == nullptr || PQstatus(pg) == CONNECTION_BAD) {
        *failure = cannot_connect(pg ? PQerrorMessage(pg) : error);
        PQfinish(pg);
        close_socket(connection);
        return false;
    }
    PQsetNoticeReceiver(pg, receive_notice, connection);
    connection->watched.pg = pg;
    connection->watched.wants_write = true;
    connection->watched.only_write = true;
    connection->phase = Phase::kConnecting;
    connection->fresh = true;
    connection->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), connect_timeout_ms);
    watch(&connection->watched);
    return true;
}

PGconn *start_auxiliary(Connection *connection) {
    const char *error = nullptr;
    PGconn *pg = start_libpq(connection, "cancel ", &error);
    if (pg != nullptr && PQstatus(pg) == CONNECTION_BAD) {
        PQfinish(pg);
        pg = nullptr;
    }
    return pg;
}

void close_connection(Connection *connection, const Failure &failure) {
    if (connection->depth > 0 || connection->vote == Vote::kPreparing)
        connection->lost = true;
    close_socket(connection);
    while (!dlist_is_empty(&connection->under_way))
        finish_entry(dlist_head_element(Entry, node, &connection->under_way), &failure);
    while (!dlist_is_empty(&connection->queue))
        finish_entry(dlist_head_element(Entry, node, &connection->queue), &failure);
}

void connection_failed(Connection *connection, const char *text) {
    if (may_start_anew(connection)) {
        start_anew(connection);
        Failure failure = {};
        if (start_connection(connection, &failure))
            return;
        close_connection(connection, failure);
        free_failure(&failure);
        return;
    }
    Failure failure = connection->phase == Phase::kConnecting
                          ? cannot_connect(text)
                          : make_failure(ERRCODE_CONNECTION_FAILURE, nullptr, text);
    close_connection(connection, failure);
    free_failure(&failure);
}

void forget_transaction(Connection *connection) {
    if (connection->phase == Phase::kConnecting) // nobody would watch its deadline
        close_connection(connection, Failure{});
    connection->write_level = 0;
    connection->used = false;
    connection->answered = false;
    connection->fresh = false;
    connection->lost = false;
    connection->vote = Vote::kNone;
    PQclear(connection->control);
    connection->control = nullptr;
}

void close_all_connections() {
    dlist_iter iter;
    dlist_foreach(iter, &connections)
        close_connection(dlist_container(Connection, node, iter.cur), Failure{});
}

} // namespace panvel
