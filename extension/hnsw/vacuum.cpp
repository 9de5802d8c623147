// ambulkdelete: rows out of the elements; elements left without rows out of the graph; their
// slots free for others. One vacuum runs on an index at a time.
#include "extension/hnsw/vacuum.h"

#include "extension/hnsw/slot.h"

extern "C" {
#include "commands/vacuum.h"
#include "storage/lmgr.h"
}

namespace vec {
namespace {

// Removes dead rows from `tids`, returning how many are left.
uint8 filter_tids(VacuumState *vacuum, ann::Tid *tids, uint8 count) {
    uint8 left = 0;
    for (uint8 i = 0; i < count; i++) {
        ItemPointerData pointer = to_pointer(tids[i]);
        if (vacuum->callback(&pointer, vacuum->callback_state))
            continue;
        tids[left++] = tids[i];
    }
    vacuum->stats->tuples_removed += count - left;
    vacuum->stats->num_index_tuples += left;
    return left;
}

// Removes dead rows from a slot of a chain; returns its next and whether it is empty now.
ann::Link filter_chain_slot(VacuumState *vacuum, ann::Link owner, ann::Link link, bool *empty) {
    GraphIndex *graph = vacuum->graph;
    Buffer buffer;
    uint8 *slot;
    if (!open_side(graph, link, owner, ann::kSideDuplicates, BUFFER_LOCK_EXCLUSIVE, &buffer, &slot))
        report_corruption(graph->relation, link.block, "a broken chain of duplicates");
    ann::DuplicatesSlot rows = *reinterpret_cast<ann::DuplicatesSlot *>(slot);
    uint8 left = filter_tids(vacuum, rows.tids, rows.header.tid_count);
    if (left < rows.header.tid_count) {
        GenericXLogState *state = GenericXLogStart(graph->relation);
        auto *edited = reinterpret_cast<ann::DuplicatesSlot *>(
            edit_slot(graph, state, buffer, kSidePage, link.slot));
        memcpy(edited->tids, rows.tids, sizeof(rows.tids));
        edited->header.tid_count = left;
        GenericXLogFinish(state);
    }
    UnlockReleaseBuffer(buffer);
    *empty = left == 0;
    return rows.next;
}

void free_side_slot(uint8 *slot) {
    slot_header(slot).state = ann::SlotState::kFree;
    slot_header(slot).version++;
}

// Takes the empty slot `link` out of the chain, after `before` or at its head (before is none).
void unlink_chain_slot(GraphIndex *graph, ann::Link element, Buffer element_buffer,
                       ann::Link before, ann::Link link, ann::Link next) {
    bool at_head = before.empty();
    Buffer buffer = read_page(graph, link.block, kSidePage, BUFFER_LOCK_EXCLUSIVE);
    Buffer before_buffer = InvalidBuffer;
    if (!at_head && before.block != link.block)
        before_buffer = read_page(graph, before.block, kSidePage, BUFFER_LOCK_EXCLUSIVE);
    GenericXLogState *state = GenericXLogStart(graph->relation);
    // The element first: recovery locks a record's pages in this order, as readers do.
    if (at_head) {
        uint8 *slot = edit_slot(graph, state, element_buffer, kElementPage, element.slot);
        ann::ElementImage{slot}.header().duplicates = next;
    }
    Page page = GenericXLogRegisterBuffer(state, buffer, 0);
    free_side_slot(slot_at(graph->layout, page, kSidePage, link.slot));
    if (!at_head) {
        if (BufferIsValid(before_buffer))
            page = GenericXLogRegisterBuffer(state, before_buffer, 0);
        uint8 *slot = slot_at(graph->layout, page, kSidePage, before.slot);
        reinterpret_cast<ann::DuplicatesSlot *>(slot)->next = next;
    }
    GenericXLogFinish(state);
    if (BufferIsValid(before_buffer))
        UnlockReleaseBuffer(before_buffer);
    UnlockReleaseBuffer(buffer);
}

// Vacuums the element's chain; its page is locked exclusively, so nobody can interrupt and no
// sleep is due, but a damaged chain must not lead in a circle.
void filter_chain(VacuumState *vacuum, ann::Link element, Buffer buffer, ann::Link first) {
    ann::Link before = ann::Link::none();
    uint64 slots = static_cast<uint64>(RelationGetNumberOfBlocks(vacuum->graph->relation)) *
                   slots_per_page(vacuum->graph->layout, kSidePage);
    for (ann::Link link = first; !link.empty();) {
        if (slots-- == 0)
            report_corruption(vacuum->graph->relation, link.block, "a circle of duplicates");
        bool empty;
        ann::Link next = filter_chain_slot(vacuum, element, link, &empty);
        if (empty)
            unlink_chain_slot(vacuum->graph, element, buffer, before, link, next);
        else
            before = link;
        link = next;
    }
}

// Vacuums the rows of an element; without any, it becomes dead.
void filter_element(VacuumState *vacuum, Buffer buffer, ann::Link link) {
    GraphIndex *graph = vacuum->graph;
    ann::ElementImage image{slot_at(graph->layout, BufferGetPage(buffer), kElementPage, link.slot)};
    if (!image.header().duplicates.empty())
        filter_chain(vacuum, link, buffer, image.header().duplicates);
    ann::Tid tids[ann::kTidsPerElement];
    uint8 count = image.header().tid_count;
    memcpy(tids, image.header().tids, sizeof(tids));
    uint8 left = filter_tids(vacuum, tids, count);
    bool dead = left == 0 && image.header().duplicates.empty();
    if (left == count && !dead)
        return;
    GenericXLogState *state = GenericXLogStart(graph->relation);
    ann::ElementImage edited{edit_slot(graph, state, buffer, kElementPage, link.slot)};
    memcpy(edited.header().tids, tids, sizeof(tids));
    edited.header().tid_count = left;
    if (dead)
        edited.header().slot.state = ann::SlotState::kDead;
    GenericXLogFinish(state);
}

void filter_slot(VacuumState *vacuum, Buffer buffer, PageKind kind, uint16 number) {
    uint8 *slot = slot_at(vacuum->graph->layout, BufferGetPage(buffer), kind, number);
    ann::Link link = {BufferGetBlockNumber(buffer), number, slot_header(slot).version};
    if (slot_header(slot).state == ann::SlotState::kReserved)
        vacuum->reserved.push_back({link, kind});
    if (kind != kElementPage)
        return;
    if (slot_header(slot).state == ann::SlotState::kLive) {
        if (reinterpret_cast<ann::ElementHeader *>(slot)->tid_count > ann::kTidsPerElement)
            report_corruption(vacuum->graph->relation, link.block,
                              "impossible values in an element");
        filter_element(vacuum, buffer, link);
    }
    if (slot_header(slot).state == ann::SlotState::kDead)
        vacuum->dead.push_back({link, 0, false});
}

void filter_page(VacuumState *vacuum, BlockNumber block) {
    vacuum_delay_point();
    Buffer buffer = ReadBufferExtended(vacuum->graph->relation, MAIN_FORKNUM, block, RBM_NORMAL,
                                       vacuum->info->strategy);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    Page page = BufferGetPage(buffer);
    if (!PageIsNew(page)) {
        PageKind kind = check_page(vacuum->graph, block, page);
        for (uint16 i = 0; i < page_tail(page)->slots; i++)
            filter_slot(vacuum, buffer, kind, i);
    }
    UnlockReleaseBuffer(buffer);
}

void wait_for_fence(Relation index, BlockNumber fence) {
    LockPage(index, fence, ExclusiveLock);
    UnlockPage(index, fence, ExclusiveLock);
}

void run_vacuum(VacuumState *vacuum) {
    Relation index = vacuum->graph->relation;
    BlockNumber blocks = RelationGetNumberOfBlocks(index);
    for (BlockNumber block = kMetaBlock + 1; block < blocks; block++)
        filter_page(vacuum, block);
    if (vacuum->dead.empty() && vacuum->reserved.empty())
        return;
    // Whoever began to insert before the last element was marked dead has ended after this;
    // whoever begins later sees the marks.
    wait_for_fence(index, kInsertFence);
    repair_graph(vacuum);
    replace_entry(vacuum);
    wait_for_fence(index, kScanFence);
    free_slots(vacuum);
}

} // namespace

IndexBulkDeleteResult *hnsw_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
                                        IndexBulkDeleteCallback callback, void *callback_state) {
    if (stats == nullptr)
        stats = static_cast<IndexBulkDeleteResult *>(palloc0(sizeof(IndexBulkDeleteResult)));
    stats->num_index_tuples = 0;
    stats->estimated_count = false;
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "hnsw vacuum", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    VacuumState vacuum(arena_in(context));
    vacuum.info = info;
    vacuum.stats = stats;
    vacuum.callback = callback;
    vacuum.callback_state = callback_state;
    vacuum.graph = open_graph(info->index);
    vacuum.working = AllocSetContextCreate(context, "hnsw repair", ALLOCSET_DEFAULT_SIZES);
    vacuum.best_entry = ann::Link::none();
    vacuum.best_level = -1;
    run_vacuum(&vacuum);
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
    return stats;
}

IndexBulkDeleteResult *hnsw_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats) {
    if (info->analyze_only || stats == nullptr)
        return stats;
    stats->num_pages = RelationGetNumberOfBlocks(info->index);
    return stats;
}

} // namespace vec
