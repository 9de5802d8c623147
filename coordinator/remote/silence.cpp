// Waits that do not end by themselves: on a server that hangs, and in a deadlock over several
// nodes. A statement may run for as long as it likes: what tells a hung server from a busy one is
// the monitor's own connection to it (coordinator/monitor).
#include "coordinator/monitor/monitor.h"
#include "coordinator/remote/connection.h"

extern "C" {
#include "storage/proc.h"
}

namespace panvel {
namespace {

int64 waited_ms(const Connection *connection) {
    if (dlist_is_empty(const_cast<dlist_head *>(&connection->under_way)))
        return 0;
    const Entry *entry =
        dlist_head_element(Entry, node, const_cast<dlist_head *>(&connection->under_way));
    instr_time now;
    INSTR_TIME_SET_CURRENT(now);
    INSTR_TIME_SUBTRACT(now, entry->sent_at);
    return static_cast<int64>(INSTR_TIME_GET_MILLISEC(now));
}

// Both the monitor and the connection itself have waited long enough. When each began does not
// matter: what arrived while the monitor's question was under way says nothing about later.
bool is_hung(const Connection *connection) {
    int64 limit = node_timeout_ms * INT64CONST(1000);
    return server_is_silent(connection->server, node_timeout_ms) &&
           GetCurrentTimestamp() - connection->watched.heard_at >= limit;
}

void give_up(Connection *connection) {
    char message[NAMEDATALEN + 40];
    char detail[100];
    snprintf(message, sizeof(message), "node \"%s\" does not answer", connection->node_name);
    snprintf(detail, sizeof(detail), "It has been silent for panvel.node_timeout (%d ms).",
             node_timeout_ms);
    Failure failure = make_failure(ERRCODE_CONNECTION_FAILURE, message, detail);
    close_connection(connection, failure);
    free_failure(&failure);
}

} // namespace

void look_after_connections() {
    static TimestampTz next;
    TimestampTz now = GetCurrentTimestamp();
    if (now < next && next - now <= kAttention_ms * INT64CONST(1000))
        return;
    next = TimestampTzPlusMilliseconds(now, kAttention_ms);
    bool long_wait = false;
    dlist_iter iter;
    dlist_foreach(iter, &connections) {
        Connection *connection = dlist_container(Connection, node, iter.cur);
        int64 waited = connection->phase == Phase::kReady ? waited_ms(connection) : 0;
        if (waited < kAttention_ms / 2)
            continue;
        long_wait |= waited >= DeadlockTimeout;
        if (is_hung(connection))
            give_up(connection);
        else
            want_probe(connection->server);
    }
    if (long_wait)
        want_deadlock_search();
}

void check_for_deadlock() {
    char report[kReportSize];
    if (!is_victim(report))
        return;
    ereport(ERROR, (errcode(ERRCODE_T_R_DEADLOCK_DETECTED), errmsg("deadlock detected"),
                    errdetail_internal("%s", report),
                    errhint("See the server logs of the nodes for query details.")));
}

} // namespace panvel
