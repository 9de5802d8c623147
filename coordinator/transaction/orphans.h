// Sessions on nodes that no backend here has any more: of a backend that was killed, or of a
// connection that was given up while its server did not answer. What such a session was sent before
// may still run, a PREPARE TRANSACTION too, when its server goes on.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/pg_list.h"
}

namespace panvel {

// Asks the nodes (List of ClusterNode *) for the sessions of this coordinator's database. What is
// sent to a node afterwards is answered after that. Returns what end_orphans() needs.
List *look_for_orphans(List *nodes);

// Terminates the orphans. Returns the nodes, as integer List of node_id, on which nothing may be
// taken for settled: those that had orphans or did not answer.
List *end_orphans(List *asked);

} // namespace panvel
