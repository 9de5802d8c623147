// Giving slots back, and what belonged to them.
#include "extension/hnsw/slot.h"
#include "extension/hnsw/vacuum.h"

extern "C" {
#include "commands/vacuum.h"
#include "storage/lmgr.h"
}

namespace vec {
namespace {

// Frees the slot if it still is in this state and version.
void free_slot(GraphIndex *graph, ann::Link link, PageKind kind, ann::SlotState expected) {
    Buffer buffer = read_page(graph, link.block, kind, BUFFER_LOCK_EXCLUSIVE);
    Page page = BufferGetPage(buffer);
    const ann::SlotHeader &header = slot_header(slot_at(graph->layout, page, kind, link.slot));
    if (header.state == expected && header.version == link.version) {
        GenericXLogState *state = GenericXLogStart(graph->relation);
        ann::SlotHeader &edited = slot_header(edit_slot(graph, state, buffer, kind, link.slot));
        edited.state = ann::SlotState::kFree;
        edited.version++;
        GenericXLogFinish(state);
    }
    UnlockReleaseBuffer(buffer);
}

// Whether the element still is there, be it only reserved.
bool has_owner(GraphIndex *graph, ann::Link owner) {
    Buffer buffer = read_page(graph, owner.block, kElementPage, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    bool there = false;
    if (owner.slot < page_tail(page)->slots) {
        const ann::SlotHeader &header =
            slot_header(slot_at(graph->layout, page, kElementPage, owner.slot));
        there = header.version == owner.version && header.state != ann::SlotState::kFree;
    }
    UnlockReleaseBuffer(buffer);
    return there;
}

// A page of zeros is what a crash leaves of an extension. One that another backend is just about
// to fill is not: it holds the extension lock until it has locked the page.
void adopt_new_page(GraphIndex *graph, BlockNumber block) {
    LockRelationForExtension(graph->relation, ExclusiveLock);
    UnlockRelationForExtension(graph->relation, ExclusiveLock);
    Buffer buffer = ReadBuffer(graph->relation, block);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    if (PageIsNew(BufferGetPage(buffer))) {
        GenericXLogState *state = GenericXLogStart(graph->relation);
        Page page = GenericXLogRegisterBuffer(state, buffer, GENERIC_XLOG_FULL_IMAGE);
        init_page(page, graph->layout, kElementPage);
        GenericXLogFinish(state);
    }
    UnlockReleaseBuffer(buffer);
}

struct OwnedSlot {
    ann::Link link;
    ann::Link owner;
};

// What is to be done with a page, found out under a shared lock.
struct PageSurvey {
    bool is_new;
    PageKind kind;
    bool has_free; // and is not known to have
    uint32 owned_count;
    OwnedSlot *owned;
};

void survey_page(VacuumState *vacuum, BlockNumber block, PageSurvey *survey) {
    GraphIndex *graph = vacuum->graph;
    Buffer buffer = ReadBufferExtended(graph->relation, MAIN_FORKNUM, block, RBM_NORMAL,
                                       vacuum->info->strategy);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    survey->has_free = false;
    survey->owned_count = 0;
    survey->is_new = PageIsNew(page);
    if (!survey->is_new) {
        survey->kind = check_page(graph, block, page);
        bool in_chain = page_tail(page)->flags & kInFreeChain;
        for (uint16 i = 0; i < page_tail(page)->slots; i++) {
            uint8 *slot = slot_at(graph->layout, page, survey->kind, i);
            if (slot_header(slot).state == ann::SlotState::kFree)
                survey->has_free = !in_chain;
            else if (survey->kind != kElementPage &&
                     slot_header(slot).state == ann::SlotState::kLive)
                survey->owned[survey->owned_count++] = {
                    {block, i, slot_header(slot).version},
                    reinterpret_cast<ann::PieceHeader *>(slot)->owner};
        }
    }
    UnlockReleaseBuffer(buffer);
}

// Frees what has lost its owner, and makes the page's free slots known.
void clean_page(VacuumState *vacuum, BlockNumber block, PageSurvey *survey) {
    GraphIndex *graph = vacuum->graph;
    survey_page(vacuum, block, survey);
    if (survey->is_new) {
        adopt_new_page(graph, block);
        survey_page(vacuum, block, survey);
    }
    for (uint32 i = 0; i < survey->owned_count; i++) {
        if (has_owner(graph, survey->owned[i].owner))
            continue;
        free_slot(graph, survey->owned[i].link, survey->kind, ann::SlotState::kLive);
        survey->has_free = true;
    }
    if (survey->has_free)
        offer_page(graph, block);
}

} // namespace

void free_slots(VacuumState *vacuum) {
    GraphIndex *graph = vacuum->graph;
    for (const DeadElement &dead : vacuum->dead) {
        vacuum_delay_point();
        if (!dead.retained)
            free_slot(graph, dead.link, kElementPage, ann::SlotState::kDead);
    }
    for (const ReservedSlot &reserved : vacuum->reserved)
        free_slot(graph, reserved.link, reserved.kind, ann::SlotState::kReserved);
    PageSurvey survey = {};
    survey.owned = vacuum->arena.array<OwnedSlot>(BLCKSZ / sizeof(ann::PieceHeader));
    BlockNumber blocks = RelationGetNumberOfBlocks(graph->relation);
    for (BlockNumber block = kMetaBlock + 1; block < blocks; block++) {
        vacuum_delay_point();
        clean_page(vacuum, block, &survey);
    }
}

} // namespace vec
