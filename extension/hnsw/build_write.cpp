// Where a build puts things, so that every link is known before anything is written:
//
//   block 0     metapage
//   from 1      elements in the order of their numbers. Where an element fits a page: as many a
//               page as fit. Else groups of as many elements as have their rests on one page:
//               each element's head and full pieces, then that page of rests.
//   then        upper pages: for each element in order, its lists from level 1 up
//   then        side pages: for each element in order, its chain of further rows
//   then        pages of the rests of sparse vectors: for each element in order
#include "extension/hnsw/build.h"
#include "extension/hnsw/slot.h"
#include "extension/pg/append_page.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "storage/latch.h"
#include "utils/wait_event.h"
}

namespace vec {
namespace {

struct Writer {
    Relation index;
    ann::GraphBuilder *builder;
    const ann::BuildRows *rows;
    BuildImages *images;
    const BuildPlan *plan;
    GraphIndex *graph;
    char *page;      // being filled
    char *rest_page; // of the present group
};

// Waits for the image of the next element. Workers that failed have not made it: joining them
// raises their error.
uint8 *next_image(Writer *w, ann::WorkerThreads *threads) {
    for (;;) {
        if (uint8 *image = w->images->next(); image != nullptr)
            return image;
        CHECK_FOR_INTERRUPTS();
        if (threads->finished() && w->images->next() == nullptr) {
            pg::core([&] { threads->join(); });
            elog(ERROR, "the threads of the build of index \"%s\" ended early",
                 RelationGetRelationName(w->index));
        }
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

void write_whole_elements(Writer *w, ann::WorkerThreads *threads) {
    uint32 per_page = w->plan->slots(kElementPage), size = w->builder->size();
    for (uint32 node = 0; node < size; node++) {
        if (node % per_page == 0)
            init_page(w->page, w->graph->layout, kElementPage);
        memcpy(slot_at(w->graph->layout, w->page, kElementPage, node % per_page),
               next_image(w, threads), w->graph->layout.head_bytes);
        w->images->done();
        if (node % per_page == per_page - 1 || node == size - 1)
            pg::append_page(w->index, MAIN_FORKNUM, w->plan->element(node).block, w->page);
    }
}

void put_piece(Writer *w, char *page, PageKind kind, uint16 slot, ann::Link owner,
               const uint8 *from, uint32 bytes) {
    uint8 *place = slot_at(w->graph->layout, page, kind, slot);
    *reinterpret_cast<ann::PieceHeader *>(place) = {{0, ann::SlotState::kLive, 0}, 0, 0, 0, owner};
    memcpy(place + sizeof(ann::PieceHeader), from, bytes);
}

void write_spanned_element(Writer *w, uint32 node, const ann::ElementImage &image) {
    const ann::ElementLayout &l = w->graph->layout;
    ann::Link self = w->plan->element(node);
    for (uint32 i = 0; i < l.full_pieces; i++)
        image.pieces(l)[i] = {self.block + 1 + i, 0, 0};
    uint16 rest_slot = static_cast<uint16>(node % w->plan->group_size());
    if (l.rest_bytes > 0) {
        image.pieces(l)[l.full_pieces] = {w->plan->rest_block(node), rest_slot, 0};
        put_piece(w, w->rest_page, kRestPage, rest_slot, self,
                  image.data + l.head_bytes + l.full_pieces * l.piece_bytes, l.rest_bytes);
    }
    init_page(w->page, l, kElementPage);
    memcpy(slot_at(l, w->page, kElementPage, 0), image.data, l.head_bytes);
    pg::append_page(w->index, MAIN_FORKNUM, self.block, w->page);
    for (uint32 i = 0; i < l.full_pieces; i++) {
        init_page(w->page, l, kPiecePage);
        put_piece(w, w->page, kPiecePage, 0, self, image.data + l.head_bytes + i * l.piece_bytes,
                  l.piece_bytes);
        pg::append_page(w->index, MAIN_FORKNUM, self.block + 1 + i, w->page);
    }
}

void write_spanned_elements(Writer *w, ann::WorkerThreads *threads) {
    const ann::ElementLayout &l = w->graph->layout;
    uint32 group = w->plan->group_size(), size = w->builder->size();
    for (uint32 node = 0; node < size; node++) {
        if (l.rest_bytes > 0 && node % group == 0)
            init_page(w->rest_page, l, kRestPage);
        write_spanned_element(w, node, {next_image(w, threads)});
        w->images->done();
        if (l.rest_bytes > 0 && (node % group == group - 1 || node == size - 1))
            pg::append_page(w->index, MAIN_FORKNUM, w->plan->rest_block(node), w->rest_page);
    }
}

// Slots of one kind that are filled one after another, from `base` on.
struct Slots {
    Writer *w;
    PageKind kind;
    BlockNumber base;
    uint64 count;

    // The next slot, zeroed; full pages are appended on the way.
    uint8 *next() {
        if (count % w->plan->slots(kind) == 0) {
            finish();
            init_page(w->page, w->graph->layout, kind);
        }
        return slot_at(w->graph->layout, w->page, kind, w->plan->nth(base, kind, count++).slot);
    }
    // Appends the page that has been begun.
    void finish() {
        if (count > 0)
            pg::append_page(w->index, MAIN_FORKNUM, w->plan->nth(base, kind, count - 1).block,
                            w->page);
    }
};

void write_upper_list(Writer *w, Slots *slots, uint32 node, int level, ann::Link next) {
    const ann::ElementLayout &l = w->graph->layout;
    ann::UpperImage image{slots->next()};
    image.clear(l);
    image.header().header = {{0, ann::SlotState::kLive, ann::kSideUpper},
                             0,
                             static_cast<uint8>(level),
                             0,
                             w->plan->element(node)};
    image.header().next = next;
    uint32 neighbors[ann::kMaxM];
    uint32 count = w->builder->upper_neighbors(node, level, neighbors);
    ann::NeighborList list = image.list(l);
    for (uint32 i = 0; i < count; i++) {
        list.links[i] = w->plan->element(neighbors[i]);
        list.distances[i] = ann::with_chosen(w->builder->distance(node, neighbors[i]), true);
    }
    if (list.blocks > 0)
        w->images->encode(list, node, neighbors, count);
}

void write_upper_pages(Writer *w) {
    Slots slots{w, kUpperPage, w->plan->upper_base(), 0};
    for (uint32 node = 0; node < w->builder->size(); node++) {
        ann::Link next = ann::Link::none();
        for (int level = 1; level <= w->builder->level(node); level++) {
            ann::Link self = w->plan->upper(slots.count);
            write_upper_list(w, &slots, node, level, next);
            next = self;
        }
    }
    slots.finish();
}

void write_duplicates(Writer *w, Slots *slots, uint32 node) {
    uint64 left = w->plan->first_side(node + 1) - w->plan->first_side(node), row = 0;
    ann::DuplicatesSlot *slot = nullptr;
    w->rows->for_each_tid(node, [&](ann::Tid tid) {
        if (row >= ann::kTidsPerElement) {
            if (row % ann::kTidsPerElement == 0) {
                slot = reinterpret_cast<ann::DuplicatesSlot *>(slots->next());
                slot->header = {{0, ann::SlotState::kLive, ann::kSideDuplicates},
                                0,
                                0,
                                0,
                                w->plan->element(node)};
                slot->next = --left == 0 ? ann::Link::none() : w->plan->side(slots->count);
            }
            slot->tids[slot->header.tid_count++] = tid;
        }
        row++;
    });
}

void write_side_pages(Writer *w) {
    Slots slots{w, kSidePage, w->plan->side_base(), 0};
    for (uint32 node = 0; node < w->builder->size(); node++)
        write_duplicates(w, &slots, node);
    slots.finish();
}

void write_overflow(Writer *w, Slots *slots, uint32 node) {
    const ann::ElementLayout &l = w->graph->layout;
    const auto *vector = static_cast<const uint8 *>(w->builder->vector(node));
    size_t bytes = w->graph->space.bytes(vector);
    uint64 left = w->plan->first_overflow(node + 1) - w->plan->first_overflow(node);
    for (size_t done = l.vector_bytes; left > 0; done += l.overflow_bytes) {
        auto *slot = reinterpret_cast<ann::OverflowSlot *>(slots->next());
        slot->header = {{0, ann::SlotState::kLive, 0}, 0, 0, 0, w->plan->element(node)};
        slot->next = --left == 0 ? ann::Link::none() : w->plan->overflow(slots->count);
        memcpy(slot + 1, vector + done, Min(bytes - done, l.overflow_bytes));
    }
}

void write_overflow_pages(Writer *w) {
    Slots slots{w, kRestPage, w->plan->overflow_base(), 0};
    if (!w->graph->layout.sparse())
        return;
    for (uint32 node = 0; node < w->builder->size(); node++)
        write_overflow(w, &slots, node);
    slots.finish();
}

void publish(Writer *w) {
    uint32 size = w->builder->size(), entry = w->builder->entry_point();
    Buffer buffer = read_meta(w->index, BUFFER_LOCK_EXCLUSIVE);
    GenericXLogState *state = GenericXLogStart(w->index);
    Meta *meta = page_meta(GenericXLogRegisterBuffer(state, buffer, 0));
    meta->entry = w->plan->element(entry);
    meta->entry_level = w->builder->level(entry);
    GenericXLogFinish(state);
    UnlockReleaseBuffer(buffer);
    offer_page(w->graph, w->plan->element(size - 1).block);
    if (w->graph->layout.rest_bytes > 0)
        offer_page(w->graph, w->plan->rest_block(size - 1));
    if (uint64 uppers = w->plan->first_upper(size); uppers > 0)
        offer_page(w->graph, w->plan->upper(uppers - 1).block);
    if (uint64 sides = w->plan->first_side(size); sides > 0)
        offer_page(w->graph, w->plan->side(sides - 1).block);
    if (uint64 rests = w->plan->first_overflow(size); rests > 0)
        offer_page(w->graph, w->plan->overflow(rests - 1).block);
}

} // namespace

void write_empty_index(Relation index, ForkNumber fork, const Meta &meta) {
    auto *page = static_cast<char *>(palloc(BLCKSZ));
    init_meta_page(page, meta);
    pg::append_page(index, fork, kMetaBlock, page);
    pfree(page);
}

void write_graph(GraphIndex *graph, ann::GraphBuilder *builder, const ann::BuildRows *rows,
                 BuildImages *images, ann::WorkerThreads *threads) {
    Writer w{};
    w.index = graph->relation;
    w.builder = builder;
    w.rows = rows;
    w.images = images;
    w.plan = &images->plan();
    w.graph = graph;
    w.page = static_cast<char *>(palloc(BLCKSZ));
    w.rest_page = static_cast<char *>(palloc(BLCKSZ));
    if (graph->layout.spanned())
        write_spanned_elements(&w, threads);
    else
        write_whole_elements(&w, threads);
    pg::core([&] { threads->join(); });
    write_upper_pages(&w);
    write_side_pages(&w);
    write_overflow_pages(&w);
    publish(&w);
}

} // namespace vec
