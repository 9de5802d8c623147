// What a scan costs. An index scan without ORDER BY cannot be done and costs infinity.
#include "extension/hnsw/hnsw.h"

extern "C" {
#include "access/htup_details.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"
}

namespace vec {
namespace {

// The share of an element's neighbours that a search computes distances to: the rest has been
// seen. Measured on MNIST: about 15 per element expanded with m = 16.
constexpr double kNewPerLink = 0.5;

struct Visits {
    double elements; // read by a search
    double share;    // of all elements
    bool toasted;    // the table's own pages do not hold the vectors
};

Visits expected_visits(Relation index, const IndexOptInfo *info) {
    double tuples = info->tuples;
    GraphIndex *graph = open_graph(index);
    double levels = Max(graph->meta.entry_level, 0);
    double links = graph->layout.slots;
    double visits = levels * graph->layout.m + hnsw_ef_search * links * kNewPerLink;
    if (graph->meta.code_bits > 0) // only what is expanded is read
        visits = levels * graph->layout.m + 1.5 * hnsw_ef_search;
    visits = Min(visits, Max(tuples, 1));
    double table_bytes = static_cast<double>(info->rel->pages) * BLCKSZ;
    bool toasted = table_bytes < info->rel->tuples * graph->meta.dim * sizeof(float);
    return {visits, visits / Max(tuples, 1), toasted};
}

// Pages of the index that the visits read, in units of sequential page reads. A sequential scan's
// cost does not say that it fetches toasted vectors, each at about what the index reads for an
// element; so an index is not charged more pages than the table has, unless the vectors are in the
// table itself and the search reads most of them, too.
double page_cost(const IndexOptInfo *info, const Visits &visits) {
    double random_cost, sequential_cost;
    get_tablespace_page_costs(info->reltablespace, &random_cost, &sequential_cost);
    double pages = Min(visits.elements, static_cast<double>(info->pages));
    if (visits.share >= 0.5 && !visits.toasted)
        return pages * random_cost;
    return Min(pages * random_cost, info->rel->pages * sequential_cost + pages * cpu_tuple_cost);
}

} // namespace

void hnsw_cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup_cost,
                        Cost *total_cost, Selectivity *selectivity, double *correlation,
                        double *pages) {
    IndexOptInfo *info = path->indexinfo;
    *correlation = 0;
    *pages = info->pages;
    *selectivity = 0;
    if (path->indexorderbys == NIL) {
        *startup_cost = *total_cost = std::numeric_limits<double>::infinity();
        return;
    }
    GenericCosts costs = {};
    genericcostestimate(root, path, loop_count, &costs);
    Relation index = index_open(info->indexoid, NoLock);
    Visits visits = expected_visits(index, info);
    index_close(index, NoLock);
    double per_element = cpu_index_tuple_cost + 2 * cpu_operator_cost;
    // All the work is done before the first row comes.
    *startup_cost = *total_cost = page_cost(info, visits) + visits.elements * per_element;
    *selectivity = costs.indexSelectivity;
}

} // namespace vec
