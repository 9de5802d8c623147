// Requests: what users of remote.h hold of a statement under way.
#include "coordinator/remote/remote.h"

#include "coordinator/remote/connection.h"
#include "coordinator/remote/start.h"
#include "coordinator/transaction/doubt.h"

extern "C" {
#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/guc.h"
}

namespace panvel {

// The requests of one memory context; discarded when it is reset.
struct Anchor {
    dlist_node node; // in anchors
    MemoryContext context;
    dlist_head requests;
    MemoryContextCallback callback;
};

struct RemoteRequest {
    dlist_node node; // in Anchor::requests
    Entry *entry;    // while under way
    bool done;
    PGresult *result; // success, or the remote server's error
    Failure failure;  // else
    int64 elapsed;
    int32 node_id;
    char node_name[NAMEDATALEN];
};

namespace {

dlist_head anchors = DLIST_STATIC_INIT(anchors);
uint64 name_counter;
bool exit_callback_registered;

constexpr const char *kInDoubt = "the node holds transactions in doubt";

void discard(RemoteRequest *request) {
    dlist_delete(&request->node);
    if (request->entry != nullptr)
        request->entry->request = nullptr;
    PQclear(request->result);
    free_failure(&request->failure);
    pfree(request);
}

void context_reset(void *argument) {
    Anchor *anchor = static_cast<Anchor *>(argument);
    while (!dlist_is_empty(&anchor->requests))
        discard(dlist_head_element(RemoteRequest, node, &anchor->requests));
    dlist_delete(&anchor->node);
}

Anchor *current_anchor() {
    dlist_iter iter;
    dlist_foreach(iter, &anchors) {
        Anchor *anchor = dlist_container(Anchor, node, iter.cur);
        if (anchor->context == CurrentMemoryContext) {
            dlist_move_head(&anchors, &anchor->node);
            return anchor;
        }
    }
    Anchor *anchor = static_cast<Anchor *>(palloc0(sizeof(Anchor)));
    anchor->context = CurrentMemoryContext;
    dlist_init(&anchor->requests);
    anchor->callback.func = context_reset;
    anchor->callback.arg = anchor;
    dlist_push_head(&anchors, &anchor->node);
    MemoryContextRegisterResetCallback(CurrentMemoryContext, &anchor->callback);
    return anchor;
}

RemoteRequest *make_request(int32 node_id) {
    Anchor *anchor = current_anchor();
    RemoteRequest *request =
        static_cast<RemoteRequest *>(MemoryContextAllocZero(remote_context, sizeof(RemoteRequest)));
    request->node_id = node_id;
    dlist_push_tail(&anchor->requests, &request->node);
    return request;
}

void close_at_exit(int, Datum) {
    close_all_connections();
}

void check_callable() {
    if (IsParallelWorker())
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("a parallel worker cannot run statements on other nodes")));
    if (!exit_callback_registered) {
        on_proc_exit(close_at_exit, 0);
        exit_callback_registered = true;
    }
}

bool has_transaction(const Connection *connection) {
    if (connection->depth > 0)
        return true;
    bool found = false;
    auto look = [&found](const dlist_head *list) {
        dlist_iter iter;
        dlist_foreach(iter, const_cast<dlist_head *>(list)) found |=
            dlist_container(Entry, node, iter.cur)->needs_transaction;
    };
    look(&connection->under_way);
    look(&connection->queue);
    return found;
}

// Why nobody may read from the node: what is in doubt there, unless recovery cannot even ask it.
Failure failure_of_doubt(int32 node_id) {
    char reason[kErrorSize];
    if (server_is_gone(server_of_node(node_id), reason))
        return make_failure(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, nullptr, reason);
    return make_failure(ERRCODE_CONNECTION_FAILURE, kInDoubt,
                        "A committed transaction may not be visible there yet.");
}

// The lowest nesting level at which something happened; 0 before it has.
void note_level(int *lowest, int level) {
    if (*lowest == 0 || *lowest > level)
        *lowest = level;
}

RemoteRequest *submit(int32 node_id, EntryKind kind, const RemoteStatement *statement,
                      const char *data, size_t size) {
    check_callable();
    bool outside = statement->effect == Effect::kNoTransaction;
    bool certain = outside || statement->may_be_stale || wait_until_certain(node_id);
    RemoteRequest *request = make_request(node_id);
    if (!certain) {
        strlcpy(request->node_name, get_node(node_id)->name, NAMEDATALEN);
        request->failure = failure_of_doubt(node_id);
        request->done = true;
        return request;
    }
    Failure failure = {};
    Connection *connection = connection_to(node_id, !outside, &failure);
    strlcpy(request->node_name, connection->node_name, NAMEDATALEN);
    if (connection->phase == Phase::kClosed && failure.sqlstate == 0)
        failure = make_failure(ERRCODE_CONNECTION_FAILURE, nullptr,
                               "It was lost earlier in this transaction.");
    if (failure.sqlstate != 0) {
        request->failure = failure;
        request->done = true;
        return request;
    }
    if (outside && has_transaction(connection))
        ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                        errmsg("a statement that cannot run inside a transaction is to run on node "
                               "\"%s\", where this transaction has begun",
                               connection->node_name)));

    const Settings *settings = statement->search_path != nullptr
                                   ? settings_with_search_path(statement->search_path)
                                   : hold_settings(current_settings());
    Entry *entry = make_entry(connection, kind, statement->sql, statement->params, data, size);
    entry->request = request;
    request->entry = entry;
    entry->effect = statement->effect;
    entry->pipelined = kind == EntryKind::kStatement && !outside;
    entry->needs_transaction =
        !outside && (statement->effect != Effect::kReadOnce || IsolationUsesXactSnapshot());
    entry->read_only = XactReadOnly;
    entry->keep_prepared = statement->keep_prepared && entry->pipelined;
    entry->binary_results = statement->binary_results;
    entry->retryable = !outside;
    entry->guarded = statement->guarded;
    entry->level = GetCurrentTransactionNestLevel();
    entry->shard_id = statement->shard_id;
    entry->settings = settings;
    connection->used = true;
    if (statement->effect == Effect::kWrite)
        note_level(&connection->write_level, entry->level);
    if (statement->effect == Effect::kLock)
        note_level(&connection->lock_level, entry->level);
    enqueue(entry);
    if (statement->guarded)
        send_guard_end(connection);
    return request;
}

} // namespace

