#include "coordinator/monitor/sessions.h"

#include "extension/pg/compat.h"
#include "extension/pg/shared_memory.h"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/spin.h"
}

namespace panvel {
namespace {

// As many for each backend on average; a backend may use more.
constexpr int kPlacesPerBackend = 16;

struct Place {
    slock_t spin;
    RemoteSession session; // pid 0: free
};

struct Backend {
    slock_t spin;
    BackendState state; // pid 0: no sessions
    Latch *latch;
    uint64 victim; // the transaction that is to end
    char report[kReportSize];
};

struct Shared {
    int places;
    int backends;
    // Backend[backends], by backend id; then Place[places]
};

Shared *shared;
Backend *backends;
Place *places;
Backend *mine;

Size shared_size() {
    Size size = MAXALIGN(sizeof(Shared));
    size = add_size(size, mul_size(MaxBackends, MAXALIGN(sizeof(Backend))));
    return add_size(size, mul_size(mul_size(MaxBackends, kPlacesPerBackend), sizeof(Place)));
}

void attach(void *piece, bool fresh) {
    shared = static_cast<Shared *>(piece);
    char *memory = reinterpret_cast<char *>(shared) + MAXALIGN(sizeof(Shared));
    backends = reinterpret_cast<Backend *>(memory);
    places = reinterpret_cast<Place *>(memory + MaxBackends * MAXALIGN(sizeof(Backend)));
    if (!fresh)
        return;
    shared->places = MaxBackends * kPlacesPerBackend;
    shared->backends = MaxBackends;
    for (int i = 0; i < shared->backends; i++)
        SpinLockInit(&backends[i].spin);
    for (int i = 0; i < shared->places; i++)
        SpinLockInit(&places[i].spin);
}

void leave(int, Datum) {
    for (int i = 0; i < shared->places; i++)
        if (places[i].session.pid == MyProcPid)
            free_session(i);
    SpinLockAcquire(&mine->spin);
    mine->state = {};
    mine->latch = nullptr;
    SpinLockRelease(&mine->spin);
}

// A backend's place is its own from its first session to its end.
void enter() {
    if (mine != nullptr)
        return;
    Backend *backend = &backends[pg::backend_index()];
    SpinLockAcquire(&backend->spin);
    backend->state = {MyProcPid, 1, 0};
    backend->latch = MyLatch;
    backend->victim = 0;
    SpinLockRelease(&backend->spin);
    mine = backend;
    on_shmem_exit(leave, Datum(0)); // after the abort that uses it
}

bool take(Place *place, const RemoteSession &session) {
    if (place->session.pid != 0)
        return false;
    SpinLockAcquire(&place->spin);
    bool is_free = place->session.pid == 0;
    if (is_free)
        place->session = session;
    SpinLockRelease(&place->spin);
    return is_free;
}

} // namespace

void init_sessions() {
    pg::add_shared_piece({"panvel sessions", shared_size, attach, nullptr});
}

int take_session(const RemoteSession &session) {
    if (shared == nullptr || pg::backend_index() < 0)
        return -1;
    enter();
    int first = pg::backend_index() * kPlacesPerBackend;
    for (int i = 0; i < shared->places; i++) {
        int place = (first + i) % shared->places;
        if (take(&places[place], session))
            return place;
    }
    return -1;
}

void session_connected(int place, int remote_pid) {
    if (place < 0)
        return;
    SpinLockAcquire(&places[place].spin);
    places[place].session.remote_pid = remote_pid;
    SpinLockRelease(&places[place].spin);
}

void show_activity(int place, Activity activity, const char *query, int64 shard_id) {
    if (place < 0)
        return;
    RemoteSession *session = &places[place].session;
    TimestampTz now = GetCurrentTimestamp();
    SpinLockAcquire(&places[place].spin);
    session->activity = activity;
    session->since = now;
    if (query != nullptr) {
        strlcpy(session->query, query, kQuerySize);
        session->shard_id = shard_id;
    }
    SpinLockRelease(&places[place].spin);
    if (mine->state.started == 0 && IsTransactionState()) {
        SpinLockAcquire(&mine->spin);
        mine->state.started = GetCurrentTransactionStartTimestamp();
        SpinLockRelease(&mine->spin);
    }
}

void free_session(int place) {
    if (place < 0)
        return;
    SpinLockAcquire(&places[place].spin);
    places[place].session.pid = 0;
    SpinLockRelease(&places[place].spin);
}

int list_sessions(RemoteSession **sessions) {
    int capacity = 64;
    int count = 0;
    *sessions = palloc_array(RemoteSession, capacity);
    for (int i = 0; shared != nullptr && i < shared->places; i++) {
        if (places[i].session.pid == 0)
            continue;
        if (count == capacity)
            *sessions = repalloc_array(*sessions, RemoteSession, capacity *= 2);
        SpinLockAcquire(&places[i].spin);
        (*sessions)[count] = places[i].session;
        SpinLockRelease(&places[i].spin);
        count += (*sessions)[count].pid != 0;
    }
    return count;
}

void format_session_prefix(char *name, size_t size) {
    snprintf(name, size, "panvel %" INT64_MODIFIER "x %u ", GetSystemIdentifier(), MyDatabaseId);
}

void format_session_name(char *name, size_t size, int pid) {
    format_session_prefix(name, size);
    size_t length = strlen(name);
    snprintf(name + length, size - length, "%d", pid);
}

int list_backends(BackendState **states) {
    int count = 0;
    *states = palloc_array(BackendState, shared->backends);
    for (int i = 0; i < shared->backends; i++) {
        if (backends[i].state.pid == 0)
            continue;
        SpinLockAcquire(&backends[i].spin);
        (*states)[count] = backends[i].state;
        SpinLockRelease(&backends[i].spin);
        count += (*states)[count].pid != 0;
    }
    return count;
}

void choose_as_victim(const BackendState &victim, const char *report) {
    for (int i = 0; i < shared->backends; i++) {
        Backend *backend = &backends[i];
        Latch *latch = nullptr;
        SpinLockAcquire(&backend->spin);
        if (backend->state.pid == victim.pid && backend->state.transaction == victim.transaction) {
            backend->victim = victim.transaction;
            strlcpy(backend->report, report, kReportSize);
            latch = backend->latch;
        }
        SpinLockRelease(&backend->spin);
        if (latch != nullptr)
            SetLatch(latch);
    }
}

bool is_chosen() {
    return mine != nullptr && mine->victim == mine->state.transaction;
}

bool is_victim(char *report) {
    if (!is_chosen())
        return false;
    SpinLockAcquire(&mine->spin);
    bool chosen = mine->victim == mine->state.transaction;
    strlcpy(report, mine->report, kReportSize);
    mine->victim = 0;
    SpinLockRelease(&mine->spin);
    return chosen;
}

void end_session_transaction() {
    if (mine == nullptr)
        return;
    SpinLockAcquire(&mine->spin);
    mine->state.transaction++;
    mine->state.started = 0;
    SpinLockRelease(&mine->spin);
}

} // namespace panvel
