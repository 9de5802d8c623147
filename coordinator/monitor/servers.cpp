#include "coordinator/monitor/servers.h"

#include "coordinator/catalog/metadata.h"
#include "coordinator/remote/connection.h"
#include "extension/pg/shared_memory.h"

extern "C" {
#include "catalog/pg_authid_d.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
}

namespace panvel {
namespace {

constexpr int kMaxRegistrations = 4096;

// A node of a database; free where database is invalid. Under Shared::lock.
struct Registration {
    Oid database;
    int32 node_id;
    int server;
};

struct Server {
    slock_t spin; // of `state`, but for what only changes under Shared::lock
    bool used;    // under Shared::lock
    ServerState state;
};

struct Shared {
    LWLock *lock; // which servers there are and whose
    Latch *monitor;
    int registrations; // places in use or used once
    int servers;       // likewise
    Registration registration[kMaxRegistrations];
    Server server[kMaxServers];
};

constexpr const char *kTranche = "panvel servers";

Shared *shared;

void attach(void *piece, bool fresh) {
    shared = static_cast<Shared *>(piece);
    if (!fresh)
        return;
    shared->lock = &GetNamedLWLockTranche(kTranche)->lock;
    for (Server &server : shared->server)
        SpinLockInit(&server.spin);
}

bool is_at(const Server *server, const ClusterNode *node) {
    return server->used && server->state.port == node->port &&
           strcmp(server->state.host, node->host) == 0;
}

// The caller holds the lock. -1 when there is no room.
int server_at(const ClusterNode *node, const char *role) {
    int free_place = -1;
    for (int i = 0; i < shared->servers; i++) {
        if (is_at(&shared->server[i], node))
            return i;
        if (!shared->server[i].used && free_place < 0)
            free_place = i;
    }
    if (free_place < 0 && shared->servers < kMaxServers)
        free_place = shared->servers++;
    if (free_place < 0)
        return -1;
    Server *server = &shared->server[free_place];
    SpinLockAcquire(&server->spin);
    uint32 generation = server->state.handle.generation + 1;
    memset(&server->state, 0, sizeof(ServerState));
    server->state.handle = {free_place, generation};
    strlcpy(server->state.host, node->host, kHostSize);
    strlcpy(server->state.role, role, NAMEDATALEN);
    server->state.port = node->port;
    server->state.wanted = true;
    SpinLockRelease(&server->spin);
    server->used = true;
    return free_place;
}

void drop_unused_servers() {
    bool used[kMaxServers] = {};
    for (int i = 0; i < shared->registrations; i++)
        if (OidIsValid(shared->registration[i].database))
            used[shared->registration[i].server] = true;
    for (int i = 0; i < shared->servers; i++)
        shared->server[i].used &= used[i];
}

void clear_registrations(Oid database) {
    for (int i = 0; i < shared->registrations; i++)
        if (shared->registration[i].database == database)
            shared->registration[i].database = InvalidOid;
}

void add_registration(const ClusterNode *node, const char *role) {
    int place = 0;
    while (place < shared->registrations && OidIsValid(shared->registration[place].database))
        place++;
    if (place == kMaxRegistrations)
        return;
    int server = server_at(node, role);
    if (server < 0)
        return;
    shared->registrations = Max(shared->registrations, place + 1);
    shared->registration[place] = {MyDatabaseId, node->node_id, server};
    SpinLockAcquire(&shared->server[server].spin);
    strlcpy(shared->server[server].state.dbname, node->dbname, NAMEDATALEN);
    SpinLockRelease(&shared->server[server].spin);
}

// The caller holds the lock, shared or not.
bool is_registered(const ClusterNode *node) {
    for (int i = 0; i < shared->registrations; i++) {
        const Registration *registration = &shared->registration[i];
        if (registration->database == MyDatabaseId && registration->node_id == node->node_id)
            return is_at(&shared->server[registration->server], node);
    }
    return false;
}

int registered_count() {
    int count = 0;
    for (int i = 0; i < shared->registrations; i++)
        count += shared->registration[i].database == MyDatabaseId;
    return count;
}

bool all_registered(List *nodes) {
    LWLockAcquire(shared->lock, LW_SHARED);
    bool all = registered_count() == list_length(nodes);
    ListCell *cell;
    foreach (cell, nodes)
        all = all && is_registered(static_cast<ClusterNode *>(lfirst(cell)));
    LWLockRelease(shared->lock);
    return all;
}

// The server's place with its spinlock held; null, and no lock, where it is no more.
Server *acquire(ServerHandle handle) {
    if (shared == nullptr || handle.index < 0)
        return nullptr;
    Server *server = &shared->server[handle.index];
    SpinLockAcquire(&server->spin);
    if (server->state.handle.generation == handle.generation)
        return server;
    SpinLockRelease(&server->spin);
    return nullptr;
}

void log_change(Reach before, const ServerState &state) {
    if (before == state.health.reach || (before == Reach::kUnknown && state.error[0] == '\0'))
        return;
    if (state.health.reach == Reach::kUp)
        ereport(LOG, (errmsg("the node at %s:%d answers", state.host, state.port),
                      state.error[0] != '\0' ? errdetail("%s", state.error) : 0));
    else
        ereport(LOG, (errmsg("the node at %s:%d is down", state.host, state.port),
                      errdetail("%s", state.error[0] != '\0' ? state.error : "no answer")));
}

} // namespace

void init_servers() {
    pg::add_shared_piece({"panvel servers", [] { return sizeof(Shared); }, attach, kTranche});
}

void register_nodes(List *nodes) {
    if (shared == nullptr || all_registered(nodes))
        return;
    char *role = GetUserNameFromId(BOOTSTRAP_SUPERUSERID, false);
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    clear_registrations(MyDatabaseId);
    ListCell *cell;
    foreach (cell, nodes)
        add_registration(static_cast<ClusterNode *>(lfirst(cell)), role);
    drop_unused_servers();
    LWLockRelease(shared->lock);
    pfree(role);
    wake_monitor();
}

ServerHandle server_of_node(int32 node_id) {
    ServerHandle handle = {-1, 0};
    if (shared == nullptr)
        return handle;
    LWLockAcquire(shared->lock, LW_SHARED);
    for (int i = 0; i < shared->registrations; i++) {
        const Registration *registration = &shared->registration[i];
        if (registration->database == MyDatabaseId && registration->node_id == node_id)
            handle = shared->server[registration->server].state.handle;
    }
    LWLockRelease(shared->lock);
    return handle;
}

bool server_is_silent(ServerHandle handle, int limit_ms) {
    ServerState state;
    return monitor_runs() && read_server(handle, &state) &&
           is_silent(state.health, limit_ms * INT64CONST(1000));
}

bool server_is_gone(ServerHandle handle, char *error) {
    ServerState state;
    if (!monitor_runs() || !read_server(handle, &state) ||
        !is_gone(state.health, node_timeout_ms * INT64CONST(1000)))
        return false;
    strlcpy(error, state.error, kErrorSize);
    return true;
}

bool server_is_down(ServerHandle handle) {
    ServerState state;
    return monitor_runs() && read_server(handle, &state) && state.health.reach == Reach::kDown;
}

void want_probe(ServerHandle handle) {
    Server *server = acquire(handle);
    if (server == nullptr)
        return;
    server->state.wanted = true;
    SpinLockRelease(&server->spin);
    wake_monitor();
}

bool read_server(ServerHandle handle, ServerState *state) {
    Server *server = acquire(handle);
    if (server == nullptr)
        return false;
    *state = server->state;
    SpinLockRelease(&server->spin);
    return true;
}

bool monitor_runs() {
    return shared != nullptr && shared->monitor != nullptr;
}

void announce_monitor() {
    // What a monitor that crashed was waiting for, nobody has looked for since.
    for (Server &server : shared->server) {
        SpinLockAcquire(&server.spin);
        server.state.health.asked_at = 0;
        server.state.wanted = true;
        SpinLockRelease(&server.spin);
    }
    shared->monitor = MyLatch;
    before_shmem_exit([](int, Datum) { shared->monitor = nullptr; }, 0);
}

void wake_monitor() {
    Latch *monitor = shared != nullptr ? shared->monitor : nullptr;
    if (monitor != nullptr)
        SetLatch(monitor);
}

int list_servers(ServerState *states) {
    int count = 0;
    LWLockAcquire(shared->lock, LW_SHARED);
    for (int i = 0; i < shared->servers; i++) {
        Server *server = &shared->server[i];
        if (!server->used)
            continue;
        SpinLockAcquire(&server->spin);
        states[count++] = server->state;
        server->state.wanted = false;
        SpinLockRelease(&server->spin);
    }
    LWLockRelease(shared->lock);
    return count;
}

void report_probe(ServerHandle handle, Probe probe, int64 cost, const char *error) {
    TimestampTz now = GetCurrentTimestamp();
    Server *server = acquire(handle);
    if (server == nullptr)
        return;
    Health *health = &server->state.health;
    Reach before = health->reach;
    switch (probe) {
    case Probe::kAsked:
        asked(health, now);
        break;
    case Probe::kNothing:
        look(health, now);
        note_silence(health, now, node_timeout_ms * INT64CONST(1000));
        break;
    case Probe::kAnswered:
        answered(health, now);
        break;
    case Probe::kRefused:
        refused(health, now, cost);
        break;
    case Probe::kTimedOut:
        timed_out(health, now, cost);
        break;
    }
    if (error != nullptr)
        strlcpy(server->state.error, error, kErrorSize);
    if (probe != Probe::kAsked && probe != Probe::kNothing)
        server->state.probes++;
    ServerState state = server->state;
    SpinLockRelease(&server->spin);
    log_change(before, state);
}

List *databases_with_nodes() {
    List *databases = NIL;
    if (shared == nullptr)
        return NIL;
    Oid *found = static_cast<Oid *>(palloc(sizeof(Oid) * kMaxRegistrations));
    LWLockAcquire(shared->lock, LW_SHARED);
    int count = shared->registrations;
    for (int i = 0; i < count; i++)
        found[i] = shared->registration[i].database;
    LWLockRelease(shared->lock);
    for (int i = 0; i < count; i++)
        if (OidIsValid(found[i]))
            databases = list_append_unique_oid(databases, found[i]);
    pfree(found);
    return databases;
}

void forget_nodes_of(Oid database) {
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    clear_registrations(database);
    drop_unused_servers();
    LWLockRelease(shared->lock);
    wake_monitor();
}

} // namespace panvel
