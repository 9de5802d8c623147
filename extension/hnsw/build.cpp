// CREATE INDEX: collect the table's vectors, build the graph in memory on threads, write it out;
// what does not fit maintenance_work_mem goes the way of single inserts.
#include "extension/hnsw/build.h"

#include "extension/hnsw/codes.h"
#include "extension/hnsw/write.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/tableam.h"
#include "commands/progress.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/backend_progress.h"
#include "utils/wait_event.h"
}

namespace vec {
namespace {

// One build. The C++ objects are deleted by release_build(), after an error, too.
struct BuildState {
    Relation index;
    ann::GraphOptions options;
    MemoryContext row_context;
    ann::BuildRows *rows;
    ann::GraphBuilder *builder;
    BuildImages *images;
    ann::WorkerThreads *threads;
    GraphIndex *graph; // set once the graph is in the pages: further rows are inserted there
    double indexed;
};

void release_build(int, Datum argument) {
    auto *state = reinterpret_cast<BuildState *>(DatumGetPointer(argument));
    delete std::exchange(state->threads, nullptr); // stops and joins first
    delete std::exchange(state->images, nullptr);
    delete std::exchange(state->builder, nullptr);
    delete std::exchange(state->rows, nullptr);
}

const char *type_name(ann::VectorForm form) {
    switch (form) {
    case ann::VectorForm::kHalves:
        return "halfvec";
    case ann::VectorForm::kBits:
        return "bit";
    case ann::VectorForm::kSparse:
        return "sparsevec";
    default:
        return "vector";
    }
}

void check_options(Relation index, int32 typmod, ann::VectorForm form) {
    if (typmod < 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("column does not have dimensions"),
                        errhint("Declare the column as %s(n), or cast the expression to it.",
                                type_name(form))));
    if (typmod < 1 || static_cast<uint32>(typmod) > ann::max_dim(form))
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("column cannot have more than %u dimensions for hnsw index",
                               ann::max_dim(form))));
    if (option_ef_construction(index) < 2 * option_m(index))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("ef_construction must be greater than or equal to 2 * m")));
}

Meta make_meta(Relation index) {
    int32 typmod = TupleDescAttr(RelationGetDescr(index), 0)->atttypmod;
    ann::VectorSpace space = opclass_space(index, static_cast<uint32>(typmod));
    check_options(index, typmod, space.form);
    Meta meta = {};
    meta.magic = kMagic;
    meta.version = kFormatVersion;
    meta.dim = typmod;
    meta.m = option_m(index);
    meta.ef_construction = option_ef_construction(index);
    meta.metric = static_cast<uint8>(space.metric);
    meta.form = static_cast<uint8>(space.form);
    meta.code_bits = choose_code_bits(space, meta.m);
    meta.rotation_seed = kRotationSeed;
    meta.entry = ann::Link::none();
    meta.entry_level = -1;
    for (BlockNumber &head : meta.free_pages)
        head = InvalidBlockNumber;
    return meta;
}

// In fewer dimensions an hnswlib node's links outweigh its vector.
constexpr uint32 kMinByteDim = 64;

size_t memory_limit() {
    return static_cast<size_t>(maintenance_work_mem) * 1024;
}

int thread_count(uint32 entries) {
    if (entries < 1000)
        return 1;
    int cores = static_cast<int>(std::thread::hardware_concurrency());
    return Max(1, Min(max_parallel_maintenance_workers, Max(1, cores)));
}

// Runs `work(builder, stop)` on threads and waits for it, open to interrupts.
template <typename Work> void run_threads(BuildState *state, int count, int64 phase, Work work) {
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, phase);
    pg::core([&] {
        ann::GraphBuilder *builder = state->builder;
        state->threads->start(
            count, [work, builder](int, const std::atomic<bool> &stop) { work(builder, stop); });
    });
    for (int polls = 0; !state->threads->finished(); polls++) {
        CHECK_FOR_INTERRUPTS();
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, polls < 50 ? 1 : 10,
                  PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        if (phase == kPhaseGraph)
            pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, state->builder->added());
    }
    pg::core([&] { state->threads->join(); });
}

// Bytes beside the vectors that are held in any case.
size_t graph_bytes(const ann::GraphOptions &options, uint32 size) {
    return size * ann::GraphBuilder::bytes_per_entry(options);
}

void build_graph(BuildState *state) {
    ann::GraphOptions &options = state->options;
    options.by_bytes = options.space.dense() && options.space.metric != ann::Metric::kL1 &&
                       options.space.dim >= kMinByteDim;
    options.by_bytes =
        options.by_bytes &&
        state->rows->memory() + graph_bytes(options, state->rows->size()) <= memory_limit();
    pg::core([&] { state->builder = new ann::GraphBuilder(state->options, *state->rows); });
    pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, state->builder->size());
    int threads = thread_count(state->builder->size());
    run_threads(
        state, threads, kPhaseGraph,
        [](ann::GraphBuilder *builder, const std::atomic<bool> &stop) { builder->add_all(stop); });
    run_threads(state, threads, kPhaseConnect,
                [](ann::GraphBuilder *builder, const std::atomic<bool> &stop) {
                    builder->collect_lists(stop);
                });
    run_threads(state, 1, kPhaseConnect,
                [](ann::GraphBuilder *builder, const std::atomic<bool> &) { builder->connect(); });
}

