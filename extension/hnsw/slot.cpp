#include "extension/hnsw/slot.h"

extern "C" {
#include "storage/lmgr.h"
}

namespace vec {
namespace {

constexpr uint16 kNoSlot = 0xFFFF;

uint16 find_free(GraphIndex *graph, Page page, PageKind kind) {
    for (uint16 i = 0; i < page_tail(page)->slots; i++)
        if (slot_header(slot_at(graph->layout, page, kind, i)).state == ann::SlotState::kFree)
            return i;
    return kNoSlot;
}

ann::Link link_of(GraphIndex *graph, BlockNumber block, Page page, PageKind kind, uint16 slot) {
    return {block, slot, slot_header(slot_at(graph->layout, page, kind, slot)).version};
}

bool claim_in(GraphIndex *graph, BlockNumber block, PageKind kind, ClaimedSlot *claimed) {
    Buffer buffer = read_page(graph, block, kind, BUFFER_LOCK_EXCLUSIVE);
    Page page = BufferGetPage(buffer);
    uint16 slot = find_free(graph, page, kind);
    if (slot == kNoSlot) {
        UnlockReleaseBuffer(buffer);
        return false;
    }
    *claimed = {buffer, kind, false, link_of(graph, block, page, kind, slot)};
    return true;
}

// Takes the full page `block` off the head of its chain, if it still is there and still full.
void drop_full_page(GraphIndex *graph, BlockNumber block, PageKind kind) {
    Buffer meta_buffer = read_meta(graph->relation, BUFFER_LOCK_EXCLUSIVE);
    if (page_meta(BufferGetPage(meta_buffer))->free_pages[kind] == block) {
        Buffer buffer = read_page(graph, block, kind, BUFFER_LOCK_EXCLUSIVE);
        if (find_free(graph, BufferGetPage(buffer), kind) == kNoSlot) {
            GenericXLogState *state = GenericXLogStart(graph->relation);
            Page meta_page = GenericXLogRegisterBuffer(state, meta_buffer, 0);
            PageTail *tail = page_tail(GenericXLogRegisterBuffer(state, buffer, 0));
            page_meta(meta_page)->free_pages[kind] = tail->next_free;
            tail->next_free = InvalidBlockNumber;
            tail->flags &= ~kInFreeChain;
            GenericXLogFinish(state);
        }
        UnlockReleaseBuffer(buffer);
    }
    UnlockReleaseBuffer(meta_buffer);
}

BlockNumber first_free_page(GraphIndex *graph, PageKind kind) {
    Buffer buffer = read_meta(graph->relation, BUFFER_LOCK_SHARE);
    BlockNumber block = page_meta(BufferGetPage(buffer))->free_pages[kind];
    UnlockReleaseBuffer(buffer);
    return block;
}

ClaimedSlot extend(GraphIndex *graph, PageKind kind) {
    LockRelationForExtension(graph->relation, ExclusiveLock);
    Buffer buffer = ReadBuffer(graph->relation, P_NEW);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    UnlockRelationForExtension(graph->relation, ExclusiveLock);
    return {buffer, kind, true, {BufferGetBlockNumber(buffer), 0, 0}};
}

} // namespace

ClaimedSlot claim_slot(GraphIndex *graph, PageKind kind) {
    ClaimedSlot claimed;
    for (;;) {
        BlockNumber block = first_free_page(graph, kind);
        if (block == InvalidBlockNumber)
            return extend(graph, kind);
        if (claim_in(graph, block, kind, &claimed))
            return claimed;
        drop_full_page(graph, block, kind);
        CHECK_FOR_INTERRUPTS();
    }
}

uint8 *edit_claimed(GraphIndex *graph, GenericXLogState *state, const ClaimedSlot &claimed) {
    int flags = claimed.fresh ? GENERIC_XLOG_FULL_IMAGE : 0;
    Page page = GenericXLogRegisterBuffer(state, claimed.buffer, flags);
    if (claimed.fresh)
        init_page(page, graph->layout, claimed.kind);
    return slot_at(graph->layout, page, claimed.kind, claimed.link.slot);
}

void release_claimed(GraphIndex *graph, const ClaimedSlot &claimed) {
    UnlockReleaseBuffer(claimed.buffer);
    if (claimed.fresh && slots_per_page(graph->layout, claimed.kind) > 1)
        offer_page(graph, claimed.link.block);
}

void offer_page(GraphIndex *graph, BlockNumber block) {
    Buffer meta_buffer = read_meta(graph->relation, BUFFER_LOCK_EXCLUSIVE);
    Buffer buffer = ReadBuffer(graph->relation, block);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    Page page = BufferGetPage(buffer);
    PageKind kind = check_page(graph, block, page);
    if ((page_tail(page)->flags & kInFreeChain) == 0 && find_free(graph, page, kind) != kNoSlot) {
        GenericXLogState *state = GenericXLogStart(graph->relation);
        Page meta_page = GenericXLogRegisterBuffer(state, meta_buffer, 0);
        PageTail *tail = page_tail(GenericXLogRegisterBuffer(state, buffer, 0));
        tail->next_free = page_meta(meta_page)->free_pages[kind];
        tail->flags |= kInFreeChain;
        page_meta(meta_page)->free_pages[kind] = block;
        GenericXLogFinish(state);
    }
    UnlockReleaseBuffer(buffer);
    UnlockReleaseBuffer(meta_buffer);
}

ann::Link reserve_slot(GraphIndex *graph, PageKind kind) {
    ClaimedSlot claimed = claim_slot(graph, kind);
    GenericXLogState *state = GenericXLogStart(graph->relation);
    slot_header(edit_claimed(graph, state, claimed)).state = ann::SlotState::kReserved;
    GenericXLogFinish(state);
    release_claimed(graph, claimed);
    return claimed.link;
}

void free_reserved(GraphIndex *graph, ann::Link link, PageKind kind) {
    Buffer buffer = read_page(graph, link.block, kind, BUFFER_LOCK_EXCLUSIVE);
    GenericXLogState *state = GenericXLogStart(graph->relation);
    ann::SlotHeader &header = slot_header(edit_slot(graph, state, buffer, kind, link.slot));
    header.state = ann::SlotState::kFree;
    header.version++;
    GenericXLogFinish(state);
    UnlockReleaseBuffer(buffer);
    offer_page(graph, link.block);
}

uint8 *edit_slot(GraphIndex *graph, GenericXLogState *state, Buffer buffer, PageKind kind,
                 uint16 slot) {
    return slot_at(graph->layout, GenericXLogRegisterBuffer(state, buffer, 0), kind, slot);
}

} // namespace vec
