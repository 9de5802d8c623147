// The search for deadlocks over several nodes, by the monitor process.
#pragma once

#include "coordinator/core/wait_graph.h"
#include "coordinator/monitor/servers.h"

extern "C" {
#include "libpq-fe.h"
}

namespace panvel {

// What a worker is asked: each of its sessions that waits for a lock, with each of those it waits
// for. Prepared transactions (process 0) wait for nothing and are left out.
extern const char *const kWaitQuery;

// One look at all servers: begin, then each server's answer as it comes, then end. A server that
// does not answer is left out: a circle through it is found when it does.
void begin_sample();
void add_waits(ServerHandle server, const PGresult *answer);
// Adds the coordinator's own waits and ends the sample. When the one before was complete and of
// late, the circles that are in both lose a victim each. True when there was a circle to
// be confirmed by a further sample, which is then to be taken soon.
bool end_sample();

// Forgets the sample before.
void forget_samples();

} // namespace panvel
