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
    bool toasted = table_bytes < info->rel->tuples * graph->space.bytes();
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

// Whether a scan can be expected to find as many rows as the query wants: without iterative scan it
// ends after ef_search elements, with it after max_scan_tuples. Of a LIMIT that is not known yet
// that is supposed.
bool reaches(const PlannerInfo *root, const IndexOptInfo *info) {
    double rows = Max(info->rel->rows, 1);
    double wanted = rows;
    if (root->limit_tuples > 0)
        wanted = Min(root->limit_tuples, rows);
    else if (root->parse->limitCount != nullptr)
        return true;
    double elements = wanted / Min(rows / Max(info->tuples, 1), 1); // looked at, for the filter
    bool iterative = hnsw_iterative_scan != static_cast<int>(IterativeScan::kOff);
    return elements <= (iterative ? hnsw_max_scan_tuples : hnsw_ef_search);
}

// What is added when all elements are looked at. The planner takes of it in proportion to the rows
// it wants, so that the cost grows with LIMIT divided by the filter's selectivity. A scan that
// would end too early costs a page's random read for every element, as if it went on: then a plan
// that finds all rows is preferred unless it is much dearer.
double rest_cost(const PlannerInfo *root, const IndexOptInfo *info, const Visits &visits) {
    double tuples = Max(info->tuples, 1);
    double random_cost;
    get_tablespace_page_costs(info->reltablespace, &random_cost, nullptr);
    double pages = Min(tuples, static_cast<double>(info->pages)) * random_cost;
    if (reaches(root, info))
        pages = page_cost(info, {tuples, 1, visits.toasted});
    return pages * (1 - visits.share);
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
    *startup_cost = page_cost(info, visits) + visits.elements * per_element;
    double rest = Max(info->tuples - visits.elements, 0);
    *total_cost = *startup_cost + rest_cost(root, info, visits) + rest * per_element;
    *selectivity = costs.indexSelectivity;
}

} // namespace vec
