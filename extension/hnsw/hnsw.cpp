// The access method's handler, options and settings.
#include "extension/hnsw/hnsw.h"

#include "extension/hnsw/distance_scan.h"
#include "extension/pg/index_method.h"

extern "C" {
#include "access/reloptions.h"
#include "commands/progress.h"
#include "utils/guc.h"
}

namespace vec {

int hnsw_ef_search = kDefaultEfSearch;
int hnsw_iterative_scan = static_cast<int>(IterativeScan::kOff);
int hnsw_max_scan_tuples = kDefaultMaxScanTuples;
double hnsw_scan_mem_multiplier = kDefaultScanMemMultiplier;

namespace {

relopt_kind option_kind;

constexpr config_enum_entry kIterativeScanOptions[] = {
    {"off", static_cast<int>(IterativeScan::kOff), false},
    {"relaxed_order", static_cast<int>(IterativeScan::kRelaxedOrder), false},
    {"strict_order", static_cast<int>(IterativeScan::kStrictOrder), false},
    {nullptr, 0, false},
};

void set_callbacks(IndexAmRoutine *am) {
    am->ambuild = pg::Callback<hnsw_build>::call;
    am->ambuildempty = pg::Callback<hnsw_build_empty>::call;
    am->aminsert = pg::Callback<hnsw_insert>::call;
    am->ambulkdelete = pg::Callback<hnsw_bulk_delete>::call;
    am->amvacuumcleanup = pg::Callback<hnsw_vacuum_cleanup>::call;
    am->amcostestimate = pg::Callback<hnsw_cost_estimate>::call;
    am->amoptions = pg::Callback<hnsw_options>::call;
    am->ambuildphasename = pg::Callback<hnsw_build_phase_name>::call;
    am->amvalidate = pg::Callback<hnsw_validate>::call;
    am->ambeginscan = pg::Callback<hnsw_begin_scan>::call;
    am->amrescan = pg::Callback<hnsw_rescan>::call;
    am->amgettuple = pg::Callback<hnsw_get_tuple>::call;
    am->amendscan = pg::Callback<hnsw_end_scan>::call;
}

} // namespace

static void define_settings() {
    DefineCustomIntVariable("hnsw.ef_search",
                            "Sets the size of the dynamic candidate list for search",
                            "Valid range is 1..1000.", &hnsw_ef_search, kDefaultEfSearch,
                            kMinEfSearch, kMaxEfSearch, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    DefineCustomEnumVariable(
        "hnsw.iterative_scan", "Sets how a scan goes on when a filter needs more rows.",
        "off: it ends; relaxed_order: rows of a later part may be nearer; strict_order: those are "
        "left out.",
        &hnsw_iterative_scan, static_cast<int>(IterativeScan::kOff), kIterativeScanOptions,
        PGC_USERSET, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("hnsw.max_scan_tuples",
                            "Sets how many tuples an iterative scan visits, approximately", nullptr,
                            &hnsw_max_scan_tuples, kDefaultMaxScanTuples, 1, INT_MAX, PGC_USERSET,
                            0, nullptr, nullptr, nullptr);
    DefineCustomRealVariable("hnsw.scan_mem_multiplier",
                             "Sets the multiple of work_mem that an iterative scan may use",
                             nullptr, &hnsw_scan_mem_multiplier, kDefaultScanMemMultiplier, 1,
                             kMaxScanMemMultiplier, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    MarkGUCPrefixReserved("hnsw");
}

void init_hnsw() {
    option_kind = add_reloption_kind();
    add_int_reloption(option_kind, "m", "Max number of connections", kDefaultM, kMinM, ann::kMaxM,
                      AccessExclusiveLock);
    add_int_reloption(option_kind, "ef_construction",
                      "Size of the dynamic candidate list for construction", kDefaultEfConstruction,
                      kMinEfConstruction, kMaxEfConstruction, AccessExclusiveLock);
    define_settings();
    register_distance_index(pg::Callback<hnsw_cost_estimate>::call);
}

int option_m(Relation index) {
    auto *options = reinterpret_cast<HnswOptions *>(index->rd_options);
    return options != nullptr ? options->m : kDefaultM;
}

int option_ef_construction(Relation index) {
    auto *options = reinterpret_cast<HnswOptions *>(index->rd_options);
    return options != nullptr ? options->ef_construction : kDefaultEfConstruction;
}

bytea *hnsw_options(Datum reloptions, bool validate) {
    static const relopt_parse_elt table[] = {
        {"m", RELOPT_TYPE_INT, offsetof(HnswOptions, m)},
        {"ef_construction", RELOPT_TYPE_INT, offsetof(HnswOptions, ef_construction)},
    };
    return static_cast<bytea *>(build_reloptions(reloptions, validate, option_kind,
                                                 sizeof(HnswOptions), table, lengthof(table)));
}

char *hnsw_build_phase_name(int64 phase) {
    switch (phase) {
    case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
        return pstrdup("initializing");
    case kPhaseLoad:
        return pstrdup("loading tuples");
    case kPhaseGraph:
        return pstrdup("building graph");
    case kPhaseConnect:
        return pstrdup("connecting graph");
    case kPhaseWrite:
        return pstrdup("writing pages");
    default:
        return nullptr;
    }
}

SQL_FUNCTION(hnswhandler) {
    IndexAmRoutine *am = pg::ordering_index_method(3);
    set_callbacks(am);
    PG_RETURN_POINTER(am);
}

} // namespace vec
