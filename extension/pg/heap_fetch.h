// Rows for an index scan out of PostgreSQL's own heap tables, with fewer cache misses: a k-NN query
// fetches few rows, each from another page, and finding and first touching those pages was a
// third of a search in 256 dimensions.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "access/genam.h"
#include "access/relscan.h"
#include "storage/itemptr.h"
}

namespace pg {

// A hint that these rows may be fetched soon. Pages seen lately come into the processor's cache.
void prepare_heap_rows(Relation table, const ItemPointerData *rows, size_t count);

// Pins the page of scan->xs_heaptid, found by remembered buffer, where index_fetch_heap() will look
// first, and prunes it as that would.
void pin_heap_page(IndexScanDesc scan);

} // namespace pg
