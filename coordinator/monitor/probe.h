// The monitor's connection to one server.
#pragma once

#include "coordinator/monitor/servers.h"
#include "coordinator/remote/connection.h"
#include "coordinator/remote/resolve.h"

namespace panvel {

enum class ProbeStep {
    kPause,      // no connection
    kResolving,  // the name
    kConnecting, // being made; a question in itself
    kIdle,       // nothing to ask
    kAsking,     // whether it is there
    kAskingWaits // who waits for whom
};

struct ServerProbe {
    Watched watched; // first
    ServerHandle server;
    char host[kHostSize];
    int32 port;
    char dbname[NAMEDATALEN];
    char role[NAMEDATALEN];
    ProbeStep step;
    Lookup *lookup;
    TimestampTz step_since;
    TimestampTz next;  // when to ask or try again
    int failures;      // consecutive, to connect
    bool waits_wanted; // ask for them as soon as it is idle
    bool waits_done;   // they have been handed to add_waits(), or cannot be had
};

ServerProbe *make_probe(const ServerState &server);
void free_probe(ServerProbe *probe);

// What is due: a question, an attempt to connect, giving one up. Returns when to come back.
TimestampTz drive_probe(ServerProbe *probe, bool at_once);

} // namespace panvel
