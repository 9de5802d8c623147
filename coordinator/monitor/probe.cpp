#include "coordinator/monitor/probe.h"

#include "coordinator/monitor/deadlock.h"
#include "coordinator/remote/start.h"

namespace panvel {
namespace {

constexpr int kPeriod_ms = 1000;
// A wish to have it asked now is granted after this pause.
constexpr int kShortestPause_ms = 100;
// Between looks at a question that has no answer.
constexpr int kLook_ms = 100;
// Between attempts to connect to a server that refuses the monitor in particular.
constexpr int kRefusedPause_ms = 5000;

TimestampTz after(TimestampTz from, int milliseconds) {
    return TimestampTzPlusMilliseconds(from, milliseconds);
}

int64 in_this_step(const ServerProbe *probe) {
    return Max(GetCurrentTimestamp() - probe->step_since, 0);
}

void go_to(ServerProbe *probe, ProbeStep step) {
    probe->step = step;
    probe->step_since = GetCurrentTimestamp();
}

void close_probe(ServerProbe *probe) {
    if (probe->lookup != nullptr)
        abandon_lookup(probe->lookup);
    probe->lookup = nullptr;
    if (probe->watched.pg != nullptr) {
        unwatch(&probe->watched);
        PQfinish(probe->watched.pg);
        probe->watched.pg = nullptr;
    }
    probe->waits_done = true;
    go_to(probe, ProbeStep::kPause);
}

// What a server answers to an attempt to connect, as PQERRORS_VERBOSE has it: "FATAL:  57P03: ...".
// False when `text` is libpq's own.
bool server_said(const char *text, char *sqlstate) {
    for (const char *c = strstr(text, ":  "); c != nullptr; c = strstr(c + 1, ":  ")) {
        if (strspn(c + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && c[8] == ':') {
            strlcpy(sqlstate, c + 3, 6);
            return true;
        }
    }
    return false;
}

// The first line, without what PQERRORS_VERBOSE adds.
void tidy(const char *text, const char *sqlstate, char *line) {
    const char *code = *sqlstate != '\0' ? strstr(text, sqlstate) : nullptr;
    if (code != nullptr)
        text = code + 7;
    strlcpy(line, text, kErrorSize);
    line[strcspn(line, "\n")] = '\0';
}

// A server that does not let the monitor in, but is there.
bool lives(const char *sqlstate, PGconn *pg) {
    if (*sqlstate == '\0')
        return PQconnectionNeedsPassword(pg) != 0;
    return strncmp(sqlstate, "57P", 3) != 0; // starting up, shutting down, crashing
}

void connecting_failed(ServerProbe *probe) {
    char sqlstate[6] = "";
    char line[kErrorSize];
    server_said(PQerrorMessage(probe->watched.pg), sqlstate);
    tidy(PQerrorMessage(probe->watched.pg), sqlstate, line);
    bool alive = lives(sqlstate, probe->watched.pg);
    report_probe(probe->server, alive ? Probe::kAnswered : Probe::kRefused, in_this_step(probe),
                 line);
    close_probe(probe);
    probe->failures++;
    probe->next = after(GetCurrentTimestamp(),
                        alive ? kRefusedPause_ms : Min(kPeriod_ms, 100 * probe->failures));
}

void begin_connecting(ServerProbe *probe, const char *addresses) {
    Target target = {probe->host, probe->port, probe->dbname, probe->role};
    const char *error = nullptr;
    PGconn *pg = start_libpq(target, addresses, "panvel monitor", &error);
    if (pg == nullptr) {
        close_probe(probe);
        probe->next = after(GetCurrentTimestamp(), kPeriod_ms);
        return;
    }
    report_probe(probe->server, Probe::kAsked, 0, nullptr);
    PQsetErrorVerbosity(pg, PQERRORS_VERBOSE);
    PQsetNoticeProcessor(
        pg, [](void *, const char *) {}, nullptr);
    probe->watched.pg = pg;
    if (PQstatus(pg) == CONNECTION_BAD) {
        probe->watched.pg = nullptr;
        report_probe(probe->server, Probe::kRefused, 0, PQerrorMessage(pg));
        PQfinish(pg);
        close_probe(probe);
        probe->next = after(GetCurrentTimestamp(), kPeriod_ms);
        return;
    }
    probe->watched.wants_write = probe->watched.only_write = true;
    watch(&probe->watched);
}

void start(ServerProbe *probe) {
    go_to(probe, ProbeStep::kConnecting);
    if (is_socket_directory(probe->host)) {
        begin_connecting(probe, nullptr);
        return;
    }
    if (is_numeric_address(probe->host)) {
        begin_connecting(probe, probe->host);
        return;
    }
    const char *error = nullptr;
    go_to(probe, ProbeStep::kResolving);
    probe->lookup = start_lookup(probe->host, &error);
    if (probe->lookup == nullptr) {
        report_probe(probe->server, Probe::kRefused, 0, error);
        close_probe(probe);
        probe->next = after(GetCurrentTimestamp(), kPeriod_ms);
    }
}

// A name that has no address now is no server; one that takes long is gone.
void resolve(ServerProbe *probe) {
    int64 cost = in_this_step(probe);
    if (!lookup_done(probe->lookup)) {
        if (cost < connect_timeout_ms * INT64CONST(1000))
            return;
        report_probe(probe->server, Probe::kTimedOut, cost, "name resolution timed out");
        close_probe(probe);
        probe->next = after(GetCurrentTimestamp(), kPeriod_ms);
        return;
    }
    StringInfoData addresses;
    initStringInfo(&addresses);
    const char *error = nullptr;
    int count = finish_lookup(probe->lookup, &addresses, &error);
    probe->lookup = nullptr;
    if (count > 0) {
        go_to(probe, ProbeStep::kConnecting);
        begin_connecting(probe, addresses.data);
    } else {
        report_probe(probe->server, Probe::kRefused, cost, error);
        close_probe(probe);
        probe->next = after(GetCurrentTimestamp(), kPeriod_ms);
    }
    pfree(addresses.data);
}

void connect_further(ServerProbe *probe) {
    PostgresPollingStatusType status = PQconnectPoll(probe->watched.pg);
    watched_changed();
    probe->watched.wants_write = probe->watched.only_write = status == PGRES_POLLING_WRITING;
    if (status == PGRES_POLLING_FAILED) {
        connecting_failed(probe);
    } else if (status == PGRES_POLLING_OK) {
        PQsetnonblocking(probe->watched.pg, 1);
        PQsetErrorVerbosity(probe->watched.pg, PQERRORS_DEFAULT);
        report_probe(probe->server, Probe::kAnswered, 0, "");
        probe->failures = 0;
        go_to(probe, ProbeStep::kIdle);
        probe->next = after(GetCurrentTimestamp(), kPeriod_ms);
    }
}

// The connection ended: that alone says little, because a session may be terminated. The next
// attempt, at once, tells how the server is.
void lost(ServerProbe *probe) {
    close_probe(probe);
    probe->next = GetCurrentTimestamp();
}

void read_answer(ServerProbe *probe) {
    bool usable = PQconsumeInput(probe->watched.pg) != 0;
    while (usable &&
           (probe->step == ProbeStep::kAsking || probe->step == ProbeStep::kAskingWaits) &&
           !PQisBusy(probe->watched.pg)) {
        PGresult *result = PQgetResult(probe->watched.pg);
        if (result != nullptr) {
            if (probe->step == ProbeStep::kAskingWaits)
                add_waits(probe->server, result);
            PQclear(result);
            continue;
        }
        if (PQstatus(probe->watched.pg) != CONNECTION_OK)
            break;
        report_probe(probe->server, Probe::kAnswered, 0, "");
        probe->waits_done |= probe->step == ProbeStep::kAskingWaits;
        go_to(probe, ProbeStep::kIdle);
        probe->next = after(GetCurrentTimestamp(), kPeriod_ms);
    }
    if (!usable || PQstatus(probe->watched.pg) != CONNECTION_OK)
        lost(probe);
}

void probe_ready(Watched *watched) {
    ServerProbe *probe = reinterpret_cast<ServerProbe *>(watched);
    if (probe->step == ProbeStep::kConnecting)
        connect_further(probe);
    else
        read_answer(probe);
}

void ask(ServerProbe *probe) {
    bool waits = probe->waits_wanted;
    probe->waits_wanted = false;
    go_to(probe, waits ? ProbeStep::kAskingWaits : ProbeStep::kAsking);
    report_probe(probe->server, Probe::kAsked, 0, nullptr);
    if (!PQsendQueryParams(probe->watched.pg, waits ? kWaitQuery : "SELECT 1", 0, nullptr, nullptr,
                           nullptr, nullptr, 0) ||
        PQflush(probe->watched.pg) != 0)
        lost(probe);
}

// Whether a question has waited so long that another connection is to be tried: this one may be
// broken while the server is well. Each time twice as long, so that a stopped server does not find
// hundreds of them when it goes on.
bool is_overdue(const ServerProbe *probe) {
    int64 limit = probe->step == ProbeStep::kConnecting ? connect_timeout_ms : node_timeout_ms / 2;
    limit = Min(limit << Min(probe->failures, 5), 30000);
    return in_this_step(probe) >= limit * 1000;
}

void look_at_question(ServerProbe *probe) {
    report_probe(probe->server, Probe::kNothing, 0, nullptr);
    if (!is_overdue(probe))
        return;
    if (probe->step == ProbeStep::kConnecting)
        report_probe(probe->server, Probe::kTimedOut, in_this_step(probe), "timeout expired");
    else
        report_probe(probe->server, Probe::kNothing, 0, "no answer");
    close_probe(probe);
    probe->failures++;
    probe->next = GetCurrentTimestamp();
}

} // namespace

ServerProbe *make_probe(const ServerState &server) {
    auto *probe =
        static_cast<ServerProbe *>(MemoryContextAllocZero(remote_context, sizeof(ServerProbe)));
    probe->watched.ready = probe_ready;
    probe->server = server.handle;
    strlcpy(probe->host, server.host, kHostSize);
    strlcpy(probe->dbname, server.dbname, NAMEDATALEN);
    strlcpy(probe->role, server.role, NAMEDATALEN);
    probe->port = server.port;
    probe->waits_done = true;
    go_to(probe, ProbeStep::kPause);
    return probe;
}

void free_probe(ServerProbe *probe) {
    close_probe(probe);
    pfree(probe);
}

TimestampTz drive_probe(ServerProbe *probe, bool at_once) {
    TimestampTz now = GetCurrentTimestamp();
    switch (probe->step) {
    case ProbeStep::kPause:
        if (now >= probe->next || (at_once && now >= after(probe->step_since, kShortestPause_ms)))
            start(probe);
        break;
    case ProbeStep::kResolving:
        resolve(probe);
        break;
    case ProbeStep::kIdle:
        if (now >= probe->next || probe->waits_wanted ||
            (at_once && now >= after(probe->step_since, kShortestPause_ms)))
            ask(probe);
        else if (at_once)
            probe->next = Min(probe->next, after(probe->step_since, kShortestPause_ms));
        break;
    case ProbeStep::kConnecting:
    case ProbeStep::kAsking:
    case ProbeStep::kAskingWaits:
        look_at_question(probe);
        break;
    }
    bool waiting = probe->step != ProbeStep::kPause && probe->step != ProbeStep::kIdle;
    return waiting ? after(now, probe->step == ProbeStep::kResolving ? 20 : kLook_ms) : probe->next;
}

} // namespace panvel
