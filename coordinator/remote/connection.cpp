// The cache of connections, their start and their end.
#include "coordinator/remote/connection.h"

#include "coordinator/remote/resolve.h"
#include "coordinator/remote/start.h"

#include <poll.h>

extern "C" {
#include "access/xact.h"
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

// A connection over which something came just now need not be looked at: should the worker have
// closed it since, what is sent over it is sent again over another (may_start_anew()).
bool is_trusted(const Connection *connection) {
    constexpr int64 kTrusted_us = 100 * 1000;
    return GetCurrentTimestamp() - connection->watched.heard_at < kTrusted_us;
}

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

// Resolves the node's name, which is the only thing here that waits, and starts connecting.
PGconn *begin_connecting(const Connection *connection, const char *purpose, const char **error) {
    char application[NAMEDATALEN];
    if (*purpose != '\0')
        snprintf(application, sizeof(application), "panvel %s %d", purpose, MyProcPid);
    else
        format_session_name(application, sizeof(application), MyProcPid);
    Target target = {connection->host, connection->port, connection->dbname, connection->user_name};
    if (is_socket_directory(connection->host))
        return start_libpq(target, nullptr, application, error);
    StringInfoData addresses;
    initStringInfo(&addresses);
    TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), connect_timeout_ms);
    PGconn *pg = nullptr;
    if (resolve_host(connection->host, deadline, &addresses, error) > 0)
        pg = start_libpq(target, addresses.data, application, error);
    pfree(addresses.data);
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

// Nothing would be lost with it.
bool can_be_spared(const Connection *connection) {
    return connection->depth == 0 && connection->write_level == 0 &&
           connection->vote == Vote::kNone && is_quiet(connection);
}

// panvel.max_connections_per_node: a connection of another role that is not needed gives way; where
// all are, this is an error.
void keep_within_bound(const ClusterNode *node, Oid user_id) {
    int open = 0;
    Connection *spare = nullptr;
    dlist_iter iter;
    dlist_foreach(iter, &connections) {
        Connection *connection = dlist_container(Connection, node, iter.cur);
        if (connection->node_id != node->node_id || connection->user_id == user_id ||
            connection->phase == Phase::kClosed)
            continue;
        open++;
        if (can_be_spared(connection) && (spare == nullptr || !connection->used))
            spare = connection;
    }
    if (open < max_connections_per_node)
        return;
    if (spare == nullptr)
        ereport(ERROR, (errcode(ERRCODE_TOO_MANY_CONNECTIONS),
                        errmsg("this transaction needs more than %d connections to node \"%s\"",
                               max_connections_per_node, node->name),
                        errdetail("There is one for each role that takes part in it."),
                        errhint("Use fewer roles in one transaction, or raise "
                                "panvel.max_connections_per_node.")));
    close_connection(spare, Failure{});
}

// The place in shared memory that makes the connection known to others.
void register_session(Connection *connection) {
    RemoteSession session = {};
    session.pid = MyProcPid;
    session.database = MyDatabaseId;
    session.role = connection->user_id;
    session.node_id = connection->node_id;
    session.server = connection->server;
    session.activity = Activity::kConnecting;
    session.since = GetCurrentTimestamp();
    strlcpy(session.node_name, connection->node_name, sizeof(session.node_name));
    connection->session = take_session(session);
    if (connection->session < 0)
        ereport(ERROR,
                (errcode(ERRCODE_TOO_MANY_CONNECTIONS), errmsg("too many connections to nodes"),
                 errhint("Raise max_connections, by which the room for them is measured.")));
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
    connection->session = -1;
    connection->server.index = -1;
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
    connection->server = server_of_node(node->node_id);
    pfree(user);
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
    free_session(connection->session);
    connection->session = -1;
    connection->shown = nullptr;
    connection->phase = Phase::kClosed;
    connection->pipeline = false;
    connection->exclusive = nullptr;
    connection->depth = 0;
    release_settings(connection->settings);
    connection->settings = nullptr;
    connection->settings_in_transaction = false;
    connection->guarded = false;
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
    return !connection->lost || (connection->write_level == 0 && connection->lock_level == 0 &&
                                 !IsolationUsesXactSnapshot());
}

} // namespace

