#include "extension/pg/shared_memory.h"

extern "C" {
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
}

namespace pg {
namespace {

SharedPiece pieces[kMaxSharedPieces];
int piece_count;
shmem_startup_hook_type previous_startup_hook;
shmem_request_hook_type previous_request_hook;

void request_pieces() {
    if (previous_request_hook)
        previous_request_hook();
    for (int i = 0; i < piece_count; i++) {
        RequestAddinShmemSpace(MAXALIGN(pieces[i].size()));
        if (pieces[i].lock_tranche != nullptr)
            RequestNamedLWLockTranche(pieces[i].lock_tranche, 1);
    }
}

void attach_pieces() {
    if (previous_startup_hook)
        previous_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    for (int i = 0; i < piece_count; i++) {
        bool found;
        Size size = pieces[i].size();
        void *piece = ShmemInitStruct(pieces[i].name, size, &found);
        if (!found)
            memset(piece, 0, size);
        pieces[i].attach(piece, !found);
    }
    LWLockRelease(AddinShmemInitLock);
}

} // namespace

void add_shared_piece(const SharedPiece &piece) {
    if (piece_count == kMaxSharedPieces)
        elog(FATAL, "more than %d pieces of shared memory", kMaxSharedPieces);
    if (piece_count == 0) {
        previous_request_hook = shmem_request_hook;
        shmem_request_hook = request_pieces;
        previous_startup_hook = shmem_startup_hook;
        shmem_startup_hook = attach_pieces;
    }
    pieces[piece_count++] = piece;
}

} // namespace pg
