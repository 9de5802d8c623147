// Scanning: one search, its elements' rows handed out in the order of exact distances.
#include "extension/hnsw/hnsw.h"
#include "extension/hnsw/page_graph.h"

extern "C" {
#include "access/relscan.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"
}

namespace vec {
namespace {

struct ScanState {
    MemoryContext context; // of one search; reset by a rescan
    bool started;
    GraphIndex *graph;
    ann::LayerSearch *search;
    size_t next_result;
    uint32 elements_left; // of ef_search; a slot of a chain counts as one
    ann::Link element;    // whose rows are handed out
    ann::Link chain;      // next slot of its chain
    ann::Tid rows[ann::kTidsPerElement];
    uint32 row_count;
    uint32 next_row;
    BlockNumber heap_blocks; // the table has at least so many
};

const float *query_vector(IndexScanDesc scan, GraphIndex *graph) {
    if (scan->orderByData->sk_flags & SK_ISNULL)
        return nullptr;
    const float *query =
        index_vector(graph->metric, graph->layout.dim, scan->orderByData->sk_argument);
    if (query == nullptr) // zero under cosine: no direction, so no order
        query = static_cast<float *>(palloc0(graph->layout.dim * sizeof(float)));
    return query;
}

void run_search(IndexScanDesc scan, ScanState *state) {
    MemoryContext before = MemoryContextSwitchTo(state->context);
    state->graph = open_graph(scan->indexRelation);
    PageGraph pages{state->graph, query_vector(scan, state->graph)};
    ann::Arena arena = arena_in(state->context);
    state->search = new (arena.array<ann::LayerSearch>(1)) ann::LayerSearch(arena);
    state->elements_left = hnsw_ef_search;
    LockPage(scan->indexRelation, kScanFence, ShareLock);
    refresh_meta(state->graph); // vacuum may have freed the entry point before we had the lock
    ann::Candidate entry;
    if (entry_candidate(&pages, &entry)) {
        for (int level = state->graph->meta.entry_level; level > 0; level--)
            entry = ann::descend(pages, *state->search, entry, level);
        search_level0(&pages, state->search, arena, &entry, 1, hnsw_ef_search);
    }
    UnlockPage(scan->indexRelation, kScanFence, ShareLock);
    MemoryContextSwitchTo(before);
}

// Copies the rows of the next result; false when it is gone.
bool load_element(ScanState *state, ann::Link link) {
    OpenElement element;
    if (!open_element(state->graph, link, BUFFER_LOCK_SHARE, Parts::kHead, &element))
        return false;
    const ann::ElementHeader &header = element.image.header();
    state->element = link;
    state->chain = header.duplicates;
    state->row_count = header.tid_count;
    memcpy(state->rows, header.tids, sizeof(state->rows));
    close_element(element);
    return true;
}

// Copies the rows of the next slot of the element's chain; false at its end.
bool load_chain(ScanState *state) {
    Buffer buffer;
    uint8 *slot;
    if (state->chain.empty() || !open_side(state->graph, state->chain, state->element,
                                           ann::kSideDuplicates, BUFFER_LOCK_SHARE, &buffer, &slot))
        return false;
    auto *rows = reinterpret_cast<ann::DuplicatesSlot *>(slot);
    state->chain = rows->next;
    state->row_count = rows->header.tid_count;
    memcpy(state->rows, rows->tids, sizeof(state->rows));
    UnlockReleaseBuffer(buffer);
    return true;
}

// Makes the next rows ready; false when there are no more.
bool load_rows(ScanState *state) {
    state->next_row = state->row_count = 0;
    while (state->elements_left > 0) {
        CHECK_FOR_INTERRUPTS();
        bool loaded = load_chain(state);
        if (!loaded) {
            state->chain = ann::Link::none();
            if (state->next_result == state->search->results.size())
                return false;
            loaded = load_element(state, state->search->results[state->next_result++].link);
        }
        if (loaded)
            state->elements_left--;
        if (loaded && state->row_count > 0)
            return true;
    }
    return false;
}

// A damaged index must not send the executor to a block that the table does not have.
void check_row_exists(IndexScanDesc scan, ScanState *state, const ItemPointerData &row) {
    BlockNumber block = ItemPointerGetBlockNumberNoCheck(&row);
    if (block < state->heap_blocks)
        return;
    state->heap_blocks = RelationGetNumberOfBlocks(scan->heapRelation);
    if (block >= state->heap_blocks)
        report_corruption(scan->indexRelation, state->element.block, "a row beyond the table");
}

void check_scan(IndexScanDesc scan) {
    if (scan->orderByData == nullptr)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot scan hnsw index without order")));
    if (!IsMVCCSnapshot(scan->xs_snapshot))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("non-MVCC snapshots are not supported with hnsw")));
}

} // namespace

IndexScanDesc hnsw_begin_scan(Relation index, int keys, int order_bys) {
    IndexScanDesc scan = RelationGetIndexScan(index, keys, order_bys);
    auto *state = static_cast<ScanState *>(palloc0(sizeof(ScanState)));
    state->context =
        AllocSetContextCreate(CurrentMemoryContext, "hnsw scan", ALLOCSET_DEFAULT_SIZES);
    scan->opaque = state;
    return scan;
}

void hnsw_rescan(IndexScanDesc scan, ScanKey keys, int, ScanKey order_bys, int) {
    auto *state = static_cast<ScanState *>(scan->opaque);
    MemoryContext context = state->context;
    MemoryContextReset(context);
    *state = {};
    state->context = context;
    state->chain = ann::Link::none();
    if (keys != nullptr && scan->numberOfKeys > 0)
        memmove(scan->keyData, keys, scan->numberOfKeys * sizeof(ScanKeyData));
    if (order_bys != nullptr && scan->numberOfOrderBys > 0)
        memmove(scan->orderByData, order_bys, scan->numberOfOrderBys * sizeof(ScanKeyData));
}

bool hnsw_get_tuple(IndexScanDesc scan, ScanDirection direction) {
    auto *state = static_cast<ScanState *>(scan->opaque);
    if (direction != ForwardScanDirection)
        elog(ERROR, "hnsw scans forward only");
    if (!state->started) {
        check_scan(scan);
        pgstat_count_index_scan(scan->indexRelation);
        run_search(scan, state);
        state->started = true;
    }
    if (state->next_row == state->row_count && !load_rows(state))
        return false;
    scan->xs_heaptid = to_pointer(state->rows[state->next_row++]);
    check_row_exists(scan, state, scan->xs_heaptid);
    scan->xs_recheck = false;
    scan->xs_recheckorderby = false;
    return true;
}

void hnsw_end_scan(IndexScanDesc scan) {
    auto *state = static_cast<ScanState *>(scan->opaque);
    MemoryContextDelete(state->context);
    pfree(state);
    scan->opaque = nullptr;
}

} // namespace vec
