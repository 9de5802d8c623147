// One wait for everything: the latch, postmaster death, the client's socket, and the sockets of
// all connections, in one set that is kept until a socket comes or goes.
#include "coordinator/remote/connection.h"
#include "extension/pg/compat.h"

// Of the client's Port only the socket, its first member, is used here; the headers of GSSAPI and
// OpenSSL that the rest asks for need not be installed.
#undef ENABLE_GSS
#undef USE_OPENSSL

extern "C" {
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
}

namespace panvel {
namespace {

constexpr int kMaxEvents = 16;
// With TLS a part of a record may wait inside the library, unknown to the socket.
constexpr long kTlsPoll_ms = 50;

dlist_head all_watched = DLIST_STATIC_INIT(all_watched);
WaitEventSet *wait_set;
bool wait_set_valid;
bool postmaster_gone;

uint32 wanted_events(const Watched *watched) {
    if (watched->only_write)
        return WL_SOCKET_WRITEABLE;
    return WL_SOCKET_READABLE | (watched->wants_write ? WL_SOCKET_WRITEABLE : 0);
}

bool watches_client() {
    return MyProcPort != nullptr && MyProcPort->sock != PGINVALID_SOCKET && !ClientConnectionLost &&
           WaitEventSetCanReportClosed();
}

void drop_wait_set() {
    if (wait_set != nullptr)
        FreeWaitEventSet(wait_set);
    wait_set = nullptr;
    wait_set_valid = false;
}

void make_wait_set() {
    drop_wait_set();
    int count = 3;
    dlist_iter iter;
    dlist_foreach(iter, &all_watched) count++;
    wait_set = pg::create_wait_event_set(count);
    AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, nullptr);
    if (!postmaster_gone)
        AddWaitEventToSet(wait_set, WL_POSTMASTER_DEATH, PGINVALID_SOCKET, nullptr, nullptr);
    if (watches_client())
        AddWaitEventToSet(wait_set, WL_SOCKET_CLOSED, MyProcPort->sock, nullptr, nullptr);
    dlist_foreach(iter, &all_watched) {
        Watched *watched = dlist_container(Watched, node, iter.cur);
        watched->events = wanted_events(watched);
        watched->position =
            AddWaitEventToSet(wait_set, watched->events, PQsocket(watched->pg), nullptr, watched);
    }
    wait_set_valid = true;
}

void update_wait_set() {
    if (!wait_set_valid) {
        make_wait_set();
        return;
    }
    dlist_iter iter;
    dlist_foreach(iter, &all_watched) {
        Watched *watched = dlist_container(Watched, node, iter.cur);
        uint32 events = wanted_events(watched);
        if (events == watched->events)
            continue;
        ModifyWaitEvent(wait_set, watched->position, events, nullptr);
        watched->events = events;
    }
}

// Milliseconds to wait at most, -1 for ever.
long timeout_until(TimestampTz deadline, bool *connecting, bool *tls) {
    TimestampTz first = deadline;
    bool busy = false;
    *connecting = *tls = false;
    dlist_iter iter;
    dlist_foreach(iter, &connections) {
        Connection *connection = dlist_container(Connection, node, iter.cur);
        if (connection->phase == Phase::kConnecting) {
            *connecting = true;
            if (first == 0 || connection->deadline < first)
                first = connection->deadline;
        } else if (connection->phase == Phase::kReady && !dlist_is_empty(&connection->under_way)) {
            busy = true;
            *tls |= PQsslInUse(connection->watched.pg) != 0;
        }
    }
    long timeout = -1;
    if (first != 0)
        timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), first);
    auto at_most = [&timeout](long limit) {
        if (timeout < 0 || timeout > limit)
            timeout = limit;
    };
    if (busy)
        at_most(kAttention_ms);
    if (*tls)
        at_most(kTlsPoll_ms);
    return timeout;
}

void expire_connecting() {
    TimestampTz now = GetCurrentTimestamp();
    dlist_iter iter;
    dlist_foreach(iter, &connections) {
        Connection *connection = dlist_container(Connection, node, iter.cur);
        if (connection->phase == Phase::kConnecting && now >= connection->deadline)
            connection_failed(connection, "timeout expired");
    }
}

void poke_tls() {
    dlist_iter iter;
    dlist_foreach(iter, &connections) {
        Connection *connection = dlist_container(Connection, node, iter.cur);
        if (connection->phase == Phase::kReady && PQsslInUse(connection->watched.pg))
            connection_ready(&connection->watched);
    }
}

bool still_watched(const Watched *watched) {
    dlist_iter iter;
    dlist_foreach(iter, &all_watched) {
        if (dlist_container(Watched, node, iter.cur) == watched)
            return true;
    }
    return false;
}

// A backend outlives its postmaster until it next waits for its client. Not WL_EXIT_ON_PM_DEATH:
// leaving in the middle of a commit or abort would be a PANIC.
void exit_without_postmaster(bool interruptible) {
    if (postmaster_gone && interruptible)
        proc_exit(1);
}

void act_on(const WaitEvent &event, bool interruptible) {
    if (event.events & WL_LATCH_SET) {
        ResetLatch(MyLatch);
    } else if (event.events & WL_SOCKET_CLOSED) {
        ClientConnectionLost = true;
        InterruptPending = true;
        wait_set_valid = false;
    } else if (event.events & WL_POSTMASTER_DEATH) {
        postmaster_gone = true;
        wait_set_valid = false;
        exit_without_postmaster(interruptible);
    } else if (event.user_data != nullptr) {
        Watched *watched = static_cast<Watched *>(event.user_data);
        if (!still_watched(watched))
            return;
        if (event.events & WL_SOCKET_READABLE)
            watched->heard_at = GetCurrentTimestamp();
        watched->ready(watched);
    }
    if (interruptible)
        CHECK_FOR_INTERRUPTS();
}

} // namespace

void watch(Watched *watched) {
    dlist_push_tail(&all_watched, &watched->node);
    wait_set_valid = false;
}

void unwatch(Watched *watched) {
    dlist_delete(&watched->node);
    drop_wait_set(); // before the socket is closed
}

void watched_changed() {
    wait_set_valid = false;
}

void wait_for_progress(TimestampTz deadline, bool interruptible) {
    exit_without_postmaster(interruptible);
    if (interruptible)
        CHECK_FOR_INTERRUPTS();
    update_wait_set();
    bool connecting;
    bool tls;
    long timeout = timeout_until(deadline, &connecting, &tls);
    WaitEvent events[kMaxEvents];
    int count = WaitEventSetWait(wait_set, timeout, events, kMaxEvents, PG_WAIT_EXTENSION);
    for (int i = 0; i < count; i++)
        act_on(events[i], interruptible);
    if (tls && count == 0)
        poke_tls();
    if (connecting)
        expire_connecting();
    look_after_connections();
    if (interruptible) {
        CHECK_FOR_INTERRUPTS();
        check_for_deadlock();
    }
}

} // namespace panvel
