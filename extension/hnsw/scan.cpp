// Scanning: the rows of the elements that a search finds, in the order of exact distances.
#include "extension/hnsw/scan_search.h"
#include "extension/pg/heap_fetch.h"

extern "C" {
#include "access/relscan.h"
#include "pgstat.h"
#include "utils/snapmgr.h"
}

namespace vec {
namespace {

struct ScanState {
    ScanSearch *search;
    bool started;
    size_t next_result;
    uint32 elements_left;   // of ef_search; a slot of a chain counts as one
    float last_distance;    // of an element handed out
    ann::Candidate element; // whose rows are handed out
    ann::Link chain;        // next slot of its chain
    ann::Tid rows[ann::kTidsPerElement];
    uint32 row_count;
    uint32 next_row;
    BlockNumber heap_blocks; // the table has at least so many
};

void copy_rows(ScanState *state, const ann::Tid *tids, uint32 count, ann::Link next) {
    memcpy(state->rows, tids, sizeof(state->rows));
    state->row_count = count;
    state->chain = next;
}

// Looks ahead at the first rows of the elements found.
void prepare_rows(const ScanState *state, Relation table) {
    constexpr size_t kAhead = 10; // as many as most queries want
    ItemPointerData rows[kAhead];
    size_t count = 0;
    for (const ann::Candidate &candidate : state->search->layer->results) {
        OpenElement element;
        if (count == kAhead)
            break;
        if (!open_element(state->search->graph, candidate.link, BUFFER_LOCK_SHARE, Parts::kHead,
                          &element))
            continue;
        rows[count++] = to_pointer(element.image.header().tids[0]);
        close_element(element);
    }
    pg::prepare_heap_rows(table, rows, count);
}

// Copies the rows of an element; false when it is gone.
bool load_element(ScanState *state, const ann::Candidate &candidate) {
    OpenElement element;
    if (!open_element(state->search->graph, candidate.link, BUFFER_LOCK_SHARE, Parts::kHead,
                      &element))
        return false;
    const ann::ElementHeader &header = element.image.header();
    state->element = candidate;
    copy_rows(state, header.tids, header.tid_count, header.duplicates);
    close_element(element);
    if (!state->chain.empty())
        state->search->chain_read->clear();
    return true;
}

// The first slot of the element's chain that has not been read. The element's lock keeps the
// chain as it is meanwhile.
ann::Link first_unread(ScanState *state) {
    OpenElement element;
    if (!open_element(state->search->graph, state->element.link, BUFFER_LOCK_SHARE, Parts::kHead,
                      &element))
        return ann::Link::none();
    ann::Link link = element.image.header().duplicates;
    for (size_t passed = 0; !link.empty() && state->search->chain_read->contains(link.key());
         passed++) {
        Buffer buffer;
        uint8 *slot;
        bool circle = passed > state->search->chain_read->size();
        if (circle || !open_side(state->search->graph, link, state->element.link,
                                 ann::kSideDuplicates, BUFFER_LOCK_SHARE, &buffer, &slot)) {
            link = ann::Link::none();
            break;
        }
        link = reinterpret_cast<ann::DuplicatesSlot *>(slot)->next;
        UnlockReleaseBuffer(buffer);
    }
    close_element(element);
    return link;
}

// Copies the rows of the next slot of the element's chain; false at its end.
bool load_chain(ScanState *state) {
    ann::Link link = state->chain;
    while (!link.empty() && state->search->chain_read->insert(link.key())) {
        CHECK_FOR_INTERRUPTS();
        Buffer buffer;
        uint8 *slot;
        if (open_side(state->search->graph, link, state->element.link, ann::kSideDuplicates,
                      BUFFER_LOCK_SHARE, &buffer, &slot)) {
            auto *rows = reinterpret_cast<ann::DuplicatesSlot *>(slot);
            copy_rows(state, rows->tids, rows->header.tid_count, rows->next);
            UnlockReleaseBuffer(buffer);
            return true;
        }
        // Vacuum has freed the slot, which held no row any more; but others may follow it.
        link = first_unread(state);
    }
    state->chain = ann::Link::none();
    return false;
}

// Copies the rows of the next element; false when there are no more elements.
bool load_next_element(ScanState *state) {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        const ann::ArenaVector<ann::Candidate> &results = state->search->layer->results;
        if (state->next_result == results.size()) {
            next_batch(state->search);
            state->next_result = 0;
            if (results.empty())
                return false;
        }
        const ann::Candidate &candidate = results[state->next_result++];
        if (state->search->iterative == IterativeScan::kStrictOrder &&
            candidate.distance < state->last_distance)
            continue;
        PANVEL_ASSERT(state->next_result < 2 ||
                      candidate.distance >= results[state->next_result - 2].distance);
        if (load_element(state, candidate)) {
            state->last_distance = candidate.distance;
            return true;
        }
    }
}

// Makes the next rows ready; false when there are no more.
bool load_rows(ScanState *state) {
    bool bounded = state->search->iterative == IterativeScan::kOff;
    state->next_row = state->row_count = 0;
    while (!bounded || state->elements_left > 0) {
        if (!load_chain(state) && !load_next_element(state))
            return false;
        state->elements_left--;
        if (state->row_count > 0)
            return true;
    }
    return false;
}

// The ORDER BY operator's value for what is handed out. L2 is squared inside; a query that has no
// direction has no cosine.
void set_distance(IndexScanDesc scan, const ScanState *state) {
    const ScanSearch *search = state->search;
    double distance = state->element.distance;
    if (search->graph->metric == ann::Metric::kL2)
        distance = std::sqrt(distance);
    else if (search->no_direction)
        distance = std::numeric_limits<double>::quiet_NaN();
    else if (search->graph->metric == ann::Metric::kCosine)
        distance = std::clamp(distance, 0.0, 2.0);
    scan->xs_orderbyvals[0] = Float8GetDatum(distance);
    scan->xs_orderbynulls[0] = search->pages.query == nullptr;
}

// A damaged index must not send the executor to a block that the table does not have.
void check_row_exists(IndexScanDesc scan, ScanState *state, const ItemPointerData &row) {
    BlockNumber block = ItemPointerGetBlockNumberNoCheck(&row);
    if (block < state->heap_blocks)
        return;
    state->heap_blocks = RelationGetNumberOfBlocks(scan->heapRelation);
    if (block >= state->heap_blocks)
        report_corruption(scan->indexRelation, state->element.link.block, "a row beyond the table");
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
    state->search = make_scan_search();
    scan->opaque = state;
    if (order_bys > 0) {
        scan->xs_orderbyvals = static_cast<Datum *>(palloc0(order_bys * sizeof(Datum)));
        scan->xs_orderbynulls = static_cast<bool *>(palloc0(order_bys * sizeof(bool)));
    }
    return scan;
}

void hnsw_rescan(IndexScanDesc scan, ScanKey keys, int, ScanKey order_bys, int) {
    auto *state = static_cast<ScanState *>(scan->opaque);
    state->started = false;
    state->next_result = state->row_count = state->next_row = 0;
    state->chain = ann::Link::none();
    state->last_distance = -std::numeric_limits<float>::infinity();
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
        first_batch(state->search, scan);
        prepare_rows(state, scan->heapRelation);
        state->elements_left = state->search->ef;
        state->started = true;
    }
    if (state->next_row == state->row_count && !load_rows(state))
        return false;
    scan->xs_heaptid = to_pointer(state->rows[state->next_row++]);
    check_row_exists(scan, state, scan->xs_heaptid);
    pg::pin_heap_page(scan);
    set_distance(scan, state);
    scan->xs_recheck = false;
    scan->xs_recheckorderby = false;
    return true;
}

void hnsw_end_scan(IndexScanDesc scan) {
    auto *state = static_cast<ScanState *>(scan->opaque);
    MemoryContextDelete(state->search->kept);
    pfree(state);
    scan->opaque = nullptr;
}

} // namespace vec
