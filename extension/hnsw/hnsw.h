// The hnsw access method: callbacks, options and what they share.
#pragma once

#include "extension/hnsw/page.h"

extern "C" {
#include "access/amapi.h"
#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"
}

namespace vec {

inline constexpr int kMinM = 2, kDefaultM = 16;
inline constexpr int kMinEfConstruction = 4, kMaxEfConstruction = 1000, kDefaultEfConstruction = 64;
inline constexpr int kMinEfSearch = 1, kMaxEfSearch = 1000, kDefaultEfSearch = 40;

inline constexpr int kDefaultMaxScanTuples = 20000;
inline constexpr int kDefaultScanMemMultiplier = 1, kMaxScanMemMultiplier = 1000;

enum class IterativeScan { kOff, kRelaxedOrder, kStrictOrder };

extern int hnsw_ef_search;      // setting hnsw.ef_search
extern int hnsw_iterative_scan; // IterativeScan
extern int hnsw_max_scan_tuples;
extern double hnsw_scan_mem_multiplier;

struct HnswOptions { // WITH (...), as reloptions
    int32 vl_len_;
    int m;
    int ef_construction;
};
int option_m(Relation index);
int option_ef_construction(Relation index);

// Registers the settings and options. Called by _PG_init.
void init_hnsw();

// The form and the metric of the index's operator class, and `dim`; raises 0A000 for a class that
// has none of ours.
ann::VectorSpace opclass_space(Relation index, uint32 dim);

// The vector of an indexed value in the form the index keeps, in CurrentMemoryContext. NULL when
// it is not indexed: zero under cosine. Raises 22000 when its dimensions are not the index's.
const void *index_vector(const ann::VectorSpace &space, Datum value);

// Adds a row to the index in its pages. Frees what it needed from `context`, which it resets.
void insert_row(GraphIndex *graph, const void *vector, ann::Tid tid, int ef_construction,
                MemoryContext context);

inline ann::Tid to_tid(const ItemPointerData &pointer) {
    return std::bit_cast<ann::Tid>(pointer);
}
inline ItemPointerData to_pointer(ann::Tid tid) {
    return std::bit_cast<ItemPointerData>(tid);
}

// ---------------------------------------------------------------- callbacks (amapi.h)
IndexBuildResult *hnsw_build(Relation heap, Relation index, IndexInfo *info);
void hnsw_build_empty(Relation index);
bool hnsw_insert(Relation index, Datum *values, bool *is_null, ItemPointer heap_tid, Relation heap,
                 IndexUniqueCheck check, bool unchanged, IndexInfo *info);
IndexBulkDeleteResult *hnsw_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
                                        IndexBulkDeleteCallback callback, void *state);
IndexBulkDeleteResult *hnsw_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats);
void hnsw_cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup_cost,
                        Cost *total_cost, Selectivity *selectivity, double *correlation,
                        double *pages);
bytea *hnsw_options(Datum reloptions, bool validate);
char *hnsw_build_phase_name(int64 phase);
bool hnsw_validate(Oid opclass);
IndexScanDesc hnsw_begin_scan(Relation index, int keys, int order_bys);
void hnsw_rescan(IndexScanDesc scan, ScanKey keys, int key_count, ScanKey order_bys,
                 int order_by_count);
bool hnsw_get_tuple(IndexScanDesc scan, ScanDirection direction);
void hnsw_end_scan(IndexScanDesc scan);

// Phases of a build in pg_stat_progress_create_index, after PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE.
inline constexpr int64 kPhaseLoad = 2, kPhaseGraph = 3, kPhaseConnect = 4, kPhaseWrite = 5;

} // namespace vec
