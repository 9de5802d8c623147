#include "extension/hnsw/scan_search.h"

extern "C" {
#include "access/relscan.h"
#include "storage/lmgr.h"
}

namespace vec {
namespace {

// More than this is given back between two query vectors. A search without iterative scan needs
// less at any setting.
constexpr Size kKeptBytes = 1024 * 1024;

size_t memory_limit() {
    double bytes = static_cast<double>(work_mem) * 1024 * hnsw_scan_mem_multiplier;
    return static_cast<size_t>(Min(bytes, static_cast<double>(MaxAllocHugeSize)));
}

void prepare_memory(ScanSearch *search, Relation index) {
    MemoryContextReset(search->query);
    if (search->graph != nullptr && MemoryContextMemAllocated(search->kept, true) > kKeptBytes) {
        MemoryContextResetOnly(search->kept);
        search->graph = nullptr;
    }
    if (search->graph != nullptr)
        return;
    MemoryContext before = MemoryContextSwitchTo(search->kept);
    GraphIndex *graph = open_graph(index);
    ann::Arena arena = arena_in(search->kept);
    search->layer = new (arena.array<ann::LayerSearch>(1)) ann::LayerSearch(arena);
    search->chain_read = new (arena.array<ann::KeySet>(1)) ann::KeySet(arena);
    search->graph = graph;
    MemoryContextSwitchTo(before);
}

const void *query_vector(ScanSearch *search, ScanKey key) {
    search->no_direction = false;
    if (key->sk_flags & SK_ISNULL)
        return nullptr;
    const GraphIndex *graph = search->graph;
    const void *query = index_vector(graph->space, key->sk_argument);
    search->no_direction = query == nullptr; // no order, either
    if (search->no_direction)
        query = palloc0(graph->space.bytes());
    return query;
}

void read_settings(ScanSearch *search) {
    search->iterative = static_cast<IterativeScan>(hnsw_iterative_scan);
    search->ef = hnsw_ef_search;
    search->max_tuples = hnsw_max_scan_tuples;
    search->max_memory = memory_limit();
}

bool has_codes(const ScanSearch *search) {
    return search->pages.has_codes(0);
}

// The first batch of a search that will be resumed.
void start_stream(ScanSearch *search, const ann::Candidate &entry) {
    ann::LayerSearch &layer = *search->layer;
    PageGraph &pages = search->pages;
    pages.level = 0;
    if (has_codes(search))
        ann::start_coded(pages, layer, pages.expansion, &entry, 1, search->ef);
    else
        ann::search_layer<true>(pages, layer, &entry, 1, search->ef, 0);
}

void search_from_top(ScanSearch *search) {
    refresh_meta(search->graph); // vacuum may have freed the entry point before we had the fence
    ann::Candidate entry;
    if (!entry_candidate(&search->pages, &entry))
        return;
    search->pages.use_codes();
    descend_to(&search->pages, search->layer, &entry, search->ef, 0);
    if (search->iterative == IterativeScan::kOff)
        search_level(&search->pages, search->layer, &entry, 1, search->ef, 0);
    else
        start_stream(search, entry);
}

bool limit_reached(const ScanSearch *search) {
    return search->layer->distances >= search->max_tuples ||
           MemoryContextMemAllocated(search->kept, true) > search->max_memory;
}

} // namespace

ScanSearch *make_scan_search() {
    auto *search = static_cast<ScanSearch *>(palloc0(sizeof(ScanSearch)));
    search->kept = AllocSetContextCreate(CurrentMemoryContext, "hnsw scan", ALLOCSET_DEFAULT_SIZES);
    search->query = AllocSetContextCreate(search->kept, "hnsw scan: query", ALLOCSET_DEFAULT_SIZES);
    return search;
}

void first_batch(ScanSearch *search, IndexScanDesc scan) {
    prepare_memory(search, scan->indexRelation);
    read_settings(search);
    MemoryContext before = MemoryContextSwitchTo(search->query);
    search->pages = {search->graph, query_vector(search, scan->orderByData)};
    search->layer->clear();
    search->layer->distances = 0;
    LockPage(scan->indexRelation, kScanFence, ShareLock);
    search_from_top(search);
    UnlockPage(scan->indexRelation, kScanFence, ShareLock);
    MemoryContextSwitchTo(before);
}

void next_batch(ScanSearch *search) {
    ann::LayerSearch *layer = search->layer;
    if (search->iterative == IterativeScan::kOff) {
        layer->results.clear();
        return;
    }
    if (limit_reached(search)) {
        layer->take_discarded(search->ef);
        return;
    }
    MemoryContext before = MemoryContextSwitchTo(search->query);
    Relation index = search->graph->relation;
    LockPage(index, kScanFence, ShareLock);
    ann::Expansion *expansion = has_codes(search) ? search->pages.expansion : nullptr;
    ann::resume_search(search->pages, *layer, expansion, search->ef,
                       [search](ann::Candidate *entry) {
                           refresh_meta(search->graph);
                           return entry_candidate(&search->pages, entry);
                       });
    UnlockPage(index, kScanFence, ShareLock);
    MemoryContextSwitchTo(before);
}

} // namespace vec
