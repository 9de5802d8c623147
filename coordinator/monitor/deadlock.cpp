#include "coordinator/monitor/deadlock.h"

#include "coordinator/monitor/sessions.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "catalog/pg_type_d.h"
#include "lib/stringinfo.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
}

namespace panvel {

const char *const kWaitQuery =
    "SELECT coalesce(a.leader_pid, w.pid), w.since, b.pid "
    "FROM (SELECT DISTINCT pid, (EXTRACT(epoch FROM waitstart) * 1000000)::pg_catalog.int8 AS "
    "since "
    "FROM pg_catalog.pg_locks WHERE NOT granted AND waitstart IS NOT NULL) w "
    "JOIN pg_catalog.pg_stat_activity a ON a.pid = w.pid, "
    "LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) b (pid) WHERE b.pid <> 0";

namespace {

struct Samples {
    std::vector<Wait> last; // complete
    bool has_last = false;
    std::vector<Wait> now; // being taken; parties still as the servers know them
};

Samples &samples() {
    static Samples *all = new Samples; // lives as long as the process
    return *all;
}

// What shared memory says at the moment, in PostgreSQL's memory.
struct Known {
    RemoteSession *sessions;
    int session_count;
    BackendState *backends;
    int backend_count;
};

Known read_known() {
    Known known;
    known.session_count = list_sessions(&known.sessions);
    known.backend_count = list_backends(&known.backends);
    return known;
}

// A worker's session that is a connection of ours is the backend that it belongs to.
Party whose(const Known &known, int server, int pid) {
    for (int i = 0; i < known.session_count; i++)
        if (known.sessions[i].server.index == server && known.sessions[i].remote_pid == pid)
            return {kHere, known.sessions[i].pid};
    return {server, pid};
}

const BackendState *backend_of(const Known &known, const Party &party) {
    for (int i = 0; party.server == kHere && i < known.backend_count; i++)
        if (known.backends[i].pid == party.pid)
            return &known.backends[i];
    return nullptr;
}

struct LocalWait {
    int pid;
    int64 since;
    int *blockers;
    int count;
};

// The waits for locks of this server, palloc'd.
int local_waits(LocalWait **waits) {
    LockData *locks = GetLockStatusData();
    *waits = palloc_array(LocalWait, Max(1, locks->nelements));
    int count = 0;
    for (int i = 0; i < locks->nelements; i++) {
        const LockInstanceData *lock = &locks->locks[i];
        if (lock->waitLockMode == NoLock || lock->waitStart == 0)
            continue;
        Datum blocking = DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(lock->pid));
        ArrayType *pids = DatumGetArrayTypeP(blocking);
        LocalWait *wait = &(*waits)[count++];
        wait->pid = lock->leaderPid;
        wait->since = lock->waitStart;
        wait->count = ArrayGetNItems(ARR_NDIM(pids), ARR_DIMS(pids));
        wait->blockers = reinterpret_cast<int *>(ARR_DATA_PTR(pids));
    }
    return count;
}

void add_local_waits() {
    LocalWait *waits;
    int count = local_waits(&waits);
    pg::core([&] {
        for (int i = 0; i < count; i++)
            for (int j = 0; j < waits[i].count; j++)
                if (waits[i].blockers[j] != 0)
                    samples().now.push_back({{kHere, waits[i].pid},
                                             {kHere, waits[i].blockers[j]},
                                             kHere,
                                             waits[i].since,
                                             waits[i].pid,
                                             waits[i].blockers[j]});
    });
}

const char *place_name(const Known &known, int place) {
    for (int i = 0; i < known.session_count; i++)
        if (known.sessions[i].server.index == place)
            return known.sessions[i].node_name;
    return "?";
}

void describe_party(StringInfo text, const Known &known, const Party &party) {
    if (party.server == kHere)
        appendStringInfo(text, "process %d", party.pid);
    else
        appendStringInfo(text, "process %d of node \"%s\"", party.pid,
                         place_name(known, party.server));
}

char *describe(const Known &known, const Wait *circle, int count) {
    StringInfoData text;
    initStringInfo(&text);
    for (int i = 0; i < count; i++) {
        if (i > 0)
            appendStringInfoChar(&text, '\n');
        describe_party(&text, known, circle[i].waiter);
        appendStringInfoString(&text, " waits for ");
        describe_party(&text, known, circle[i].blocker);
        if (circle[i].place == kHere)
            appendStringInfoString(&text, " on the coordinator.");
        else
            appendStringInfo(&text, " on node \"%s\".", place_name(known, circle[i].place));
    }
    text.data[0] = static_cast<char>(toupper(static_cast<unsigned char>(text.data[0])));
    return text.data;
}

// A circle and who is to leave it.
struct Found {
    Wait *circle; // palloc'd
    int length;   // 0: no circle
    const BackendState *victim;
};

// The next circle of `waits`; its victim's waits are taken out of them.
Found next_circle(const Known &known, std::vector<Wait> &waits) {
    Found found = {};
    std::vector<Wait> circle = find_circle(waits);
    if (circle.empty())
        return found;
    auto victim = choose_victim(circle, [&](const Party &party) -> std::optional<int64_t> {
        const BackendState *backend = backend_of(known, party);
        return backend ? std::optional<int64_t>(backend->started) : std::nullopt;
    });
    found.length = static_cast<int>(circle.size());
    found.circle = pg::call([&] { return palloc_array(Wait, found.length); });
    std::copy(circle.begin(), circle.end(), found.circle);
    Party leaves = victim.value_or(circle.front().waiter);
    found.victim = victim ? backend_of(known, *victim) : nullptr;
    std::erase_if(waits, [&](const Wait &wait) { return wait.waiter == leaves; });
    return found;
}

// Parties as backends of this coordinator, where they are.
void identify(const Known &known, std::vector<Wait> &waits) {
    for (Wait &wait : waits) {
        wait.waiter = whose(known, wait.waiter.server, wait.waiter.pid);
        wait.blocker = whose(known, wait.blocker.server, wait.blocker.pid);
    }
}

} // namespace

void begin_sample() {
    samples().now.clear();
}

void add_waits(ServerHandle server, const PGresult *answer) {
    if (PQresultStatus(answer) != PGRES_TUPLES_OK || PQnfields(answer) != 3)
        return;
    pg::core([&] {
        for (int row = 0; row < PQntuples(answer); row++) {
            int waiter = atoi(PQgetvalue(answer, row, 0));
            int64_t since = strtoll(PQgetvalue(answer, row, 1), nullptr, 10);
            int blocker = atoi(PQgetvalue(answer, row, 2));
            samples().now.push_back({{server.index, waiter},
                                     {server.index, blocker},
                                     server.index,
                                     since,
                                     waiter,
                                     blocker});
        }
    });
}

bool end_sample() {
    add_local_waits();
    Known known = read_known();
    bool confirmed = samples().has_last;
    pg::core([&] {
        Samples &all = samples();
        identify(known, all.now);
        std::vector<Wait> waits =
            attended_waits(confirmed ? lasting_waits(all.last, all.now) : all.now);
        std::swap(all.last, all.now);
        all.has_last = true;
        std::swap(all.now, waits);
    });
    bool any = false;
    for (;;) {
        Found found = pg::core([&] { return next_circle(known, samples().now); });
        if (found.length == 0)
            break;
        any = true;
        if (confirmed && found.victim != nullptr)
            choose_as_victim(*found.victim, describe(known, found.circle, found.length));
    }
    return any && !confirmed;
}

void forget_samples() {
    samples().has_last = false;
}

} // namespace panvel