void deliver(RemoteRequest *request, PGresult *result, const Failure *failure, int64 elapsed) {
    request->entry = nullptr;
    request->done = true;
    request->result = result;
    request->elapsed = elapsed;
    if (failure != nullptr)
        request->failure =
            make_failure(failure->sqlstate != 0 ? failure->sqlstate : ERRCODE_CONNECTION_FAILURE,
                         failure->message, failure->detail);
    else if (result == nullptr)
        request->failure =
            make_failure(ERRCODE_CONNECTION_FAILURE, nullptr, "The node sent no result.");
}

RemoteRequest *remote_send(int32 node_id, const RemoteStatement *statement) {
    return submit(node_id, EntryKind::kStatement, statement, nullptr, 0);
}

RemoteRequest *remote_send_copy(int32 node_id, const char *copy_sql, const char *data,
                                size_t size) {
    RemoteStatement statement = {copy_sql, nullptr, Effect::kWrite, false, false};
    return submit(node_id, EntryKind::kCopy, &statement, data, size);
}

PGresult *remote_wait(RemoteRequest *request) {
    while (!request->done)
        wait_for_progress(0, true);
    if (ErrorData *error = remote_error(request); error != nullptr)
        ThrowErrorData(error);
    return request->result;
}

int remote_wait_any(RemoteRequest *const *requests, int count, TimestampTz deadline) {
    for (;;) {
        bool any = false;
        for (int i = 0; i < count; i++) {
            if (requests[i] == nullptr)
                continue;
            if (requests[i]->done)
                return i;
            any = true;
        }
        if (!any || (deadline != 0 && GetCurrentTimestamp() >= deadline))
            return -1;
        wait_for_progress(deadline, true);
    }
}

bool remote_done(const RemoteRequest *request) {
    return request->done;
}

bool remote_poll(RemoteRequest *request) {
    if (request->done)
        return true;
    Connection *connection = request->entry->connection;
    if (connection->phase == Phase::kReady)
        connection_ready(&connection->watched);
    else
        wait_for_progress(GetCurrentTimestamp(), true); // of a connection's start, without a wait
    return request->done;
}

ErrorData *remote_error(RemoteRequest *request) {
    if (!request->done)
        return nullptr;
    if (request->failure.sqlstate != 0)
        return error_of_failure(request->failure, request->node_name);
    if (PQresultStatus(request->result) == PGRES_FATAL_ERROR)
        return error_of_result(request->result, request->node_name);
    return nullptr;
}

bool is_node_failure(int sqlstate) {
    return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_CONNECTION_EXCEPTION ||
           sqlstate == ERRCODE_ADMIN_SHUTDOWN || sqlstate == ERRCODE_CRASH_SHUTDOWN ||
           sqlstate == ERRCODE_CANNOT_CONNECT_NOW;
}

void remote_release(RemoteRequest *request) {
    discard(request);
}

int64 remote_elapsed(const RemoteRequest *request) {
    return request->elapsed;
}

int32 remote_node(const RemoteRequest *request) {
    return request->node_id;
}

int64 remote_affected(PGresult *result) {
    const char *tuples = PQcmdTuples(result);
    return *tuples != '\0' ? strtoll(tuples, nullptr, 10) : 0;
}

void remote_execute_on_nodes(List *node_ids, const char *sql, Effect effect) {
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "panvel statement on nodes",
                                                  ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    RemoteStatement statement = {sql, nullptr, effect, false, false};
    List *requests = NIL;
    ListCell *cell;
    foreach (cell, node_ids)
        requests = lappend(requests, remote_send(lfirst_int(cell), &statement));
    MemoryContextSwitchTo(before);
    foreach (cell, requests)
        remote_wait(static_cast<RemoteRequest *>(lfirst(cell)));
    MemoryContextDelete(context);
}

char *remote_unique_name(const char *prefix) {
    return psprintf("%s_" UINT64_FORMAT, prefix, ++name_counter);
}

void init_remote() {
    remote_context =
        AllocSetContextCreate(TopMemoryContext, "panvel remote", ALLOCSET_DEFAULT_SIZES);
    DefineCustomIntVariable(
        "panvel.connect_timeout", "How long a connection to a node may take to be made.", nullptr,
        &connect_timeout_ms, 2000, 10, 600000, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "panvel.node_timeout", "How long a node may leave a transaction's end unanswered.",
        "Likewise to the monitor before a statement on it fails, and how long sent data may stay "
        "unacknowledged before a connection counts as lost.",
        &node_timeout_ms, 5000, 10, 600000, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "panvel.max_connections_per_node",
        "How many connections to one node, of different roles, a session keeps open.", nullptr,
        &max_connections_per_node, 2, 1, 1000, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    init_start();
}

} // namespace panvel
