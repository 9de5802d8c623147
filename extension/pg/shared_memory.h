// Pieces of shared memory that a library has from the server's start on.
#pragma once

#include "extension/pg/pg.h"

namespace pg {

struct SharedPiece {
    const char *name; // in pg_shmem_allocations
    Size (*size)();   // bytes; asked when MaxBackends is known
    // Called when the server starts, under AddinShmemInitLock. `fresh`: the piece, all zero, is to
    // be filled; else another process has done so.
    void (*attach)(void *piece, bool fresh);
    const char *lock_tranche; // of one LWLock that goes with it; null: none
};

// To be called by _PG_init() in shared_preload_libraries, for at most kMaxSharedPieces.
constexpr int kMaxSharedPieces = 8;
void add_shared_piece(const SharedPiece &piece);

} // namespace pg
