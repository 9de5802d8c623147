#include "extension/pg/append_page.h"

extern "C" {
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
}

namespace pg {
namespace {

void fill(Relation index, ForkNumber fork, Buffer buffer, const char *page) {
    START_CRIT_SECTION();
    memcpy(BufferGetPage(buffer), page, BLCKSZ);
    MarkBufferDirty(buffer);
    if (RelationNeedsWAL(index) || fork == INIT_FORKNUM)
        log_newpage_buffer(buffer, true);
    END_CRIT_SECTION();
    UnlockReleaseBuffer(buffer);
}

} // namespace

void append_page(Relation index, ForkNumber fork, BlockNumber expected, const char *page) {
    CHECK_FOR_INTERRUPTS();
    Buffer buffer = ReadBufferExtended(index, fork, P_NEW, RBM_NORMAL, nullptr);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    if (BufferGetBlockNumber(buffer) != expected)
        elog(ERROR, "index \"%s\" grew to block %u during its build, expected %u",
             RelationGetRelationName(index), BufferGetBlockNumber(buffer), expected);
    fill(index, fork, buffer, page);
}

void replace_page(Relation index, ForkNumber fork, BlockNumber block, const char *page) {
    Buffer buffer = ReadBufferExtended(index, fork, block, RBM_NORMAL, nullptr);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    fill(index, fork, buffer, page);
}

} // namespace pg
