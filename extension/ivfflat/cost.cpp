// What a scan costs. An index scan without ORDER BY cannot be done and costs infinity.
#include "extension/ivfflat/ivfflat.h"

extern "C" {
#include "access/htup_details.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"
}

namespace ivf {
namespace {

// Of the members of the lists that a search looks at, the share whose codes are not enough to do
// without their vectors. Measured on MNIST: about 60 of 3,000, for the ten nearest.
constexpr double kRefined = 0.03;
// A member's code beside an operator's evaluation: an estimate, too.
constexpr double kCodeCost = 0.1;

struct Visits {
    double share;   // of the lists, before the first row
    double most;    // of the lists, in all
    double members; // looked at before the first row
    double pages;   // read for that
    double cpu;
};

Visits expected_visits(IvfIndex *index, const IndexOptInfo *info) {
    double lists = index->meta.lists, tuples = Max(info->tuples, 1);
    double probes = Min(ivfflat_probes, lists);
    Visits visits = {};
    visits.share = visits.most = probes / lists;
    if (ivfflat_iterative_scan != static_cast<int>(IterativeScan::kOff))
        visits.most = Min(Max(ivfflat_probes, ivfflat_max_probes), lists) / lists;
    visits.members = tuples * visits.share;
    double groups = probes + visits.members / index->list.members;
    bool coded = index->list.has_codes();
    visits.pages = groups + lists / index->root.members;
    if (coded)
        visits.pages += visits.members * kRefined;
    visits.cpu = (visits.members + lists) * cpu_operator_cost * (coded ? kCodeCost : 1);
    return visits;
}

// In units of sequential page reads. A sequential scan's cost does not say that it fetches toasted
// vectors, each at about what the index reads for one; so an index is not charged more pages
// than the table has.
double page_cost(const IndexOptInfo *info, double pages) {
    double random_cost, sequential_cost;
    get_tablespace_page_costs(info->reltablespace, &random_cost, &sequential_cost);
    pages = Min(pages, static_cast<double>(info->pages));
    return Min(pages * random_cost, info->rel->pages * sequential_cost + pages * cpu_tuple_cost);
}

// Whether the lists that a scan looks at can be expected to have as many rows as the query wants.
// Of a LIMIT that is not known yet that is supposed.
bool reaches(const PlannerInfo *root, const IndexOptInfo *info, const Visits &visits) {
    double rows = Max(info->rel->rows, 1);
    double wanted = rows;
    if (root->limit_tuples > 0)
        wanted = Min(root->limit_tuples, rows);
    else if (root->parse->limitCount != nullptr)
        return true;
    return wanted <= rows * visits.most;
}

// What is added when all rows are handed out; the planner takes of it in proportion to those that
// it wants. A scan that would end too early costs a page's random read for every row, as if it went
// on: then a plan that finds all rows is preferred unless it is much dearer.
double rest_cost(const PlannerInfo *root, const IndexOptInfo *info, const Visits &visits) {
    double tuples = Max(info->tuples, 1);
    double random_cost;
    get_tablespace_page_costs(info->reltablespace, &random_cost, nullptr);
    if (reaches(root, info, visits))
        return page_cost(info, tuples);
    return Min(tuples, static_cast<double>(info->pages)) * random_cost;
}

} // namespace

void ivfflat_cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count,
                           Cost *startup_cost, Cost *total_cost, Selectivity *selectivity,
                           double *correlation, double *pages) {
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
    Relation relation = index_open(info->indexoid, NoLock);
    Visits visits = expected_visits(open_index(relation), info);
    index_close(relation, NoLock);
    *startup_cost = page_cost(info, visits.pages) + visits.cpu;
    *total_cost = *startup_cost + rest_cost(root, info, visits) +
                  info->tuples * (cpu_index_tuple_cost + cpu_operator_cost);
    *selectivity = costs.indexSelectivity;
}

} // namespace ivf
