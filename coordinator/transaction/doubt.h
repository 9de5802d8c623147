// Which nodes may hold a transaction that is committed but not yet visible there: its COMMIT
// PREPARED failed, or the coordinator was restarted and has not looked yet. In shared memory.
//
// Nobody reads from such a node: an acknowledged write would be missing. A reader asks for a
// recovery pass and waits for it.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/pg_list.h"
}

namespace panvel {

void init_doubt(); // shared memory; from _PG_init while preloading

// Of the current database. Raises nothing.
void mark_in_doubt(int32 node_id);
bool node_in_doubt(int32 node_id);

// Waits for a recovery pass where the node is in doubt. False when it still is afterwards.
bool wait_until_certain(int32 node_id);

// There is something for a recovery pass to do: within a few seconds, or now. Raises nothing.
void want_recovery(bool now);

// A recovery pass over the current database: what was marked before its begin and is not in
// `uncertain` (integer List of node_id) at its end is in doubt no more. A node that nobody marked
// does not get in doubt by being there: whatever its sessions told a client of has been confirmed.
// Nodes in `unsettled` are not in doubt, but something may still become prepared there that nobody
// will commit: another pass has to look.
struct RecoveryPass {
    uint64 marks;
};
RecoveryPass begin_recovery_pass();
void end_recovery_pass(const RecoveryPass &pass, List *uncertain, List *unsettled);

// For the background workers (recovery_worker.cpp).
void announce_launcher();
void launcher_has_seen_all();
// A database of which a pass is wanted, urgently or at all; InvalidOid for none. Clears the wish.
Oid next_wanted(bool only_urgent);
void want_recovery_of(Oid database); // the pass came to nothing
uint64 passes_of(Oid database);
void note_worker_done();
Oid last_worker_done();
void forget_database(Oid database);

} // namespace panvel