// Encodes the graph on threads and writes it.
void write_pages(BuildState *state, GraphIndex *graph) {
    uint32 size = state->builder->size();
    state->options.by_bytes = state->builder->by_bytes();
    size_t held = state->rows->memory() + graph_bytes(state->options, size);
    bool keep_rotated = graph->meta.code_bits > 0 &&
                        held + BuildImages::rotated_bytes(*graph, size) <= memory_limit();
    pg::core([&] {
        state->images = new BuildImages(*graph, *state->builder, *state->rows, keep_rotated);
    });
    BuildImages *images = state->images;
    int threads = thread_count(size);
    run_threads(
        state, threads, kPhaseConnect,
        [images](ann::GraphBuilder *, const std::atomic<bool> &stop) { images->rotate_all(stop); });
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, kPhaseWrite);
    pg::core([&] {
        state->threads->start(threads,
                              [images](int, const std::atomic<bool> &stop) { images->make(stop); });
    });
    write_graph(graph, state->builder, state->rows, images, state->threads);
}

// Writes what has been collected and frees it.
void flush_rows(BuildState *state) {
    GraphIndex *graph = open_graph(state->index);
    if (state->rows->size() > 0) {
        build_graph(state);
        write_pages(state, graph);
    }
    delete std::exchange(state->images, nullptr);
    delete std::exchange(state->builder, nullptr);
    delete std::exchange(state->rows, nullptr);
    state->graph = graph;
    refresh_meta(graph);
}

bool memory_exhausted(const BuildState *state) {
    return state->rows->memory() + graph_bytes(state->options, state->rows->size()) >=
           memory_limit();
}

void collect_row(BuildState *state, const void *vector, ann::Tid tid) {
    pg::core([&] { state->rows->add(vector, tid); });
    if (!memory_exhausted(state))
        return;
    ereport(NOTICE, (errmsg("hnsw graph no longer fits into maintenance_work_mem after %.0f tuples",
                            state->indexed + 1),
                     errdetail("Building will take significantly more time."),
                     errhint("Increase maintenance_work_mem to speed up builds.")));
    flush_rows(state);
}

void build_callback(Relation, ItemPointer tid, Datum *values, bool *is_null, bool, void *argument) {
    auto *state = static_cast<BuildState *>(argument);
    if (is_null[0])
        return;
    CHECK_FOR_INTERRUPTS();
    MemoryContext before = CurrentMemoryContext;
    MemoryContextSwitchTo(state->row_context);
    const void *vector = index_vector(state->options.space, values[0]);
    if (vector != nullptr) {
        MemoryContextSwitchTo(before);
        if (state->graph == nullptr) {
            collect_row(state, vector, to_tid(*tid));
        } else {
            MemoryContext working = AllocSetContextCreate(state->row_context, "hnsw insert search",
                                                          ALLOCSET_DEFAULT_SIZES);
            insert_row(state->graph, vector, to_tid(*tid),
                       static_cast<int>(state->options.ef_construction), working);
        }
        state->indexed++;
    }
    MemoryContextSwitchTo(before);
    MemoryContextReset(state->row_context);
}

double build_pages(BuildState *state, Relation heap, IndexInfo *info) {
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, kPhaseLoad);
    double heap_tuples = table_index_build_scan(heap, state->index, info, true, true,
                                                build_callback, state, nullptr);
    if (state->graph == nullptr)
        flush_rows(state);
    return heap_tuples;
}

} // namespace

IndexBuildResult *hnsw_build(Relation heap, Relation index, IndexInfo *info) {
    if (RelationGetNumberOfBlocks(index) != 0)
        elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(index));
    Meta meta = make_meta(index);
    write_empty_index(index, MAIN_FORKNUM, meta);

    auto *state = static_cast<BuildState *>(palloc0(sizeof(BuildState)));
    state->index = index;
    state->options = {meta_space(meta),   meta.m, meta.ef_construction, meta_layout(meta).slots,
                      meta.code_bits > 0, false};
    state->row_context =
        AllocSetContextCreate(CurrentMemoryContext, "hnsw build row", ALLOCSET_DEFAULT_SIZES);
    double heap_tuples = 0;
    PG_ENSURE_ERROR_CLEANUP(release_build, PointerGetDatum(state));
    {
        pg::core([&] {
            state->rows = new ann::BuildRows(meta_space(meta));
            state->threads = new ann::WorkerThreads();
        });
        heap_tuples = build_pages(state, heap, info);
    }
    PG_END_ENSURE_ERROR_CLEANUP(release_build, PointerGetDatum(state));
    release_build(0, PointerGetDatum(state));

    auto *result = static_cast<IndexBuildResult *>(palloc(sizeof(IndexBuildResult)));
    result->heap_tuples = heap_tuples;
    result->index_tuples = state->indexed;
    return result;
}

void hnsw_build_empty(Relation index) {
    write_empty_index(index, INIT_FORKNUM, make_meta(index));
}

} // namespace vec
