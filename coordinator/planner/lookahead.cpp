#include "coordinator/planner/lookahead.h"

#include "coordinator/planner/scan_internal.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "optimizer/cost.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
}

namespace panvel {
namespace {

// Whether the path hands on what a remote query with a small result gives.
bool asks_for_a_few_rows(PlannerInfo *root, const Path *path) {
    switch (nodeTag(path)) {
    case T_LimitPath:
        return asks_for_a_few_rows(root, reinterpret_cast<const LimitPath *>(path)->subpath);
    case T_ProjectionPath:
        return asks_for_a_few_rows(root, reinterpret_cast<const ProjectionPath *>(path)->subpath);
    case T_SubqueryScanPath:
        return asks_for_a_few_rows(path->parent->subroot,
                                   reinterpret_cast<const SubqueryScanPath *>(path)->subpath);
    case T_SortPath:
        return asks_for_a_few_rows(root, reinterpret_cast<const SortPath *>(path)->subpath);
    case T_AggPath:
        return asks_for_a_few_rows(root, reinterpret_cast<const AggPath *>(path)->subpath);
    case T_CustomPath:
        return has_small_result(root, reinterpret_cast<const CustomPath *>(path));
    default:
        return false;
    }
}

Plan *plan_lookahead(PlannerInfo *, RelOptInfo *, CustomPath *path, List *tlist, List *,
                     List *custom_plans) {
    return pg::entry([&] {
        CustomScan *scan = makeNode(CustomScan);
        scan->scan.plan.targetlist = tlist;
        scan->flags = path->flags;
        scan->custom_plans = custom_plans; // has applied all conditions
        scan->custom_scan_tlist = static_cast<List *>(
            copyObjectImpl(static_cast<Plan *>(linitial(custom_plans))->targetlist));
        scan->methods = &kLookaheadMethods;
        return &scan->scan.plan;
    });
}

const CustomPathMethods kLookaheadPathMethods = {
    .CustomName = "Panvel Lookahead",
    .PlanCustomPath = plan_lookahead,
    .ReparameterizeCustomPathByChild = nullptr,
};

Path *make_lookahead(Path *child) {
    CustomPath *path = makeNode(CustomPath);
    path->path = *child;
    path->path.type = T_CustomPath;
    path->path.pathtype = T_CustomScan;
    path->path.parallel_safe = false;
    path->path.parallel_aware = false;
    path->path.parallel_workers = 0;
    path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
    path->custom_paths = list_make1(child);
    path->methods = &kLookaheadPathMethods;
    return &path->path;
}

void add_loop(PlannerInfo *root, RelOptInfo *joined, JoinType type, Path *outer, Path *inner,
              JoinPathExtraData *extra) {
    Path *ahead = make_lookahead(outer);
    JoinCostWorkspace workspace;
    initial_cost_nestloop(root, &workspace, type, ahead, inner, extra);
    NestPath *loop = create_nestloop_path(
        root, joined, type, &workspace, extra, ahead, inner, extra->restrictlist,
        build_join_pathkeys(root, joined, type, outer->pathkeys), nullptr);
    // Only the first rows wait for an answer.
    Cost spared = std::max(0.0, outer->rows - 1) * kRoundTripCost;
    Path *path = &loop->jpath.path;
    path->total_cost = std::max(path->startup_cost, path->total_cost - spared);
    add_path(joined, path);
}

} // namespace

void add_lookahead_paths(PlannerInfo *root, RelOptInfo *joined, RelOptInfo *outer,
                         RelOptInfo *inner, JoinType type, JoinPathExtraData *extra) {
    bool asked_anew = inner->rtekind == RTE_SUBQUERY ? !bms_is_empty(inner->lateral_relids)
                                                     : inner->reloptkind == RELOPT_BASEREL;
    if ((type != JOIN_INNER && type != JOIN_LEFT) || !asked_anew ||
        !bms_is_subset(inner->lateral_relids, outer->relids))
        return;
    if ((root->parse->commandType != CMD_SELECT && root->parse->commandType != CMD_INSERT) ||
        root->rowMarks != NIL)
        return;
    ListCell *inner_cell;
    foreach (inner_cell, inner->cheapest_parameterized_paths) {
        auto *subquery = static_cast<Path *>(lfirst(inner_cell));
        if (bms_is_empty(PATH_REQ_OUTER(subquery)) ||
            !bms_is_subset(PATH_REQ_OUTER(subquery), outer->relids) ||
            !asks_for_a_few_rows(root, subquery))
            continue;
        ListCell *cell;
        foreach (cell, outer->pathlist) {
            auto *path = static_cast<Path *>(lfirst(cell));
            if (PATH_REQ_OUTER(path) == nullptr)
                add_loop(root, joined, type, path, subquery, extra);
        }
    }
}

} // namespace panvel
