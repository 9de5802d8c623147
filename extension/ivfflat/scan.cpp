// Scanning: the members of the nearest lists, in the order of exact distances.
#include "extension/ivfflat/ivfflat.h"
#include "extension/ivfflat/list_search.h"
#include "extension/pg/heap_fetch.h"

extern "C" {
#include "access/relscan.h"
#include "pgstat.h"
#include "utils/snapmgr.h"
}

namespace ivf {
namespace {

// More than this is given back between two query vectors.
constexpr Size kKeptBytes = 1024 * 1024;

struct ScanState {
    MemoryContext kept; // searches and index; from one query vector to the next, up to a bound
    MemoryContext query_context;
    IvfIndex *index;     // NULL before the first query
    ListSearch *lists;   // finds lists
    ListSearch *members; // finds rows
    Query query;
    bool started;
    bool is_null;      // the query; then nothing has a distance
    bool no_direction; // a zero query under cosine: distances are NaN
    IterativeScan iterative;
    uint32 probes;           // lists of a batch
    uint32 probes_left;      // of all
    float last_distance;     // handed out
    BlockNumber heap_blocks; // the table has at least so many
};

void prepare_memory(ScanState *state, Relation relation) {
    MemoryContextReset(state->query_context);
    if (state->index != nullptr && MemoryContextMemAllocated(state->kept, true) > kKeptBytes) {
        MemoryContextResetOnly(state->kept);
        state->index = nullptr;
    }
    if (state->index == nullptr) {
        MemoryContext before = MemoryContextSwitchTo(state->kept);
        IvfIndex *index = open_index(relation);
        ann::Arena arena = arena_in(state->kept);
        state->lists = new (arena.array<ListSearch>(1)) ListSearch(index, Tier::kRoot, arena);
        state->members = new (arena.array<ListSearch>(1)) ListSearch(index, Tier::kList, arena);
        state->index = index;
        MemoryContextSwitchTo(before);
    }
    state->lists->clear();
    state->members->clear();
}

// Without a vector or a direction there is no order: everything is as far as from zero.
IndexedValue order_value(ScanState *state, ScanKey key) {
    IndexedValue value = {};
    state->is_null = key->sk_flags & SK_ISNULL;
    if (!state->is_null)
        value = read_query(state->index->form, key->sk_argument);
    state->no_direction = !state->is_null && value.floats == nullptr;
    if (value.floats == nullptr)
        value = no_query(state->index->form);
    return value;
}

void start(ScanState *state, IndexScanDesc scan) {
    prepare_memory(state, scan->indexRelation);
    state->iterative = static_cast<IterativeScan>(ivfflat_iterative_scan);
    MemoryContext before = MemoryContextSwitchTo(state->query_context);
    state->query = make_query(state->index, order_value(state, scan->orderByData));
    MemoryContextSwitchTo(before);
    uint32 lists = state->index->meta.lists;
    state->probes = Min(static_cast<uint32>(ivfflat_probes), lists);
    state->probes_left = state->probes;
    if (state->iterative == IterativeScan::kRelaxedOrder)
        state->probes_left =
            Min(Max(state->probes, static_cast<uint32>(ivfflat_max_probes)), lists);
    state->lists->start(&state->query, false);
    // Whoever has all lists looked at wants the exact answer.
    state->members->start(&state->query, state->probes == lists);
    state->lists->add_root();
    state->started = true;
}

// Adds the next lists' members; false when there are no more lists to be looked at.
bool add_lists(ScanState *state) {
    uint32 wanted = Min(state->probes, state->probes_left), added = 0;
    Member list;
    state->members->clear();
    for (; added < wanted && state->lists->next(&list); added++)
        state->members->add_list({list_block(list.tid), list.distance});
    state->probes_left -= wanted;
    state->last_distance = -std::numeric_limits<float>::infinity();
    return added > 0;
}

bool next_row(ScanState *state, Member *row) {
    for (;;) {
        if (!state->members->next(row)) {
            if (state->probes_left == 0 || !add_lists(state))
                return false;
            continue;
        }
        // A row that comes later than its bound promised is left out rather than out of order.
        if (state->iterative == IterativeScan::kOff && row->distance < state->last_distance)
            continue;
        state->last_distance = row->distance;
        return true;
    }
}

// The ORDER BY operator's value.
void set_distance(IndexScanDesc scan, const ScanState *state, float distance) {
    double value = operator_value(state->index->form, distance);
    if (state->no_direction)
        value = std::numeric_limits<double>::quiet_NaN();
    scan->xs_orderbyvals[0] = Float8GetDatum(value);
    scan->xs_orderbynulls[0] = state->is_null;
}

// A damaged index must not send the executor to a block that the table does not have.
void check_row_exists(IndexScanDesc scan, ScanState *state, const Member &row) {
    BlockNumber block = ItemPointerGetBlockNumberNoCheck(&scan->xs_heaptid);
    if (block < state->heap_blocks)
        return;
    state->heap_blocks = RelationGetNumberOfBlocks(scan->heapRelation);
    if (block >= state->heap_blocks)
        report_corruption(scan->indexRelation, state->members->group_page(row),
                          "a row beyond the table");
}

void check_scan(IndexScanDesc scan) {
    if (scan->orderByData == nullptr)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot scan ivfflat index without order")));
    if (!IsMVCCSnapshot(scan->xs_snapshot))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("non-MVCC snapshots are not supported with ivfflat")));
}

} // namespace