namespace {

// Another role's connection is another transaction on the node: what this one has written there and
// not committed, that one would not see, and silently answer without it.
void refuse_unseen_writes(int32 node_id, Oid user_id) {
    dlist_iter iter;
    dlist_foreach(iter, &connections) {
        auto *other = dlist_container(Connection, node, iter.cur);
        if (other->node_id != node_id || other->user_id == user_id || other->write_level == 0)
            continue;
        ereport(
            ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("role \"%s\" cannot use node \"%s\" in a transaction in which role \"%s\" has "
                    "written there",
                    GetUserNameFromId(user_id, false), get_node(node_id)->name,
                    GetUserNameFromId(other->user_id, false)),
             errdetail("Each role has a connection of its own, which does not see what another "
                       "one has not committed yet."),
             errhint("Commit before SET ROLE or a SECURITY DEFINER function of another role, or "
                     "have one role do all of it.")));
    }
}

} // namespace

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

Connection *connection_to(int32 node_id, bool may_send_again, Failure *failure) {
    Oid user_id = GetUserId();
    refuse_unseen_writes(node_id, user_id);
    Connection *connection = find_connection(node_id, user_id);
    if (connection != nullptr && connection->used &&
        (connection->phase != Phase::kClosed || !may_go_on(connection)))
        return connection;

    const ClusterNode *node = get_node(node_id);
    if (connection == nullptr)
        connection = make_connection(node_id, user_id);
    if (connection->phase != Phase::kClosed && is_quiet(connection) &&
        (!is_at(connection, node) ||
         (connection->phase == Phase::kReady && !(may_send_again && is_trusted(connection)) &&
          was_closed_by_worker(connection))))
        close_socket(connection);
    if (connection->phase != Phase::kClosed) {
        if (server_is_silent(connection->server, node_timeout_ms))
            close_connection(connection, Failure{});
        else
            return connection;
    }
    keep_within_bound(node, user_id);
    describe(connection, node);
    connection->lost = false;
    char reason[kErrorSize];
    if (server_is_gone(connection->server, reason))
        *failure = cannot_connect(reason);
    else
        start_connection(connection, failure);
    return connection;
}

bool start_connection(Connection *connection, Failure *failure) {
    const char *error = nullptr;
    hold_descriptor(connection);
    PGconn *pg = nullptr;
    PG_TRY();
    {
        register_session(connection);
        pg = begin_connecting(connection, "", &error);
    }
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
    PGconn *pg = begin_connecting(connection, "cancel", &error);
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
    want_probe(connection->server);
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
    connection->lock_level = 0;
    connection->used = false;
    connection->answered = false;
    connection->fresh = false;
    connection->lost = false;
    connection->vote = Vote::kNone;
    PQclear(connection->control);
    connection->control = nullptr;
    show_connection(connection);
}

void close_all_connections() {
    dlist_iter iter;
    dlist_foreach(iter, &connections)
        close_connection(dlist_container(Connection, node, iter.cur), Failure{});
}

void show_connection(Connection *connection) {
    if (connection->session < 0)
        return;
    const void *shown = connection; // idle, with a transaction or without
    Activity activity = connection->depth > 0 ? Activity::kIdleInTransaction : Activity::kIdle;
    const char *query = nullptr;
    int64 shard_id = 0;
    const dlist_head *list =
        connection->phase == Phase::kConnecting ? &connection->queue : &connection->under_way;
    if (!dlist_is_empty(const_cast<dlist_head *>(list))) {
        const Entry *entry = dlist_head_element(Entry, node, const_cast<dlist_head *>(list));
        activity =
            connection->phase == Phase::kConnecting ? Activity::kConnecting : Activity::kActive;
        shown = entry;
        query = entry->sql;
        shard_id = entry->shard_id;
    }
    if (shown == connection->shown && activity == connection->shown_as)
        return;
    connection->shown = shown;
    connection->shown_as = activity;
    show_activity(connection->session, activity, query, shard_id);
}

} // namespace panvel
