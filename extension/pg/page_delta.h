// Known changes to one page as one WAL record.
//
// GenericXLog copies a page, lets the caller change the copy and compares both byte by byte to see
// what to log: some microseconds for a page of which a hundredth has changed. Who knows what he
// changes says so here. The record is one of GenericXLog's own, so that its redo replays it.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "storage/bufmgr.h"
#include "utils/rel.h"
}

namespace pg {

class PageDelta {
  public:
    // REQUIRES: the caller holds the exclusive lock of the buffer's page until finish() and changes
    // the page by nothing else meanwhile.
    PageDelta(Relation relation, Buffer buffer) : relation_(relation), buffer_(buffer) {}

    // The bytes at `place`, which lies in the page below pd_lower, are to become `bytes`. The page
    // itself stays as it is until finish(). Raises XX000 when a page of changes is exceeded.
    void set(const void *place, const void *bytes, uint32 size);

    // Changes the page and logs it, if the relation is logged.
    void finish();

  private:
    Relation relation_;
    Buffer buffer_;
    uint32 size_ = 0;
    char bytes_[BLCKSZ]; // offset, length and new bytes of each change
};

} // namespace pg
