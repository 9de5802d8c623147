// ambulkdelete: rows out of their groups. A place that becomes free can be used by the next insert:
// README.md says why no search minds.
#include "extension/ivfflat/ivfflat.h"

extern "C" {
#include "commands/vacuum.h"
#include "storage/indexfsm.h"
}

namespace ivf {
namespace {

struct VacuumState {
    IvfIndex *index;
    IndexBulkDeleteResult *stats;
    IndexBulkDeleteCallback callback;
    void *callback_state;
    uint64 pages; // that belong to a list or are the metapage
};

bool is_dead(VacuumState *vacuum, ann::Tid tid) {
    ItemPointerData pointer = to_pointer(tid);
    bool dead = vacuum->callback(&pointer, vacuum->callback_state);
    (dead ? vacuum->stats->tuples_removed : vacuum->stats->num_index_tuples)++;
    return dead;
}

// Marks a group's dead members: a bit each, and whether there are any.
bool find_dead(VacuumState *vacuum, Page page, uint32 *dead) {
    const ann::ListLayout &l = vacuum->index->list;
    bool any = false;
    memset(dead, 0, (l.members + 31) / 32 * sizeof(uint32));
    for (uint32 i = 0; i < l.members; i++) {
        ann::Tid tid = member_tid(l, page, i);
        if (tid.offset == 0 || !is_dead(vacuum, tid))
            continue;
        dead[i / 32] |= 1U << (i % 32);
        any = true;
    }
    return any;
}

void remove_dead(VacuumState *vacuum, Buffer buffer, const uint32 *dead) {
    const ann::ListLayout &l = vacuum->index->list;
    GenericXLogState *state = GenericXLogStart(vacuum->index->relation);
    Page page = GenericXLogRegisterBuffer(state, buffer, 0);
    for (uint32 i = 0; i < l.members; i++) {
        if ((dead[i / 32] >> (i % 32) & 1) == 0)
            continue;
        if (l.has_codes())
            ann::list_block(l, page, i / ann::kBlock).live() &= ~(1U << (i % ann::kBlock));
        else
            ann::vector_slot(l, page, i)->tid = {};
    }
    GenericXLogFinish(state);
}

bool has_room(const ann::ListLayout &l, Page page) {
    for (uint32 i = 0; i < l.members; i++)
        if (member_tid(l, page, i).offset == 0)
            return true;
    return false;
}

void filter_list(VacuumState *vacuum, BlockNumber first) {
    const ann::ListLayout &l = vacuum->index->list;
    uint32 dead[BLCKSZ / sizeof(ann::VectorHeader) / 32 + 1];
    GroupWalk walk = walk_list(first);
    BlockNumber hint = InvalidBlockNumber, room = InvalidBlockNumber;
    bool past_hint = false;
    for (;;) {
        vacuum_delay_point();
        Buffer buffer = next_group(vacuum->index, Tier::kList, &walk, BUFFER_LOCK_EXCLUSIVE);
        if (!BufferIsValid(buffer))
            break;
        BlockNumber block = BufferGetBlockNumber(buffer);
        Page page = BufferGetPage(buffer);
        if (block == first)
            hint = ann::group_header(page).insert_page;
        past_hint = past_hint || block == hint;
        vacuum->pages += count_pages(l, page);
        if (find_dead(vacuum, page, dead))
            remove_dead(vacuum, buffer, dead);
        if (room == InvalidBlockNumber && !past_hint && has_room(l, page))
            room = block;
        UnlockReleaseBuffer(buffer);
    }
    if (room != InvalidBlockNumber)
        move_insert_page(vacuum->index, first, hint, room);
}

// Pages of zeros are what a crash leaves of an extension: others may have them. One that a
// backend is about to fill is locked until it is filled.
void recycle_pages(VacuumState *vacuum) {
    Relation relation = vacuum->index->relation;
    BlockNumber blocks = RelationGetNumberOfBlocks(relation);
    bool found = false;
    if (vacuum->pages >= blocks)
        return;
    for (BlockNumber block = kMetaBlock + 1; block < blocks; block++) {
        vacuum_delay_point();
        Buffer buffer = ReadBuffer(relation, block);
        LockBuffer(buffer, BUFFER_LOCK_SHARE);
        bool is_new = PageIsNew(BufferGetPage(buffer));
        UnlockReleaseBuffer(buffer);
        if (is_new)
            RecordFreeIndexPage(relation, block);
        found = found || is_new;
    }
    if (found)
        IndexFreeSpaceMapVacuum(relation);
}

} // namespace

IndexBulkDeleteResult *ivfflat_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
                                           IndexBulkDeleteCallback callback, void *state) {
    if (stats == nullptr)
        stats = static_cast<IndexBulkDeleteResult *>(palloc0(sizeof(IndexBulkDeleteResult)));
    stats->num_index_tuples = 0;
    stats->estimated_count = false;
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "ivfflat vacuum", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    VacuumState vacuum = {open_index(info->index), stats, callback, state, 1};
    const RootEntry *lists = read_root(vacuum.index, &vacuum.pages);
    for (uint32 i = 0; i < vacuum.index->meta.lists; i++)
        filter_list(&vacuum, lists[i].first);
    recycle_pages(&vacuum);
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
    return stats;
}

IndexBulkDeleteResult *ivfflat_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats) {
    if (info->analyze_only || stats == nullptr)
        return stats;
    stats->num_pages = RelationGetNumberOfBlocks(info->index);
    return stats;
}

} // namespace ivf
