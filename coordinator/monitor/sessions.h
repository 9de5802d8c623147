// The sessions that this coordinator's backends have on workers, in shared memory: for the view
// panvel.activity, for finding deadlocks, and for telling a session that was left behind.
#pragma once

#include "coordinator/monitor/servers.h"
#include "extension/pg/pg.h"

extern "C" {
#include "utils/timestamp.h"
}

namespace panvel {

constexpr int kQuerySize = 256; // as much of a statement as is shown

enum class Activity { kIdle, kConnecting, kActive, kIdleInTransaction };

// One connection of a backend to a node, as a copy.
struct RemoteSession {
    int pid; // the backend here
    Oid database;
    Oid role;
    int32 node_id;
    char node_name[NAMEDATALEN];
    ServerHandle server;
    int remote_pid; // 0: not connected yet
    Activity activity;
    TimestampTz since; // of `activity` and `query`
    int64 shard_id;    // 0: of several shards, or of none
    char query[kQuerySize];
};

void init_sessions(); // shared memory; from _PG_init while preloading

// For the backend that owns it. A place is taken before the connection is begun, so that a session
// on a worker that is in no place belongs to nobody. -1 when there is none left.
int take_session(const RemoteSession &session);
void session_connected(int place, int remote_pid);
void show_activity(int place, Activity activity, const char *query, int64 shard_id);
void free_session(int place);

// All sessions, palloc'd; returns how many.
int list_sessions(RemoteSession **sessions);

// The name by which a worker shows the sessions of this coordinator's backends of the current
// database: its prefix, up to the backend's process id.
void format_session_prefix(char *name, size_t size);
void format_session_name(char *name, size_t size, int pid);

// What a backend is doing, for the choice of a deadlock's victim.
struct BackendState {
    int pid;
    uint64 transaction; // differs for each transaction of a backend; never 0
    TimestampTz started;
};

// All backends that have sessions, palloc'd; returns how many.
int list_backends(BackendState **backends);

constexpr int kReportSize = 1024;

// Ends the wait of a transaction that is part of a deadlock; nothing where that has ended already.
void choose_as_victim(const BackendState &backend, const char *report);

// Whether the current transaction has been chosen, and is_victim() would say so.
bool is_chosen();

// Likewise, and takes the choice back, as the caller is going to act on it; `report` (kReportSize)
// says what waits for what.
bool is_victim(char *report);

// The backend's transaction has ended.
void end_session_transaction();

} // namespace panvel
