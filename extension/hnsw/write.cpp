#include "extension/hnsw/write.h"

#include "extension/hnsw/slot.h"

namespace vec {
namespace {

// The slot of `link`, locked exclusively and registered with a new `state`.
uint8 *start_edit(GraphIndex *graph, ann::Link link, PageKind kind, Buffer *buffer,
                  GenericXLogState **state) {
    *buffer = read_page(graph, link.block, kind, BUFFER_LOCK_EXCLUSIVE);
    *state = GenericXLogStart(graph->relation);
    return edit_slot(graph, *state, *buffer, kind, link.slot);
}

void finish_edit(GenericXLogState *state, Buffer buffer) {
    GenericXLogFinish(state);
    UnlockReleaseBuffer(buffer);
}

ann::Link write_piece(GraphIndex *graph, ann::Link owner, PageKind kind, const uint8 *bytes,
                      uint32 size) {
    ClaimedSlot claimed = claim_slot(graph, kind);
    GenericXLogState *state = GenericXLogStart(graph->relation);
    uint8 *slot = edit_claimed(graph, state, claimed);
    auto *header = reinterpret_cast<ann::PieceHeader *>(slot);
    *header = {{claimed.link.version, ann::SlotState::kLive, 0}, 0, 0, 0, owner};
    memcpy(slot + sizeof(ann::PieceHeader), bytes, size);
    GenericXLogFinish(state);
    release_claimed(graph, claimed);
    return claimed.link;
}

void write_pieces(GraphIndex *graph, ann::Link owner, const ann::ElementImage &image) {
    const ann::ElementLayout &l = graph->layout;
    for (uint32 i = 0, offset = l.head_bytes; i < l.pieces; i++) {
        bool full = i < l.full_pieces;
        uint32 bytes = full ? l.piece_bytes : l.rest_bytes;
        PageKind kind = full ? kPiecePage : kRestPage;
        image.pieces(l)[i] = write_piece(graph, owner, kind, image.data + offset, bytes);
        offset += bytes;
    }
}

// Writes what of a sparse vector does not fit its element, from the end to the beginning; returns
// the first slot.
ann::Link write_overflow(GraphIndex *graph, ann::Link owner, const void *vector) {
    const ann::ElementLayout &l = graph->layout;
    size_t bytes = graph->space.bytes(vector);
    ann::Link next = ann::Link::none();
    for (uint32 i = l.overflow_slots(bytes); i-- > 0;) {
        size_t offset = l.vector_bytes + static_cast<size_t>(i) * l.overflow_bytes;
        ClaimedSlot claimed = claim_slot(graph, kRestPage);
        GenericXLogState *state = GenericXLogStart(graph->relation);
        auto *slot = reinterpret_cast<ann::OverflowSlot *>(edit_claimed(graph, state, claimed));
        slot->header = {{claimed.link.version, ann::SlotState::kLive, 0}, 0, 0, 0, owner};
        slot->next = next;
        memcpy(slot + 1, static_cast<const uint8 *>(vector) + offset,
               Min(bytes - offset, l.overflow_bytes));
        GenericXLogFinish(state);
        release_claimed(graph, claimed);
        next = claimed.link;
    }
    return next;
}

// Fills an empty list with the new element's neighbours and their codes.
void fill_list(GraphIndex *graph, const ann::NeighborList &list, const LevelNeighbors &neighbors) {
    PANVEL_ASSERT(neighbors.count <= neighbors.filled && neighbors.filled <= list.slots);
    for (uint32 i = 0; i < neighbors.filled; i++) {
        list.links[i] = neighbors.list[i].link;
        list.distances[i] = ann::with_chosen(neighbors.list[i].distance, i < neighbors.count);
        if (list.blocks > 0)
            put_edge(graph, list, i, neighbors.edges[i].there);
    }
}

ann::Link write_upper(GraphIndex *graph, ann::Link owner, int level, ann::Link next,
                      const LevelNeighbors &neighbors) {
    ann::UpperImage image{static_cast<uint8 *>(palloc(graph->layout.upper_bytes))};
    image.clear(graph->layout);
    fill_list(graph, image.list(graph->layout), neighbors);
    image.header().next = next;
    ClaimedSlot claimed = claim_slot(graph, kUpperPage);
    GenericXLogState *state = GenericXLogStart(graph->relation);
    image.header().header = {{claimed.link.version, ann::SlotState::kLive, ann::kSideUpper},
                             0,
                             static_cast<uint8>(level),
                             0,
                             owner};
    memcpy(edit_claimed(graph, state, claimed), image.data, graph->layout.upper_bytes);
    GenericXLogFinish(state);
    release_claimed(graph, claimed);
    pfree(image.data);
    return claimed.link;
}

void fill_image(GraphIndex *graph, const ann::ElementImage &image, const void *vector, ann::Tid tid,
                int level, const LevelNeighbors &neighbors, int parent) {
    const ann::ElementLayout &l = graph->layout;
    image.clear(l, 0, ann::SlotState::kLive, static_cast<uint8>(level));
    image.header().tid_count = 1;
    image.header().tids[0] = tid;
    if (parent >= 0)
        image.set_kept(parent, true);
    put_vector(graph, image, vector);
    fill_list(graph, image.list(l), neighbors);
}

ann::Link write_simple(GraphIndex *graph, const ann::ElementImage &image) {
    ClaimedSlot claimed = claim_slot(graph, kElementPage);
    GenericXLogState *state = GenericXLogStart(graph->relation);
    image.header().slot.version = claimed.link.version;
    memcpy(edit_claimed(graph, state, claimed), image.data, graph->layout.head_bytes);
    GenericXLogFinish(state);
    release_claimed(graph, claimed);
    return claimed.link;
}

// Data first, the head last: until then its slot is reserved and nobody reads the rest.
ann::Link write_composite(GraphIndex *graph, const ann::ElementImage &image, const void *vector,
                          int level, const LevelNeighbors *neighbors) {
    ann::Link self = reserve_slot(graph, kElementPage);
    write_pieces(graph, self, image);
    if (graph->layout.sparse())
        image.overflow(graph->layout) = write_overflow(graph, self, vector);
    ann::Link upper = ann::Link::none();
    for (int i = 1; i <= level; i++)
        upper = write_upper(graph, self, i, upper, neighbors[i]);
    image.header().upper = upper;
    image.header().slot.version = self.version;
    Buffer buffer;
    GenericXLogState *state;
    uint8 *slot = start_edit(graph, self, kElementPage, &buffer, &state);
    memcpy(slot, image.data, graph->layout.head_bytes);
    finish_edit(state, buffer);
    return self;
}

} // namespace

void put_vector(const GraphIndex *graph, const ann::ElementImage &image, const void *vector) {
    const ann::ElementLayout &l = graph->layout;
    size_t bytes = Min(graph->space.bytes(vector), l.vector_bytes);
    memcpy(image.vector(l), vector, bytes);
    memset(image.data + l.vector_offset + bytes, 0, l.size - l.vector_offset - bytes);
}

ann::Link write_element(GraphIndex *graph, const void *vector, ann::Tid tid, int level,
                        const LevelNeighbors *neighbors, int parent) {
    ann::ElementImage image{static_cast<uint8 *>(palloc(graph->layout.size))};
    fill_image(graph, image, vector, tid, level, neighbors[0], parent);
    bool simple = level == 0 && !graph->layout.spanned() &&
                  graph->layout.overflow_slots(graph->space.bytes(vector)) == 0;
    ann::Link self = simple ? write_simple(graph, image)
                            : write_composite(graph, image, vector, level, neighbors);
    pfree(image.data);
    return self;
}

} // namespace vec
