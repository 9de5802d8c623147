// A backend's memory of where it saw pages in shared buffers.
//
// Finding a page by PostgreSQL's buffer table costs three or four cache misses and a lock of the
// table's partition; a graph search reads some tens of pages, so that would be a large part of it.
// ReadRecentBuffer() pins a buffer whose number is known after comparing what it holds, so a
// memory that is out of date costs time, never an answer. Of a page not seen yet the number is
// guessed: an index that was built or prewarmed block by block lies so in the buffers as well.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "storage/bufmgr.h"
#include "utils/rel.h"
}

namespace pg {

// As ReadBuffer() on the main fork.
Buffer read_recent_buffer(Relation relation, BlockNumber block);

// The page if it is in shared buffers; else NULL, and reading it has been begun where the system
// can do that. As below.
const char *prefetch_page(Relation relation, BlockNumber block);

// A hint that prepare_recent_page() or prefetch_page() will be asked for the page.
void prepare_place(Relation relation, BlockNumber block);

// The page if it was seen in shared buffers lately, else NULL; what pinning it will touch comes
// into the processor's cache. Not pinned: by now it may be another page, so it is good for
// __builtin_prefetch() only.
const char *prepare_recent_page(Relation relation, BlockNumber block);

} // namespace pg
