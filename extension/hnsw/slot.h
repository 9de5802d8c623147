// Taking slots of pages and giving them back.
#pragma once

#include "extension/hnsw/page.h"

namespace vec {

// A free slot found for the caller to fill; its page is locked exclusively.
struct ClaimedSlot {
    Buffer buffer;
    PageKind kind;
    bool fresh; // the page is new: edit_claimed() initialises it
    ann::Link link;
};

// A free slot of that kind, on a page that has some or on a new page. It stays free until the
// caller has written it in its WAL record. REQUIRES: no lock on an index page is held.
ClaimedSlot claim_slot(GraphIndex *graph, PageKind kind);

// Registers the claimed slot's page with `state` and returns the slot in the page to be logged.
uint8 *edit_claimed(GraphIndex *graph, GenericXLogState *state, const ClaimedSlot &claimed);

// Unlocks the page; one that was new and has more free slots becomes known to others.
void release_claimed(GraphIndex *graph, const ClaimedSlot &claimed);

// A slot that only this backend knows, until what refers to it is written; what a crash leaves of
// it is freed by vacuum.
ann::Link reserve_slot(GraphIndex *graph, PageKind kind);
// Gives a reserved slot back.
void free_reserved(GraphIndex *graph, ann::Link link, PageKind kind);

// Puts a page that has free slots at the head of its kind's chain, unless it is in it.
// REQUIRES: no lock on an index page is held.
void offer_page(GraphIndex *graph, BlockNumber block);

// The slot in the copy of `buffer`'s page that `state` will log.
uint8 *edit_slot(GraphIndex *graph, GenericXLogState *state, Buffer buffer, PageKind kind,
                 uint16 slot);

} // namespace vec
