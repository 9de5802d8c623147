// CREATE INDEX: k-means on a sample, then each row to the list of its nearest centroid, sorted by
// lists, written list by list.
#include "extension/ivfflat/build.h"

#include "extension/pg/boundary.h"

extern "C" {
#include "access/tableam.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "commands/progress.h"
#include "executor/tuptable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/backend_progress.h"
#include "utils/tuplesort.h"
#include "utils/wait_event.h"
}

namespace ivf {
namespace {

// One build. The C++ objects are deleted by release_build(), after an error, too.
struct BuildState {
    Relation heap; // NULL for an unlogged table's empty index
    IvfIndex *index;
    IndexInfo *info;
    ann::WorkerThreads *threads;
    BuildLists *lists;
    BuildBatch *filling, *working; // the second is the threads'
    Tuplesortstate *sort;
    TupleTableSlot *unsorted, *sorted;
    bytea *sorted_row; // room for one
    uint64 *members;   // of each list
    MemoryContext row_context;
    double indexed;
};

void release_build(int, Datum argument) {
    auto *state = reinterpret_cast<BuildState *>(DatumGetPointer(argument));
    delete std::exchange(state->threads, nullptr); // stops and joins first
    delete std::exchange(state->filling, nullptr);
    delete std::exchange(state->working, nullptr);
    delete std::exchange(state->lists, nullptr);
}

int thread_count() {
    int cores = static_cast<int>(std::thread::hardware_concurrency());
    return Max(1, Min(max_parallel_maintenance_workers, Max(1, cores)));
}

void wait_for_threads(ann::WorkerThreads *threads) {
    while (!threads->finished()) {
        CHECK_FOR_INTERRUPTS();
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

void set_phase(int64 phase) {
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, phase);
}

// ---------------------------------------------------------------- centroids
// Work for C++ code: on threads, their end waited for, an interrupt thrown as a pg::Error.
void run_threads(BuildState *state, bool parallel, const ann::ThreadWork &work) {
    ann::WorkerThreads *threads = state->threads;
    threads->start(parallel ? thread_count() : 1,
                   [&work](int, const std::atomic<bool> &stop) { work(stop); });
    try {
        pg::call([&] { wait_for_threads(threads); });
    } catch (...) {
        threads->cancel();
        try {
            threads->join(); // they use what is about to be unwound
        } catch (...) {
            // the interrupt is what matters
        }
        throw;
    }
    threads->join();
}

// The centre of a list's codes: for inner products the centroid as long as its members are, in
// its direction, on average.
void set_scales(BuildState *state, const Sample &sample) {
    BuildLists *lists = state->lists;
    uint32 dim = state->index->meta.dim;
    auto count = static_cast<uint32>(lists->centroids.size() / dim);
    lists->scales.assign(count, 1);
    if (!state->index->form.spherical())
        return;
    std::vector<uint32> list(sample.count);
    std::vector<float> score(sample.count);
    ann::NearestRows nearest(lists->centroids.data(), count, dim, true);
    run_threads(state, false, [&](const std::atomic<bool> &) {
        nearest.find(sample.points, sample.count, list.data(), score.data());
    });
    std::vector<double> sums(count), members(count);
    for (uint32 i = 0; i < sample.count; i++) {
        sums[list[i]] -= static_cast<double>(score[i]) * sample.norms[i];
        members[list[i]]++;
    }
    for (uint32 i = 0; i < count; i++)
        if (auto scale = static_cast<float>(sums[i] / members[i]);
            scale > 0 && std::isfinite(scale))
            lists->scales[i] = scale;
}

void set_centers(BuildState *state) {
    const IvfIndex *index = state->index;
    BuildLists *lists = state->lists;
    uint32 padded = index->list.padded;
    lists->centers.resize(static_cast<size_t>(lists->count()) * padded);
    for (uint32 i = 0; index->list.has_codes() && i < lists->count(); i++)
        rotate_center(index, &lists->centroids[static_cast<size_t>(i) * index->meta.dim],
                      lists->scales[i], &lists->centers[static_cast<size_t>(i) * padded]);
}

void find_centroids(BuildState *state, const Sample &sample, uint32 wanted) {
    const IvfIndex *index = state->index;
    pg::core([&] {
        ann::KMeansTask task = {sample.points,           sample.count, index->meta.dim, wanted,
                                index->form.spherical(), kMagic};
        state->lists->centroids =
            ann::kmeans(task, [&](bool parallel, const ann::ThreadWork &work) {
                run_threads(state, parallel, work);
            });
        // Without rows one list takes all that come: slow when they are many, but exact.
        if (state->lists->centroids.empty())
            state->lists->centroids.resize(index->meta.dim);
        set_scales(state, sample);
        set_centers(state);
    });
}

void report_little_data(Relation heap, const Sample &sample, uint32 wanted) {
    // A table of another access method that shows no rows has them elsewhere (panvel's have).
    bool elsewhere = sample.count == 0 && heap->rd_rel->relam != HEAP_TABLE_AM_OID;
    if (sample.count >= wanted || elsewhere)
        return;
    ereport(NOTICE, (errmsg("ivfflat index created with little data"),
                     errdetail("This will cause low recall."),
                     errhint("Drop the index until the table has more data.")));
}

void make_lists(BuildState *state) {
    auto wanted = static_cast<uint32>(option_lists(state->index->relation));
    Sample sample = {};
    if (state->heap != nullptr) {
        set_phase(kPhaseKMeans);
        sample = sample_rows(state->heap, state->index, state->info, wanted);
        report_little_data(state->heap, sample, wanted);
    }
    find_centroids(state, sample, wanted);
    if (sample.points != nullptr) {
        pfree(sample.points);
        pfree(sample.norms);
    }
}

// ---------------------------------------------------------------- rows to lists
// A sorted row's bytes: TID, multiplier, factors, code, vector.
struct SortedHead {
    ann::Tid tid;
    float multiplier;
    ann::MemberFactors factors;
};

// What the centroids and batches leave of maintenance_work_mem, in kB.
int sort_memory(const BuildState *state) {
    size_t held = 2 * static_cast<size_t>(BuildBatch::capacity(*state->index)) *
                  (state->index->list.vector_bytes + state->index->meta.dim * sizeof(float));
    held += (state->lists->centroids.size() + state->lists->centers.size()) * sizeof(float);
    return Max(64, maintenance_work_mem - static_cast<int>(held / 1024));
}

void start_sort(BuildState *state) {
    TupleDesc descriptor = CreateTemplateTupleDesc(2);
    TupleDescInitEntry(descriptor, 1, "list", INT4OID, -1, 0);
    TupleDescInitEntry(descriptor, 2, "row", BYTEAOID, -1, 0);
    AttrNumber column = 1;
    Oid less = Int4LessOperator, collation = InvalidOid;
    bool nulls_first = false;
    state->sort = tuplesort_begin_heap(descriptor, 1, &column, &less, &collation, &nulls_first,
                                       sort_memory(state), nullptr, TUPLESORT_NONE);
    state->unsorted = MakeSingleTupleTableSlot(descriptor, &TTSOpsVirtual);
    state->sorted = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
    const ann::ListLayout &l = state->index->list;
    state->sorted_row = static_cast<bytea *>(
        palloc(VARHDRSZ + sizeof(SortedHead) + ann::code_bytes(l.coded, l.bits) + l.vector_bytes));
}

void sort_row(BuildState *state, uint32 list, const BuildRow &row) {
    const ann::ListLayout &l = state->index->list;
    uint32 code_bytes = ann::code_bytes(l.coded, l.bits);
    SortedHead head = {row.tid, row.multiplier, row.factors};
    char *to = VARDATA(state->sorted_row);
    memcpy(to, &head, sizeof(head));
    memcpy(to + sizeof(head), row.code, code_bytes);
    memcpy(to + sizeof(head) + code_bytes, row.vector, l.vector_bytes);
    SET_VARSIZE(state->sorted_row, VARHDRSZ + sizeof(head) + code_bytes + l.vector_bytes);
    TupleTableSlot *slot = ExecClearTuple(state->unsorted);
    slot->tts_values[0] = Int32GetDatum(static_cast<int32>(list));
    slot->tts_values[1] = PointerGetDatum(state->sorted_row);
    slot->tts_isnull[0] = slot->tts_isnull[1] = false;
    tuplesort_puttupleslot(state->sort, ExecStoreVirtualTuple(slot));
    state->members[list]++;
    state->indexed++;
}

// Waits for the batch that the threads have and sorts its rows.
void collect_batch(BuildState *state) {
    if (state->working->count() == 0)
        return;
    wait_for_threads(state->threads);
    pg::core([&] { state->threads->join(); });
    for (uint32 i = 0; i < state->working->count(); i++)
        sort_row(state, state->working->list(i), state->working->row(i));
    state->working->clear();
}

// Gives the full batch to the threads, while the other is filled.
void hand_over(BuildState *state) {
    collect_batch(state);
    std::swap(state->filling, state->working);
    if (state->working->count() == 0)
        return;
    pg::core([&] {
        BuildBatch *batch = state->working;
        batch->start_work();
        state->threads->start(thread_count(),
                              [batch](int, const std::atomic<bool> &stop) { batch->work(stop); });
    });
}

void build_callback(Relation, ItemPointer tid, Datum *values, bool *is_null, bool, void *argument) {
    auto *state = static_cast<BuildState *>(argument);
    if (is_null[0])
        return;
    MemoryContext before = MemoryContextSwitchTo(state->row_context);
    IndexedValue value = read_value(state->index->form, values[0]);
    if (value.floats != nullptr)
        state->filling->add(value, to_tid(*tid));
    MemoryContextSwitchTo(before);
    MemoryContextReset(state->row_context);
    if (state->filling->full())
        hand_over(state);
}

double assign_rows(BuildState *state) {
    set_phase(kPhaseAssign);
    pg::core([&] {
        state->filling = new BuildBatch(*state->index, *state->lists);
        state->working = new BuildBatch(*state->index, *state->lists);
    });
    start_sort(state);
    double rows = table_index_build_scan(state->heap, state->index->relation, state->info, true,
                                         true, build_callback, state, nullptr);
    hand_over(state);
    collect_batch(state);
    tuplesort_performsort(state->sort);
    return rows;
}

// ---------------------------------------------------------------- lists to pages
// Adds the next row in the order of lists.
void write_row(BuildState *state, ListWriter *writer, uint32 list) {
    const ann::ListLayout &l = state->index->list;
    bool is_null;
    if (!tuplesort_gettupleslot(state->sort, true, false, state->sorted, nullptr) ||
        DatumGetInt32(slot_getattr(state->sorted, 1, &is_null)) != static_cast<int32>(list))
        elog(ERROR, "the rows of list %u are not those that were counted", list);
    auto *bytes = DatumGetByteaPP(slot_getattr(state->sorted, 2, &is_null));
    auto *data = reinterpret_cast<uint8 *>(VARDATA_ANY(bytes));
    SortedHead head;
    memcpy(&head, data, sizeof(head));
    const uint8 *code = data + sizeof(head);
    add_member(writer, {head.tid, head.multiplier, head.factors, code,
                        code + ann::code_bytes(l.coded, l.bits)});
}

void write_lists(BuildState *state, ListWriter *writer, BlockNumber *firsts) {
    const IvfIndex *index = state->index;
    int64 done = 0;
    for (uint32 list = 0; list < state->lists->count(); list++) {
        const float *centroid =
            &state->lists->centroids[static_cast<size_t>(list) * index->meta.dim];
        float scale = state->lists->scales[list];
        firsts[list] = begin_list(writer, Tier::kList, state->members[list], scale,
                                  center_norm(index, centroid, scale));
        for (uint64 i = 0; i < state->members[list]; i++) {
            write_row(state, writer, list);
            if (++done % 64 == 0)
                pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, done);
        }
    }
}

void write_index(BuildState *state, ForkNumber fork) {
    set_phase(kPhaseLoad);
    pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL,
                                 static_cast<int64>(state->indexed));
    auto *firsts = static_cast<BlockNumber *>(palloc(state->lists->count() * sizeof(BlockNumber)));
    ListWriter writer = make_writer(state->index, fork);
    write_lists(state, &writer, firsts);
    write_root(&writer, *state->lists, firsts);
}

// ---------------------------------------------------------------- both together
Meta make_meta(Relation relation) {
    Form form = index_form(relation);
    Meta meta = {};
    meta.magic = kMagic;
    meta.version = kFormatVersion;
    meta.dim = form.dim;
    meta.lists = 1;
    meta.metric = static_cast<uint8>(form.metric);
    meta.element = static_cast<uint8>(form.element);
    meta.root_bits = choose_root_bits(form);
    meta.list_bits = choose_list_bits(form);
    meta.root = InvalidBlockNumber;
    // Always the same, so that an index of the same rows is the same again.
    meta.rotation_seed = kMagic;
    return meta;
}

double build(BuildState *state, ForkNumber fork) {
    double rows = 0;
    pg::core([&] {
        state->threads = new ann::WorkerThreads();
        state->lists = new BuildLists();
    });
    make_lists(state);
    state->members = static_cast<uint64 *>(palloc0(state->lists->count() * sizeof(uint64)));
    if (state->heap != nullptr)
        rows = assign_rows(state);
    write_index(state, fork);
    if (state->sort != nullptr) {
        ExecDropSingleTupleTableSlot(state->unsorted);
        ExecDropSingleTupleTableSlot(state->sorted);
        tuplesort_end(state->sort);
    }
    return rows;
}

double guarded_build(BuildState *state, ForkNumber fork) {
    double rows = 0;
    PG_ENSURE_ERROR_CLEANUP(release_build, PointerGetDatum(state));
    { rows = build(state, fork); }
    PG_END_ENSURE_ERROR_CLEANUP(release_build, PointerGetDatum(state));
    release_build(0, PointerGetDatum(state));
    return rows;
}

BuildState *make_state(Relation heap, Relation relation, IndexInfo *info) {
    auto *state = static_cast<BuildState *>(palloc0(sizeof(BuildState)));
    state->heap = heap;
    state->info = info;
    state->index = static_cast<IvfIndex *>(palloc0(sizeof(IvfIndex)));
    state->index->relation = relation;
    state->index->meta = make_meta(relation);
    set_layouts(state->index);
    state->row_context =
        AllocSetContextCreate(CurrentMemoryContext, "ivfflat build row", ALLOCSET_DEFAULT_SIZES);
    return state;
}

} // namespace

IndexBuildResult *ivfflat_build(Relation heap, Relation relation, IndexInfo *info) {
    if (RelationGetNumberOfBlocks(relation) != 0)
        elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(relation));
    BuildState *state = make_state(heap, relation, info);
    auto *result = static_cast<IndexBuildResult *>(palloc(sizeof(IndexBuildResult)));
    result->heap_tuples = guarded_build(state, MAIN_FORKNUM);
    result->index_tuples = state->indexed;
    return result;
}

void ivfflat_build_empty(Relation relation) {
    guarded_build(make_state(nullptr, relation, nullptr), INIT_FORKNUM);
}

} // namespace ivf
