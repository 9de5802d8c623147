// Ending what runs on workers. libpq's PQcancel() blocks; instead pg_cancel_backend() is called
// over a second connection to the node, in the same wait loop as everything else.
//
// One cancel ends one statement, and the groups sent behind it then run: it is repeated until
// nothing is under way. The connection is not used again before the last pg_cancel_backend() has
// answered, so that a late cancel hits no later statement.
#include "coordinator/remote/connection.h"

namespace panvel {
namespace {

constexpr int kRepeat_ms = 10;
// What runs may end by itself for this long before it is cancelled: a connection to the node costs
// about as much, and most scans that nobody reads on are nearly through.
constexpr int kGrace_ms = 10;
// A server that leaves the monitor waiting for this long will not cancel anything soon either.
constexpr int kSilence_ms = 250;

enum class Step { kConnecting, kAsking, kPause, kFailed };

struct Canceller {
    Watched watched;
    dlist_node node;
    Connection *target;
    Step step;
};

dlist_head cancellers = DLIST_STATIC_INIT(cancellers);

void stop(Canceller *canceller) {
    if (canceller->watched.pg == nullptr)
        return;
    unwatch(&canceller->watched);
    PQfinish(canceller->watched.pg);
    canceller->watched.pg = nullptr;
    canceller->step = Step::kFailed;
}

void ask(Canceller *canceller) {
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", PQbackendPID(canceller->target->watched.pg));
    const char *values[] = {pid};
    canceller->step = Step::kAsking;
    if (!PQsendQueryParams(canceller->watched.pg, "SELECT pg_catalog.pg_cancel_backend($1)", 1,
                           nullptr, values, nullptr, nullptr, 0))
        stop(canceller);
}

void connect_further(Canceller *canceller) {
    PostgresPollingStatusType status = PQconnectPoll(canceller->watched.pg);
    watched_changed();
    canceller->watched.wants_write = canceller->watched.only_write =
        status == PGRES_POLLING_WRITING;
    if (status == PGRES_POLLING_FAILED)
        stop(canceller);
    else if (status == PGRES_POLLING_OK && PQsetnonblocking(canceller->watched.pg, 1) == 0)
        ask(canceller);
}

void canceller_ready(Watched *watched) {
    Canceller *canceller = reinterpret_cast<Canceller *>(watched);
    if (canceller->step == Step::kConnecting) {
        connect_further(canceller);
        return;
    }
    if (!PQconsumeInput(watched->pg)) {
        stop(canceller);
        return;
    }
    while (canceller->step == Step::kAsking && !PQisBusy(watched->pg)) {
        PGresult *result = PQgetResult(watched->pg);
        if (result == nullptr)
            canceller->step = Step::kPause;
        PQclear(result);
    }
}

void start_canceller(Connection *target) {
    auto *canceller =
        static_cast<Canceller *>(MemoryContextAllocZero(remote_context, sizeof(Canceller)));
    canceller->target = target;
    canceller->watched.ready = canceller_ready;
    canceller->step = Step::kFailed;
    dlist_push_tail(&cancellers, &canceller->node);
    PGconn *pg = start_auxiliary(target);
    if (pg == nullptr)
        return;
    canceller->watched.pg = pg;
    canceller->watched.wants_write = canceller->watched.only_write = true;
    canceller->step = Step::kConnecting;
    watch(&canceller->watched);
}

// Control runs to its end, but for level 0.
bool concerns(const Entry *entry, int level) {
    return (level == 0 || entry->kind != EntryKind::kControl) && entry->level >= level;
}

// Running statements of the level.
bool has_running(const Connection *connection, int level) {
    dlist_iter iter;
    dlist_foreach(iter, const_cast<dlist_head *>(&connection->under_way)) {
        if (concerns(dlist_container(Entry, node, iter.cur), level))
            return true;
    }
    return false;
}

// What runs first: a statement of an outer level is not the failed one's to end.
bool runs_at_level(const Connection *connection, int level) {
    if (dlist_is_empty(const_cast<dlist_head *>(&connection->under_way)))
        return false;
    const Entry *entry =
        dlist_head_element(Entry, node, const_cast<dlist_head *>(&connection->under_way));
    return concerns(entry, level);
}

void drop_unsent(Connection *connection, int level) {
    Failure failure =
        make_failure(ERRCODE_QUERY_CANCELED, "canceled with its transaction", nullptr);
    dlist_mutable_iter iter;
    dlist_foreach_modify(iter, &connection->queue) {
        Entry *entry = dlist_container(Entry, node, iter.cur);
        if (entry->kind != EntryKind::kControl && entry->level >= level)
            finish_entry(entry, &failure);
    }
    free_failure(&failure);
}

// One round over the cancellers; false when all has ended.
bool drive(int level) {
    bool pending = false;
    dlist_iter iter;
    dlist_foreach(iter, &cancellers) {
        Canceller *canceller = dlist_container(Canceller, node, iter.cur);
        Connection *target = canceller->target;
        bool running = target->phase == Phase::kReady && has_running(target, level);
        if (!running && canceller->step == Step::kConnecting)
            stop(canceller);
        if (running && canceller->step == Step::kPause && runs_at_level(target, level))
            ask(canceller);
        bool late = running && server_is_silent(target->server, kSilence_ms);
        pending |= !late && (running || canceller->step == Step::kAsking);
    }
    return pending;
}

void finish_cancellers(int level) {
    while (!dlist_is_empty(&cancellers)) {
        auto *canceller = dlist_head_element(Canceller, node, &cancellers);
        Connection *target = canceller->target;
        bool late = canceller->step == Step::kAsking;
        stop(canceller);
        dlist_delete(&canceller->node);
        pfree(canceller);
        if (target->phase == Phase::kReady && (late || has_running(target, level))) {
            Failure failure = make_failure(ERRCODE_CONNECTION_FAILURE, nullptr,
                                           "The node did not cancel a statement in time.");
            close_connection(target, failure);
            free_failure(&failure);
        }
    }
}

// False when statements of the level still run at the deadline.
bool wait_for_end(int level, TimestampTz deadline) {
    for (;;) {
        bool running = false;
        dlist_iter iter;
        dlist_foreach(iter, &connections) {
            Connection *connection = dlist_container(Connection, node, iter.cur);
            running |= connection->phase == Phase::kReady && has_running(connection, level);
        }
        if (!running)
            return true;
        if (GetCurrentTimestamp() >= deadline)
            return false;
        wait_for_progress(deadline, false);
    }
}

} // namespace

void cancel_requests(int level, TimestampTz deadline) {
    dlist_iter iter;
    dlist_foreach(iter, &connections) {
        Connection *connection = dlist_container(Connection, node, iter.cur);
        drop_unsent(connection, level);
        Entry *copy = connection->exclusive;
        if (copy != nullptr && copy->stage == Stage::kCopyData && copy->level >= level)
            abort_copy(copy);
        if (connection->phase == Phase::kReady && has_running(connection, level))
            connection_ready(&connection->watched); // perhaps its answer is there
    }
    TimestampTz grace = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kGrace_ms);
    if (wait_for_end(level, Min(deadline, grace)))
        return;
    PG_TRY();
    {
        dlist_foreach(iter, &connections) {
            Connection *connection = dlist_container(Connection, node, iter.cur);
            if (connection->phase == Phase::kReady && has_running(connection, level))
                start_canceller(connection);
        }
        while (drive(level)) {
            TimestampTz now = GetCurrentTimestamp();
            if (now >= deadline)
                break;
            wait_for_progress(Min(deadline, TimestampTzPlusMilliseconds(now, kRepeat_ms)), false);
        }
    }
    PG_FINALLY();
    { finish_cancellers(level); }
    PG_END_TRY();
}

} // namespace panvel
