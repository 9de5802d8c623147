// The ivfflat access method: callbacks, options and what they share.
#pragma once

#include "extension/ivfflat/page.h"

extern "C" {
#include "access/amapi.h"
#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"
}

namespace ivf {

inline constexpr int kMinLists = 1, kMaxLists = 32768, kDefaultLists = 100;
inline constexpr int kDefaultProbes = 1;

enum class IterativeScan { kOff, kRelaxedOrder };

extern int ivfflat_probes;         // setting ivfflat.probes
extern int ivfflat_iterative_scan; // IterativeScan
extern int ivfflat_max_probes;

struct IvfOptions { // WITH (...), as reloptions
    int32 vl_len_;
    int lists;
};
int option_lists(Relation index);

// Registers the settings and options. Called by _PG_init.
void init_ivfflat();

// ---------------------------------------------------------------- callbacks (amapi.h)
IndexBuildResult *ivfflat_build(Relation heap, Relation index, IndexInfo *info);
void ivfflat_build_empty(Relation index);
bool ivfflat_insert(Relation index, Datum *values, bool *is_null, ItemPointer heap_tid,
                    Relation heap, IndexUniqueCheck check, bool unchanged, IndexInfo *info);
IndexBulkDeleteResult *ivfflat_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
                                           IndexBulkDeleteCallback callback, void *state);
IndexBulkDeleteResult *ivfflat_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats);
void ivfflat_cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count,
                           Cost *startup_cost, Cost *total_cost, Selectivity *selectivity,
                           double *correlation, double *pages);
bytea *ivfflat_options(Datum reloptions, bool validate);
char *ivfflat_build_phase_name(int64 phase);
bool ivfflat_validate(Oid opclass);
IndexScanDesc ivfflat_begin_scan(Relation index, int keys, int order_bys);
void ivfflat_rescan(IndexScanDesc scan, ScanKey keys, int key_count, ScanKey order_bys,
                    int order_by_count);
bool ivfflat_get_tuple(IndexScanDesc scan, ScanDirection direction);
void ivfflat_end_scan(IndexScanDesc scan);

// Phases of a build in pg_stat_progress_create_index, after PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE.
inline constexpr int64 kPhaseKMeans = 2, kPhaseAssign = 3, kPhaseLoad = 4;

inline ann::Tid to_tid(const ItemPointerData &pointer) {
    return std::bit_cast<ann::Tid>(pointer);
}
inline ItemPointerData to_pointer(ann::Tid tid) {
    return std::bit_cast<ItemPointerData>(tid);
}

} // namespace ivf
