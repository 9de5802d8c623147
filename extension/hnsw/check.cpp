// hnsw_index_check(): every link valid, every row of the table that is to be indexed reachable.
#include "extension/hnsw/hnsw.h"
#include "extension/hnsw/inspect.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/tableam.h"
#include "catalog/index.h"
#include "funcapi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
}

namespace vec {
namespace {

struct Check {
    explicit Check(ann::Arena arena)
        : reached(arena), queue(arena), rows(arena), missing(arena), missing_rows(arena) {}

    GraphIndex *graph;
    ReturnSetInfo *result;
    MemoryContext row_context;
    ann::KeySet reached;               // Link::key() of elements
    ann::ArenaVector<ann::Link> queue; // of them, to be followed
    ann::KeySet rows;                  // of what was reached
    // Rows of the table that were not, until found elsewhere in the index.
    ann::KeySet missing;
    ann::ArenaVector<ItemPointerData> missing_rows;
};

uint64 row_key(ann::Tid tid) {
    return (static_cast<uint64>(tid.block_high) << 32) |
           (static_cast<uint64>(tid.block_low) << 16) | tid.offset;
}

void report(Check *check, ann::Link where, const char *problem) {
    Datum values[] = {Int64GetDatum(where.block), Int32GetDatum(where.slot),
                      CStringGetTextDatum(problem)};
    bool nulls[] = {false, false, false};
    tuplestore_putvalues(check->result->setResult, check->result->setDesc, values, nulls);
}

// ---------------------------------------------------------------- pages
// The page's kind, or kPageKinds when it is damaged, which is reported.
PageKind checked_kind(Check *check, BlockNumber block, Page page) {
    const char *problem = page_problem(check->graph, page);
    if (problem == nullptr)
        return static_cast<PageKind>(page_tail(page)->kind);
    report(check, {block, 0, 0}, problem);
    return kPageKinds;
}

// Copies an element that is in use out of its page; false when the slot is not.
bool copy_element(Check *check, ann::Link *link, NeighborCopy *list, ann::ElementHeader *header) {
    OpenElement element;
    if (!open_element(check->graph, *link, BUFFER_LOCK_SHARE, Parts::kAll, &element))
        return false;
    *header = element.image.header();
    close_element(element);
    return copy_neighbors(check->graph, *link, 0, list);
}

// `dead`: the element is on its way out, and vacuum may have freed its neighbours before it.
void check_links(Check *check, ann::Link link, const NeighborCopy &list, int level, bool dead) {
    for (uint32 i = 0; i < list.capacity; i++) {
        if (list.links[i].empty())
            continue;
        const char *problem = link_problem(check->graph, list.links[i], level);
        if (dead && problem == kLinkToGone)
            continue;
        if (problem == nullptr && list.links[i] == link)
            problem = "links to itself";
        for (uint32 j = 0; j < i && problem == nullptr; j++)
            if (list.links[j] == list.links[i])
                problem = "has a neighbor twice";
        if (problem != nullptr)
            report(check, link, psprintf("level %d: %s", level, problem));
    }
}

void check_element(Check *check, ann::Link link, NeighborCopy *list) {
    ann::ElementHeader header;
    if (!copy_element(check, &link, list, &header))
        return;
    bool dead = header.slot.state == ann::SlotState::kDead;
    check_links(check, link, *list, 0, dead);
    for (int level = 1; level <= header.slot.detail; level++) {
        if (copy_neighbors(check->graph, link, level, list))
            check_links(check, link, *list, level, dead);
        else
            report(check, link, psprintf("level %d: no list", level));
    }
}

void check_page_elements(Check *check, BlockNumber block, NeighborCopy *list) {
    CHECK_FOR_INTERRUPTS();
    GraphIndex *graph = check->graph;
    ann::Link links[BLCKSZ / sizeof(ann::ElementHeader)];
    uint32 count = 0;
    Buffer buffer = ReadBuffer(graph->relation, block);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    // A page of zeros is what a crash leaves of an extension.
    if (!PageIsNew(page) && checked_kind(check, block, page) == kElementPage) {
        for (uint16 i = 0; i < page_tail(page)->slots; i++) {
            const ann::SlotHeader &header =
                slot_header(slot_at(graph->layout, page, kElementPage, i));
            if (header.state >= ann::SlotState::kLive)
                links[count++] = {block, i, header.version};
        }
    }
    UnlockReleaseBuffer(buffer);
    for (uint32 i = 0; i < count; i++)
        check_element(check, links[i], list);
}

void check_free_chains(Check *check) {
    GraphIndex *graph = check->graph;
    for (int kind = 0; kind < kPageKinds; kind++) {
        BlockNumber block = graph->meta.free_pages[kind];
        for (BlockNumber steps = 0; block != InvalidBlockNumber; steps++) {
            if (steps > RelationGetNumberOfBlocks(graph->relation)) {
                report(check, {kMetaBlock, 0, 0}, "the chain of free pages has no end");
                break;
            }
            Buffer buffer = read_page(graph, block, static_cast<PageKind>(kind), BUFFER_LOCK_SHARE);
            PageTail tail = *page_tail(BufferGetPage(buffer));
            UnlockReleaseBuffer(buffer);
            if ((tail.flags & kInFreeChain) == 0)
                report(check, {block, 0, 0}, "in the chain of free pages without its mark");
            block = tail.next_free;
        }
    }
}

// ---------------------------------------------------------------- rows
void reach(Check *check, ann::Link link) {
    if (check->reached.insert(link.key()))
        check->queue.push_back(link);
}

void add_rows(Check *check, ann::Link link, const ann::Tid *tids, uint32 count) {
    for (uint32 i = 0; i < count; i++)
        if (!check->rows.insert(row_key(tids[i])))
            report(check, link,
                   psprintf("row (%u,%u) is indexed twice",
                            (static_cast<uint32>(tids[i].block_high) << 16) | tids[i].block_low,
                            tids[i].offset));
}

void add_chain(Check *check, ann::Link element, ann::Link slot_link) {
    ann::KeySet seen(arena_in(CurrentMemoryContext));
    while (!slot_link.empty()) {
        Buffer buffer;
        uint8 *slot;
        if (!seen.insert(slot_link.key()) ||
            !open_side(check->graph, slot_link, element, ann::kSideDuplicates, BUFFER_LOCK_SHARE,
                       &buffer, &slot)) {
            report(check, element, "broken chain of duplicates");
            return;
        }
        ann::DuplicatesSlot rows = *reinterpret_cast<ann::DuplicatesSlot *>(slot);
        UnlockReleaseBuffer(buffer);
        add_rows(check, element, rows.tids, rows.header.tid_count);
        slot_link = rows.next;
    }
}

// Walks level 0 from the entry point and collects the rows of what it meets.
void walk(Check *check, NeighborCopy *list) {
    if (check->graph->meta.entry_level < 0)
        return;
    const char *problem =
        link_problem(check->graph, check->graph->meta.entry, check->graph->meta.entry_level);
    if (problem != nullptr)
        report(check, {kMetaBlock, 0, 0}, psprintf("entry point: %s", problem));
    reach(check, check->graph->meta.entry);
    while (!check->queue.empty()) {
        CHECK_FOR_INTERRUPTS();
        ann::Link link = check->queue.back();
        check->queue.pop_back();
        ann::ElementHeader header;
        if (!copy_element(check, &link, list, &header))
            continue;
        add_rows(check, link, header.tids, header.tid_count);
        add_chain(check, link, header.duplicates);
        for (uint32 i = 0; i < list->capacity; i++)
            if (!list->links[i].empty())
                reach(check, list->links[i]);
    }
}

void check_row(Relation, ItemPointer pointer, Datum *values, bool *is_null, bool, void *argument) {
    auto *check = static_cast<Check *>(argument);
    if (is_null[0] || check->rows.contains(row_key(to_tid(*pointer))))
        return;
    MemoryContext before = MemoryContextSwitchTo(check->row_context);
    bool indexed = index_vector(check->graph->space, values[0]) != nullptr;
    MemoryContextSwitchTo(before);
    MemoryContextReset(check->row_context);
    if (indexed && check->missing.insert(row_key(to_tid(*pointer))))
        check->missing_rows.push_back(*pointer);
}

// Reports which of the rows belong to the element at `link`.
void claim_missing(Check *check, ann::Link link, const ann::Tid *tids, uint32 count) {
    for (uint32 i = 0; i < Min(count, ann::kTidsPerElement); i++) {
        ItemPointerData pointer = to_pointer(tids[i]);
        if (!check->missing.contains(row_key(tids[i])) || !check->rows.insert(row_key(tids[i])))
            continue;
        report(check, link,
               psprintf("row (%u,%u) cannot be reached", ItemPointerGetBlockNumberNoCheck(&pointer),
                        ItemPointerGetOffsetNumberNoCheck(&pointer)));
    }
}

void find_missing_on(Check *check, BlockNumber block) {
    CHECK_FOR_INTERRUPTS();
    GraphIndex *graph = check->graph;
    Buffer buffer = ReadBuffer(graph->relation, block);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    bool readable = !PageIsNew(page) && page_problem(graph, page) == nullptr;
    PageKind kind = readable ? static_cast<PageKind>(page_tail(page)->kind) : kPageKinds;
    for (uint16 i = 0; readable && i < page_tail(page)->slots; i++) {
        uint8 *slot = slot_at(graph->layout, page, kind, i);
        if (slot_header(slot).state < ann::SlotState::kLive)
            continue;
        if (kind == kElementPage) {
            const auto &header = *reinterpret_cast<ann::ElementHeader *>(slot);
            claim_missing(check, {block, i, header.slot.version}, header.tids, header.tid_count);
        } else if (kind == kSidePage) {
            const auto &rows = *reinterpret_cast<ann::DuplicatesSlot *>(slot);
            claim_missing(check, rows.header.owner, rows.tids, rows.header.tid_count);
        }
    }
    UnlockReleaseBuffer(buffer);
}

// Reports the missing rows with the elements that have them, as far as there are any.
void report_missing(Check *check) {
    BlockNumber blocks = RelationGetNumberOfBlocks(check->graph->relation);
    for (BlockNumber block = kMetaBlock + 1; !check->missing_rows.empty() && block < blocks;
         block++)
        find_missing_on(check, block);
    for (const ItemPointerData &row : check->missing_rows)
        if (!check->rows.contains(row_key(to_tid(row))))
            report(check, {kMetaBlock, 0, 0},
                   psprintf("row (%u,%u) is not in the index", ItemPointerGetBlockNumber(&row),
                            ItemPointerGetOffsetNumber(&row)));
}

// Compares with the table's rows in `snapshot`, which is older than the walk.
void check_rows(Check *check, const InspectedIndex &inspected, Snapshot snapshot) {
    IndexInfo *info = BuildIndexInfo(inspected.index);
    info->ii_Concurrent = true; // as amcheck does: the snapshot decides, nothing is waited for
    info->ii_Unique = false;
    TableScanDesc scan = table_beginscan_strat(inspected.heap, snapshot, 0, nullptr, true, true);
    table_index_build_scan(inspected.heap, inspected.index, info, true, false, check_row, check,
                           scan);
}

} // namespace

const char *link_problem(GraphIndex *graph, ann::Link link, int level) {
    if (link.block == kMetaBlock || link.block >= RelationGetNumberOfBlocks(graph->relation))
        return "links beyond the index";
    Buffer buffer = ReadBuffer(graph->relation, link.block);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    const char *problem = PageIsNew(page) ? "links to an empty page" : page_problem(graph, page);
    if (problem == nullptr && page_tail(page)->kind != kElementPage)
        problem = "links to a page without elements";
    if (problem == nullptr && link.slot >= page_tail(page)->slots)
        problem = "links to a slot that does not exist";
    if (problem == nullptr) {
        const ann::SlotHeader &header =
            slot_header(slot_at(graph->layout, page, kElementPage, link.slot));
        if (header.version != link.version || header.state < ann::SlotState::kLive)
            problem = kLinkToGone;
        else if (header.detail < level)
            problem = "links to an element that does not reach this level";
    }
    UnlockReleaseBuffer(buffer);
    return problem;
}

SQL_FUNCTION(hnsw_index_check) {
    InitMaterializedSRF(fcinfo, 0);
    InspectedIndex inspected = open_inspected(PG_GETARG_OID(0));
    Check check(arena_in(CurrentMemoryContext));
    check.graph = inspected.graph;
    check.result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    check.row_context =
        AllocSetContextCreate(CurrentMemoryContext, "hnsw check row", ALLOCSET_DEFAULT_SIZES);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    // Vacuum frees nothing meanwhile.
    LockPage(inspected.index, kScanFence, ShareLock);
    refresh_meta(check.graph);
    auto *list = static_cast<NeighborCopy *>(palloc(sizeof(NeighborCopy)));
    check_free_chains(&check);
    BlockNumber blocks = RelationGetNumberOfBlocks(inspected.index);
    for (BlockNumber block = kMetaBlock + 1; block < blocks; block++)
        check_page_elements(&check, block, list);
    walk(&check, list);
    UnlockPage(inspected.index, kScanFence, ShareLock);
    check_rows(&check, inspected, snapshot);
    report_missing(&check);
    UnregisterSnapshot(snapshot);
    close_inspected(inspected);
    return static_cast<Datum>(0);
}

} // namespace vec
