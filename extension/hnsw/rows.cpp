// Several rows of one vector: ten in the element, further ones in a chain of side slots. All
// changes to a chain happen under the exclusive lock of its element's page.
#include "extension/hnsw/slot.h"
#include "extension/hnsw/write.h"

namespace vec {
namespace {

void add_to_element(GraphIndex *graph, ann::Link link, const OpenElement &element, ann::Tid tid) {
    GenericXLogState *state = GenericXLogStart(graph->relation);
    ann::ElementImage image{edit_slot(graph, state, element.buffer, kElementPage, link.slot)};
    image.header().tids[image.header().tid_count++] = tid;
    GenericXLogFinish(state);
}

// Adds the row to the chain's first slot; false when that is full or there is none.
bool add_to_first(GraphIndex *graph, ann::Link link, ann::Link first, ann::Tid tid) {
    Buffer buffer;
    uint8 *slot;
    if (first.empty() ||
        !open_side(graph, first, link, ann::kSideDuplicates, BUFFER_LOCK_EXCLUSIVE, &buffer, &slot))
        return false;
    bool room = reinterpret_cast<ann::PieceHeader *>(slot)->tid_count < ann::kTidsPerElement;
    if (room) {
        GenericXLogState *state = GenericXLogStart(graph->relation);
        auto *rows = reinterpret_cast<ann::DuplicatesSlot *>(
            edit_slot(graph, state, buffer, kSidePage, first.slot));
        rows->tids[rows->header.tid_count++] = tid;
        GenericXLogFinish(state);
    }
    UnlockReleaseBuffer(buffer);
    return room;
}

// Puts the reserved slot with this row at the head of the chain: one record for both pages.
void push_slot(GraphIndex *graph, ann::Link link, const OpenElement &element, ann::Link spare,
               ann::Tid tid) {
    Buffer buffer = read_page(graph, spare.block, kSidePage, BUFFER_LOCK_EXCLUSIVE);
    GenericXLogState *state = GenericXLogStart(graph->relation);
    ann::ElementImage image{edit_slot(graph, state, element.buffer, kElementPage, link.slot)};
    auto *rows = reinterpret_cast<ann::DuplicatesSlot *>(
        edit_slot(graph, state, buffer, kSidePage, spare.slot));
    rows->header = {{spare.version, ann::SlotState::kLive, ann::kSideDuplicates}, 1, 0, 0, link};
    rows->next = image.header().duplicates;
    rows->tids[0] = tid;
    image.header().duplicates = spare;
    GenericXLogFinish(state);
    UnlockReleaseBuffer(buffer);
}

bool is_same(const ann::VectorSpace &space, const void *a, const void *b) {
    size_t bytes = space.bytes(a);
    return space.bytes(b) == bytes && memcmp(a, b, bytes) == 0;
}

enum class RowResult { kAdded, kNotThere, kNeedSlot };

// `spare`: a reserved side slot, which becomes none when it is used.
RowResult try_add_row(GraphIndex *graph, ann::Link link, const void *vector, ann::Tid tid,
                      ann::Link *spare) {
    const ann::ElementLayout &l = graph->layout;
    OpenElement element;
    if (!open_element(graph, link, BUFFER_LOCK_EXCLUSIVE, Parts::kVector, &element))
        return RowResult::kNotThere;
    RowResult result = RowResult::kAdded;
    if (!element.live() || !is_same(graph->space, element.image.vector(l), vector)) {
        result = RowResult::kNotThere;
    } else if (element.image.header().tid_count < ann::kTidsPerElement) {
        add_to_element(graph, link, element, tid);
    } else if (!add_to_first(graph, link, element.image.header().duplicates, tid)) {
        if (spare->empty()) {
            result = RowResult::kNeedSlot;
        } else {
            push_slot(graph, link, element, *spare, tid);
            *spare = ann::Link::none();
        }
    }
    close_element(element);
    return result;
}

} // namespace

bool add_row(GraphIndex *graph, ann::Link link, const void *vector, ann::Tid tid) {
    // The slot for a chain is taken while the element is not locked: the metapage comes first.
    ann::Link spare = ann::Link::none();
    RowResult result = try_add_row(graph, link, vector, tid, &spare);
    if (result == RowResult::kNeedSlot) {
        spare = reserve_slot(graph, kSidePage);
        result = try_add_row(graph, link, vector, tid, &spare);
    }
    if (!spare.empty())
        free_reserved(graph, spare, kSidePage);
    return result == RowResult::kAdded;
}

} // namespace vec
