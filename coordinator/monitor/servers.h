// The servers that nodes of any database of this coordinator are on, and how they are: in shared
// memory, written by the monitor process, read by every session.
#pragma once

#include "coordinator/core/health.h"
#include "extension/pg/pg.h"

extern "C" {
#include "nodes/pg_list.h"
#include "utils/timestamp.h"
}

namespace panvel {

constexpr int kMaxServers = 512;
constexpr int kHostSize = 256;
constexpr int kErrorSize = 256;

// A server by its place in shared memory; stays valid, and says so when the place has got another.
struct ServerHandle {
    int index; // -1: none, about which nothing is known
    uint32 generation;
};

// What is known of a server, as a copy.
struct ServerState {
    ServerHandle handle;
    char host[kHostSize];
    int32 port;
    char dbname[NAMEDATALEN]; // of one of the nodes there
    char role[NAMEDATALEN];   // the bootstrap superuser's name
    Health health;
    char error[kErrorSize]; // why it is down, or may not be what it should; "": nothing
    uint64 probes;          // finished
    bool wanted;            // somebody waits for an answer: ask it now
};

void init_servers(); // shared memory; from _PG_init while preloading

// For sessions ------------------------------------------------------------------------------

// The nodes of the current database (List of ClusterNode *) as they now are; others are forgotten.
// Raises nothing.
void register_nodes(List *nodes);

ServerHandle server_of_node(int32 node_id);

// No answer to the monitor for `limit_ms`. False when the monitor does not run: nothing is known.
bool server_is_silent(ServerHandle server, int limit_ms);

// Down, and trying to connect would cost time. `error` (kErrorSize) gets the reason.
bool server_is_gone(ServerHandle server, char *error);

// The monitor takes it for down, whether or not trying to connect would cost time.
bool server_is_down(ServerHandle server);

// Asks the monitor to look at the server now rather than at its next turn.
void want_probe(ServerHandle server);

// False where there is none any more.
bool read_server(ServerHandle server, ServerState *state);

// For the background processes ---------------------------------------------------------------

bool monitor_runs();
void announce_monitor(); // the calling process is it, until it ends
void wake_monitor();

// All servers, into an array of kMaxServers; returns how many. Clears `wanted`.
int list_servers(ServerState *states);

// What a probe learned. `error` null: as it was.
enum class Probe { kAsked, kNothing, kAnswered, kRefused, kTimedOut };
void report_probe(ServerHandle server, Probe probe, int64 cost, const char *error);

// Databases that nodes are registered for, as Oid List; and that one of them is gone.
List *databases_with_nodes();
void forget_nodes_of(Oid database);

} // namespace panvel
