#include "coordinator/transaction/doubt.h"

#include "coordinator/remote/connection.h"
#include "extension/pg/shared_memory.h"

extern "C" {
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/spin.h"
}

namespace panvel {
namespace {

constexpr int kMaxDatabases = 256;
constexpr int kMaxDoubts = 64;

struct Doubt {
    int32 node_id;
    uint64 mark; // when, by Shared::marks
};

struct DatabaseState {
    Oid database;    // InvalidOid: free
    bool wanted;     // a recovery pass
    bool urgent;     // and somebody waits for it
    uint64 passes;   // completed since the server started
    uint64 all_mark; // all nodes are in doubt since this mark; 0: not
    int doubt_count;
    Doubt doubts[kMaxDoubts];
};

struct Shared {
    slock_t lock;
    Latch *launcher;
    bool seen_all; // the launcher has had all databases looked through once
    Oid worker_done;
    uint64 marks;
    int count;
    DatabaseState databases[kMaxDatabases];
};

Shared *shared;
DatabaseState *mine;

void attach(void *piece, bool fresh) {
    shared = static_cast<Shared *>(piece);
    if (fresh)
        SpinLockInit(&shared->lock);
}

// The caller holds the spinlock. Null when there is none and no room for one.
DatabaseState *find_state(Oid database, bool make) {
    DatabaseState *free_state = nullptr;
    for (int i = 0; i < shared->count; i++) {
        DatabaseState *state = &shared->databases[i];
        if (state->database == database)
            return state;
        if (free_state == nullptr && !OidIsValid(state->database))
            free_state = state;
    }
    if (!make)
        return nullptr;
    if (free_state == nullptr && shared->count < kMaxDatabases)
        free_state = &shared->databases[shared->count++];
    if (free_state == nullptr)
        return nullptr;
    memset(free_state, 0, sizeof(DatabaseState));
    free_state->database = database;
    // Before the launcher has seen all databases, this one may have something from before a crash.
    free_state->all_mark = shared->seen_all ? 0 : ++shared->marks;
    free_state->passes = 0;
    return free_state;
}

void wake_launcher() {
    Latch *launcher = shared->launcher;
    if (launcher != nullptr)
        SetLatch(launcher);
}

// The current database's state; null without shared memory or room.
DatabaseState *my_state() {
    if (shared == nullptr)
        return nullptr;
    if (mine != nullptr && mine->database == MyDatabaseId)
        return mine;
    SpinLockAcquire(&shared->lock);
    mine = find_state(MyDatabaseId, true);
    SpinLockRelease(&shared->lock);
    return mine;
}

bool has_doubt(const DatabaseState *state, int32 node_id) {
    if (state->all_mark != 0)
        return true;
    for (int i = 0; i < state->doubt_count; i++)
        if (state->doubts[i].node_id == node_id)
            return true;
    return false;
}

void add_doubt(DatabaseState *state, int32 node_id, uint64 mark) {
    for (int i = 0; i < state->doubt_count; i++) {
        if (state->doubts[i].node_id == node_id) {
            state->doubts[i].mark = mark;
            return;
        }
    }
    if (state->doubt_count < kMaxDoubts)
        state->doubts[state->doubt_count++] = {node_id, mark};
    else
        state->all_mark = mark;
}

void wish(DatabaseState *state, bool urgent) {
    state->wanted = true;
    state->urgent |= urgent;
}

} // namespace

void init_doubt() {
    pg::add_shared_piece({"panvel transactions", [] { return sizeof(Shared); }, attach, nullptr});
}

void mark_in_doubt(int32 node_id) {
    DatabaseState *state = my_state();
    if (state == nullptr)
        return;
    SpinLockAcquire(&shared->lock);
    add_doubt(state, node_id, ++shared->marks);
    wish(state, true);
    SpinLockRelease(&shared->lock);
    wake_launcher();
}

bool node_in_doubt(int32 node_id) {
    DatabaseState *state = my_state();
    if (state == nullptr || (state->all_mark == 0 && state->doubt_count == 0) ||
        RecoveryInProgress())
        return false;
    SpinLockAcquire(&shared->lock);
    bool found = has_doubt(state, node_id);
    SpinLockRelease(&shared->lock);
    return found;
}

bool wait_until_certain(int32 node_id) {
    if (!node_in_doubt(node_id))
        return true;
    uint64 first = mine->passes;
    TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), node_timeout_ms);
    ServerHandle server = server_of_node(node_id);
    char reason[kErrorSize];
    // The pass under way may have asked the node before; the one after it has not. None can ask a
    // node that is gone.
    while (node_in_doubt(node_id) && mine->passes < first + 2 && GetCurrentTimestamp() < deadline &&
           !server_is_gone(server, reason)) {
        SpinLockAcquire(&shared->lock);
        wish(mine, true);
        SpinLockRelease(&shared->lock);
        wake_launcher();
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
    return !node_in_doubt(node_id);
}

