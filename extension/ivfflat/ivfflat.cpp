// The access method's handler, options and settings.
#include "extension/ivfflat/ivfflat.h"

#include "extension/hnsw/distance_scan.h"
#include "extension/pg/index_method.h"

extern "C" {
#include "access/reloptions.h"
#include "commands/progress.h"
#include "utils/guc.h"
}

namespace ivf {

int ivfflat_probes = kDefaultProbes;
int ivfflat_iterative_scan = static_cast<int>(IterativeScan::kOff);
int ivfflat_max_probes = kMaxLists;

namespace {

relopt_kind option_kind;

constexpr config_enum_entry kIterativeScanOptions[] = {
    {"off", static_cast<int>(IterativeScan::kOff), false},
    {"relaxed_order", static_cast<int>(IterativeScan::kRelaxedOrder), false},
    {nullptr, 0, false},
};

void set_callbacks(IndexAmRoutine *am) {
    am->ambuild = pg::Callback<ivfflat_build>::call;
    am->ambuildempty = pg::Callback<ivfflat_build_empty>::call;
    am->aminsert = pg::Callback<ivfflat_insert>::call;
    am->ambulkdelete = pg::Callback<ivfflat_bulk_delete>::call;
    am->amvacuumcleanup = pg::Callback<ivfflat_vacuum_cleanup>::call;
    am->amcostestimate = pg::Callback<ivfflat_cost_estimate>::call;
    am->amoptions = pg::Callback<ivfflat_options>::call;
    am->ambuildphasename = pg::Callback<ivfflat_build_phase_name>::call;
    am->amvalidate = pg::Callback<ivfflat_validate>::call;
    am->ambeginscan = pg::Callback<ivfflat_begin_scan>::call;
    am->amrescan = pg::Callback<ivfflat_rescan>::call;
    am->amgettuple = pg::Callback<ivfflat_get_tuple>::call;
    am->amendscan = pg::Callback<ivfflat_end_scan>::call;
}

} // namespace

static void define_settings() {
    DefineCustomIntVariable("ivfflat.probes", "Sets the number of probes",
                            "Valid range is 1..lists.", &ivfflat_probes, kDefaultProbes, kMinLists,
                            kMaxLists, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    DefineCustomEnumVariable("ivfflat.iterative_scan",
                             "Sets how a scan goes on when a filter needs more rows.",
                             "off: it ends; relaxed_order: rows of a later part may be nearer.",
                             &ivfflat_iterative_scan, static_cast<int>(IterativeScan::kOff),
                             kIterativeScanOptions, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("ivfflat.max_probes",
                            "Sets the max number of probes for iterative scans",
                            "Below ivfflat.probes, that counts.", &ivfflat_max_probes, kMaxLists,
                            kMinLists, kMaxLists, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    MarkGUCPrefixReserved("ivfflat");
}

void init_ivfflat() {
    option_kind = add_reloption_kind();
    add_int_reloption(option_kind, "lists", "Number of inverted lists", kDefaultLists, kMinLists,
                      kMaxLists, AccessExclusiveLock);
    define_settings();
    vec::register_distance_index(pg::Callback<ivfflat_cost_estimate>::call);
}

int option_lists(Relation index) {
    auto *options = reinterpret_cast<IvfOptions *>(index->rd_options);
    return options != nullptr ? options->lists : kDefaultLists;
}

bytea *ivfflat_options(Datum reloptions, bool validate) {
    static const relopt_parse_elt table[] = {
        {"lists", RELOPT_TYPE_INT, offsetof(IvfOptions, lists)},
    };
    return static_cast<bytea *>(build_reloptions(reloptions, validate, option_kind,
                                                 sizeof(IvfOptions), table, lengthof(table)));
}

char *ivfflat_build_phase_name(int64 phase) {
    switch (phase) {
    case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
        return pstrdup("initializing");
    case kPhaseKMeans:
        return pstrdup("performing k-means");
    case kPhaseAssign:
        return pstrdup("assigning tuples");
    case kPhaseLoad:
        return pstrdup("loading tuples");
    default:
        return nullptr;
    }
}

SQL_FUNCTION(ivfflathandler) {
    IndexAmRoutine *am = pg::ordering_index_method(5);
    set_callbacks(am);
    PG_RETURN_POINTER(am);
}

} // namespace ivf
