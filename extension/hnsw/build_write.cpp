// Where a build puts things, so that every link is known before anything is written:
//
//   block 0     metapage
//   from 1      elements in the order of their numbers. Where an element fits a page: as many a
//               page as fit. Else groups of as many elements as have their rests on one page:
//               each element's head and full pieces, then that page of rests.
//   then        side pages: for each element in order, its upper lists from level 1 up, then its
//               chain of duplicates
#include "extension/hnsw/build.h"
#include "extension/hnsw/codes.h"
#include "extension/hnsw/slot.h"

extern "C" {
#include "access/xloginsert.h"
#include "commands/progress.h"
#include "utils/backend_progress.h"
}

namespace vec {
namespace {

struct Writer {
    Relation index;
    ann::GraphBuilder *builder;
    const ann::BuildRows *rows;
    GraphIndex *graph;
    ann::ElementImage image;
    char *page;      // being filled with elements
    char *rest_page; // of the present group
    uint64 next_side;
    BlockNumber side_base;

    uint32 slots(PageKind kind) const { return slots_per_page(graph->layout, kind); }
    uint32 group_size() const { return graph->layout.rest_bytes > 0 ? slots(kRestPage) : 1; }
    uint32 blocks_per_element() const { return 1 + graph->layout.full_pieces; }
    uint32 blocks_per_group() const {
        return group_size() * blocks_per_element() + (graph->layout.rest_bytes > 0);
    }
    ann::Link element(uint32 node) const {
        if (!graph->layout.spanned())
            return {1 + node / slots(kElementPage), static_cast<uint16>(node % slots(kElementPage)),
                    0};
        return {1 + node / group_size() * blocks_per_group() +
                    node % group_size() * blocks_per_element(),
                0, 0};
    }
    // The page of rests of the node's group; in the last group it comes sooner.
    BlockNumber rest_block(uint32 node) const {
        uint32 last = Min(node / group_size() * group_size() + group_size(), builder->size()) - 1;
        return element(last).block + blocks_per_element();
    }
    BlockNumber end_of_elements() const {
        if (builder->size() == 0)
            return 1;
        uint32 last = builder->size() - 1;
        if (!graph->layout.spanned())
            return element(last).block + 1;
        return rest_block(last) + (graph->layout.rest_bytes > 0);
    }
    ann::Link side(uint64 number) const {
        return {static_cast<BlockNumber>(side_base + number / slots(kSidePage)),
                static_cast<uint16>(number % slots(kSidePage)), 0};
    }
};

void append_page(Relation index, ForkNumber fork, BlockNumber expected, const char *page) {
    CHECK_FOR_INTERRUPTS();
    Buffer buffer = ReadBufferExtended(index, fork, P_NEW, RBM_NORMAL, nullptr);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    if (BufferGetBlockNumber(buffer) != expected)
        elog(ERROR, "index \"%s\" grew to block %u during its build, expected %u",
             RelationGetRelationName(index), BufferGetBlockNumber(buffer), expected);
    START_CRIT_SECTION();
    memcpy(BufferGetPage(buffer), page, BLCKSZ);
    MarkBufferDirty(buffer);
    if (RelationNeedsWAL(index) || fork == INIT_FORKNUM)
        log_newpage_buffer(buffer, true);
    END_CRIT_SECTION();
    UnlockReleaseBuffer(buffer);
}

uint32 duplicate_slots(uint64 rows) {
    return rows <= ann::kTidsPerElement ? 0
                                        : static_cast<uint32>((rows - 1) / ann::kTidsPerElement);
}

uint64 count_rows(const ann::BuildRows *rows, uint32 node) {
    uint64 count = 0;
    rows->for_each_tid(node, [&](ann::Tid) { count++; });
    return count;
}

void fill_header(Writer *w, uint32 node) {
    ann::ElementHeader &header = w->image.header();
    uint64 row = 0;
    w->rows->for_each_tid(node, [&](ann::Tid tid) {
        if (row < ann::kTidsPerElement)
            header.tids[row] = tid;
        row++;
    });
    header.tid_count = static_cast<uint8>(Min(row, uint64{ann::kTidsPerElement}));
    int level = w->builder->level(node);
    if (level > 0)
        header.upper = w->side(w->next_side + level - 1);
    if (duplicate_slots(row) > 0)
        header.duplicates = w->side(w->next_side + level);
    w->next_side += level + duplicate_slots(row);
}

void fill_codes(Writer *w, uint32 node) {
    const ann::ElementLayout &l = w->graph->layout;
    memset(w->image.codes(l, 0), 0, l.size - l.codes_offset);
    Rotated from(w->graph, w->builder->vector(node));
    EdgeCode edge;
    for (uint32 i = 0; i < l.slots; i++) {
        uint32 neighbor = w->builder->lists().of(node)[i];
        if (neighbor == ann::kNoNode)
            continue;
        Rotated to(w->graph, w->builder->vector(neighbor));
        encode_edge(w->graph, from, to, &edge);
        put_edge(w->graph, w->image, i, edge);
    }
}

void fill_image(Writer *w, uint32 node) {
    const ann::ElementLayout &l = w->graph->layout;
    ann::NeighborLists &lists = w->builder->lists();
    w->image.clear(l, 0, ann::SlotState::kLive, static_cast<uint8>(w->builder->level(node)));
    fill_header(w, node);
    for (uint32 i = 0; i < l.slots; i++) {
        uint32 neighbor = lists.of(node)[i];
        if (neighbor == ann::kNoNode)
            continue;
        w->image.links(l)[i] = w->element(neighbor);
        w->image.distances(l)[i] = lists.distances_of(node)[i];
        w->image.set_kept(i, lists.is_kept(node, i));
    }
    memcpy(w->image.vector(l), w->builder->vector(node), l.dim * sizeof(float));
    if (l.code_bytes > 0)
        fill_codes(w, node);
}

void write_whole_elements(Writer *w) {
    uint32 per_page = w->slots(kElementPage), size = w->builder->size();
    for (uint32 node = 0; node < size; node++) {
        if (node % per_page == 0)
            init_page(w->page, w->graph->layout, kElementPage);
        fill_image(w, node);
        memcpy(slot_at(w->graph->layout, w->page, kElementPage, node % per_page), w->image.data,
               w->graph->layout.head_bytes);
        if (node % per_page == per_page - 1 || node == size - 1)
            append_page(w->index, MAIN_FORKNUM, w->element(node).block, w->page);
    }
}

void put_piece(Writer *w, char *page, PageKind kind, uint16 slot, ann::Link owner, uint32 offset,
               uint32 bytes) {
    uint8 *place = slot_at(w->graph->layout, page, kind, slot);
    *reinterpret_cast<ann::PieceHeader *>(place) = {{0, ann::SlotState::kLive, 0}, 0, 0, 0, owner};
    memcpy(place + sizeof(ann::PieceHeader), w->image.data + offset, bytes);
}

void write_spanned_element(Writer *w, uint32 node) {
    const ann::ElementLayout &l = w->graph->layout;
    ann::Link self = w->element(node);
    fill_image(w, node);
    for (uint32 i = 0; i < l.full_pieces; i++)
        w->image.pieces(l)[i] = {self.block + 1 + i, 0, 0};
    uint16 rest_slot = static_cast<uint16>(node % w->group_size());
    if (l.rest_bytes > 0) {
        w->image.pieces(l)[l.full_pieces] = {w->rest_block(node), rest_slot, 0};
        put_piece(w, w->rest_page, kRestPage, rest_slot, self,
                  l.head_bytes + l.full_pieces * l.piece_bytes, l.rest_bytes);
    }
    init_page(w->page, l, kElementPage);
    memcpy(slot_at(l, w->page, kElementPage, 0), w->image.data, l.head_bytes);
    append_page(w->index, MAIN_FORKNUM, self.block, w->page);
    for (uint32 i = 0; i < l.full_pieces; i++) {
        init_page(w->page, l, kPiecePage);
        put_piece(w, w->page, kPiecePage, 0, self, l.head_bytes + i * l.piece_bytes, l.piece_bytes);
        append_page(w->index, MAIN_FORKNUM, self.block + 1 + i, w->page);
    }
}

void write_spanned_elements(Writer *w) {
    const ann::ElementLayout &l = w->graph->layout;
    uint32 group = w->group_size(), size = w->builder->size();
    for (uint32 node = 0; node < size; node++) {
        if (l.rest_bytes > 0 && node % group == 0)
            init_page(w->rest_page, l, kRestPage);
        write_spanned_element(w, node);
        if (l.rest_bytes > 0 && (node % group == group - 1 || node == size - 1))
            append_page(w->index, MAIN_FORKNUM, w->rest_block(node), w->rest_page);
    }
}

// The next side slot, zeroed; full pages are appended on the way.
uint8 *next_side_slot(Writer *w) {
    uint64 number = w->next_side++;
    if (number % w->slots(kSidePage) == 0) {
        if (number > 0)
            append_page(w->index, MAIN_FORKNUM, w->side(number - 1).block, w->page);
        init_page(w->page, w->graph->layout, kSidePage);
    }
    return slot_at(w->graph->layout, w->page, kSidePage, w->side(number).slot);
}

void write_upper_list(Writer *w, uint32 node, int level, ann::Link next) {
    const ann::ElementLayout &l = w->graph->layout;
    auto *slot = reinterpret_cast<ann::UpperSlot *>(next_side_slot(w));
    slot->header = {{0, ann::SlotState::kLive, ann::kSideUpper},
                    0,
                    static_cast<uint8>(level),
                    0,
                    w->element(node)};
    slot->next = next;
    for (uint32 i = 0; i < l.m; i++)
        slot->links[i] = ann::Link::none();
    uint32 neighbors[ann::kMaxM];
    uint32 count = w->builder->upper_neighbors(node, level, neighbors);
    for (uint32 i = 0; i < count; i++) {
        slot->links[i] = w->element(neighbors[i]);
        upper_distances(w->graph, slot)[i] = w->builder->distance(node, neighbors[i]);
    }
}

void write_duplicates(Writer *w, uint32 node) {
    uint64 rows = count_rows(w->rows, node), row = 0;
    ann::DuplicatesSlot *slot = nullptr;
    w->rows->for_each_tid(node, [&](ann::Tid tid) {
        if (row >= ann::kTidsPerElement) {
            if (row % ann::kTidsPerElement == 0) {
                slot = reinterpret_cast<ann::DuplicatesSlot *>(next_side_slot(w));
                slot->header = {
                    {0, ann::SlotState::kLive, ann::kSideDuplicates}, 0, 0, 0, w->element(node)};
                bool last = row + ann::kTidsPerElement >= rows;
                slot->next = last ? ann::Link::none() : w->side(w->next_side);
            }
            slot->tids[slot->header.tid_count++] = tid;
        }
        row++;
    });
}

void write_side_pages(Writer *w) {
    w->next_side = 0;
    for (uint32 node = 0; node < w->builder->size(); node++) {
        ann::Link next = ann::Link::none();
        for (int level = 1; level <= w->builder->level(node); level++) {
            ann::Link self = w->side(w->next_side);
            write_upper_list(w, node, level, next);
            next = self;
        }
        write_duplicates(w, node);
    }
    if (w->next_side > 0)
        append_page(w->index, MAIN_FORKNUM, w->side(w->next_side - 1).block, w->page);
}

void publish(Writer *w) {
    Buffer buffer = read_meta(w->index, BUFFER_LOCK_EXCLUSIVE);
    GenericXLogState *state = GenericXLogStart(w->index);
    Meta *meta = page_meta(GenericXLogRegisterBuffer(state, buffer, 0));
    meta->entry = w->element(w->builder->entry_point());
    meta->entry_level = w->builder->level(w->builder->entry_point());
    GenericXLogFinish(state);
    UnlockReleaseBuffer(buffer);
    offer_page(w->graph, w->element(w->builder->size() - 1).block);
    if (w->graph->layout.rest_bytes > 0)
        offer_page(w->graph, w->rest_block(w->builder->size() - 1));
    if (w->next_side > 0)
        offer_page(w->graph, w->side(w->next_side - 1).block);
}

} // namespace

void write_empty_index(Relation index, ForkNumber fork, const Meta &meta) {
    auto *page = static_cast<char *>(palloc(BLCKSZ));
    init_meta_page(page, meta);
    append_page(index, fork, kMetaBlock, page);
    pfree(page);
}

void write_graph(Relation index, ann::GraphBuilder *builder, const ann::BuildRows *rows) {
    if (builder->size() == 0)
        return;
    Writer w{};
    w.index = index;
    w.builder = builder;
    w.rows = rows;
    w.graph = open_graph(index);
    w.image.data = static_cast<uint8 *>(palloc(w.graph->layout.size));
    w.page = static_cast<char *>(palloc(BLCKSZ));
    w.rest_page = static_cast<char *>(palloc(BLCKSZ));
    w.side_base = w.end_of_elements();
    if (w.graph->layout.spanned())
        write_spanned_elements(&w);
    else
        write_whole_elements(&w);
    write_side_pages(&w);
    publish(&w);
}

} // namespace vec