void want_recovery(bool now) {
    DatabaseState *state = my_state();
    if (state == nullptr || (state->wanted && !now))
        return;
    SpinLockAcquire(&shared->lock);
    wish(state, now);
    SpinLockRelease(&shared->lock);
    if (now)
        wake_launcher();
}

RecoveryPass begin_recovery_pass() {
    if (my_state() == nullptr)
        return {0};
    SpinLockAcquire(&shared->lock);
    RecoveryPass pass = {shared->marks};
    SpinLockRelease(&shared->lock);
    return pass;
}

void end_recovery_pass(const RecoveryPass &pass, List *uncertain, List *unsettled) {
    DatabaseState *state = my_state();
    if (state == nullptr)
        return;
    SpinLockAcquire(&shared->lock);
    int kept = 0;
    for (int i = 0; i < state->doubt_count; i++)
        if (state->doubts[i].mark > pass.marks ||
            list_member_int(uncertain, state->doubts[i].node_id))
            state->doubts[kept++] = state->doubts[i];
    state->doubt_count = kept;
    if (state->all_mark != 0 && state->all_mark <= pass.marks) {
        state->all_mark = 0;
        for (int i = 0; i < list_length(uncertain); i++)
            add_doubt(state, list_nth_int(uncertain, i), ++shared->marks);
    }
    if (uncertain != NIL || unsettled != NIL)
        wish(state, false);
    state->passes++;
    SpinLockRelease(&shared->lock);
}

void announce_launcher() {
    shared->launcher = MyLatch;
    before_shmem_exit([](int, Datum) { shared->launcher = nullptr; }, 0);
}

void launcher_has_seen_all() {
    shared->seen_all = true;
}

Oid next_wanted(bool only_urgent) {
    Oid database = InvalidOid;
    SpinLockAcquire(&shared->lock);
    for (int i = 0; i < shared->count && !OidIsValid(database); i++) {
        DatabaseState *state = &shared->databases[i];
        if (!OidIsValid(state->database) || !state->wanted || (only_urgent && !state->urgent))
            continue;
        database = state->database;
        state->wanted = state->urgent = false;
    }
    SpinLockRelease(&shared->lock);
    return database;
}

void want_recovery_of(Oid database) {
    SpinLockAcquire(&shared->lock);
    if (DatabaseState *state = find_state(database, false))
        wish(state, false);
    SpinLockRelease(&shared->lock);
}

uint64 passes_of(Oid database) {
    SpinLockAcquire(&shared->lock);
    DatabaseState *state = find_state(database, false);
    uint64 passes = state ? state->passes : 0;
    SpinLockRelease(&shared->lock);
    return passes;
}

void note_worker_done() {
    shared->worker_done = MyDatabaseId;
}

Oid last_worker_done() {
    return shared->worker_done;
}

void forget_database(Oid database) {
    SpinLockAcquire(&shared->lock);
    if (DatabaseState *state = find_state(database, false))
        state->database = InvalidOid;
    SpinLockRelease(&shared->lock);
}

} // namespace panvel