IndexScanDesc ivfflat_begin_scan(Relation index, int keys, int order_bys) {
    IndexScanDesc scan = RelationGetIndexScan(index, keys, order_bys);
    auto *state = static_cast<ScanState *>(palloc0(sizeof(ScanState)));
    state->kept =
        AllocSetContextCreate(CurrentMemoryContext, "ivfflat scan", ALLOCSET_DEFAULT_SIZES);
    state->query_context =
        AllocSetContextCreate(state->kept, "ivfflat scan: query", ALLOCSET_DEFAULT_SIZES);
    scan->opaque = state;
    if (order_bys > 0) {
        scan->xs_orderbyvals = static_cast<Datum *>(palloc0(order_bys * sizeof(Datum)));
        scan->xs_orderbynulls = static_cast<bool *>(palloc0(order_bys * sizeof(bool)));
    }
    return scan;
}

void ivfflat_rescan(IndexScanDesc scan, ScanKey keys, int, ScanKey order_bys, int) {
    auto *state = static_cast<ScanState *>(scan->opaque);
    state->started = false;
    if (keys != nullptr && scan->numberOfKeys > 0)
        memmove(scan->keyData, keys, scan->numberOfKeys * sizeof(ScanKeyData));
    if (order_bys != nullptr && scan->numberOfOrderBys > 0)
        memmove(scan->orderByData, order_bys, scan->numberOfOrderBys * sizeof(ScanKeyData));
}

bool ivfflat_get_tuple(IndexScanDesc scan, ScanDirection direction) {
    auto *state = static_cast<ScanState *>(scan->opaque);
    if (direction != ForwardScanDirection)
        elog(ERROR, "ivfflat scans forward only");
    if (!state->started) {
        check_scan(scan);
        pgstat_count_index_scan(scan->indexRelation);
        start(state, scan);
    }
    Member row;
    if (!next_row(state, &row))
        return false;
    scan->xs_heaptid = to_pointer(row.tid);
    check_row_exists(scan, state, row);
    pg::pin_heap_page(scan);
    if (const Member *coming = state->members->coming(); coming != nullptr) {
        ItemPointerData pointer = to_pointer(coming->tid);
        pg::prepare_heap_rows(scan->heapRelation, &pointer, 1);
    }
    set_distance(scan, state, row.distance);
    scan->xs_recheck = false;
    scan->xs_recheckorderby = false;
    return true;
}

void ivfflat_end_scan(IndexScanDesc scan) {
    auto *state = static_cast<ScanState *>(scan->opaque);
    MemoryContextDelete(state->kept);
    pfree(state);
    scan->opaque = nullptr;
}

} // namespace ivf
