// The paths of a distributed relation: unordered, and ordered where the shards can order as the
// query asks.
#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/source.h"

extern "C" {
#include "access/sysattr.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
}

namespace panvel {
namespace {

// Moving a row, or 8 kB, to the coordinator.
constexpr Cost kRowTransferCost = 0.1;
constexpr Cost kBlockTransferCost = 2.0;

const CustomPathMethods kScanPathMethods = {
    .CustomName = "Panvel Scan",
    .PlanCustomPath = plan_scan,
    .ReparameterizeCustomPathByChild = nullptr,
};

// The member of the equivalence class that this relation's shards can compute.
Expr *shippable_member(PlannerInfo *root, RelOptInfo *rel, PathKey *pathkey, Oid *type) {
    Relids relids = Source(root, rel).relids();
    ListCell *cell;
    foreach (cell, pathkey->pk_eclass->ec_members) {
        EquivalenceMember *member = lfirst_node(EquivalenceMember, cell);
        if (member->em_is_child || bms_is_empty(member->em_relids) ||
            !bms_is_subset(member->em_relids, relids))
            continue;
        if (is_shippable(relids, member->em_expr) &&
            is_shippable_with_collation(relids, member->em_expr,
                                        pathkey->pk_eclass->ec_collation)) {
            *type = member->em_datatype;
            return member->em_expr;
        }
    }
    return nullptr;
}

SortKey *make_sort_key(PlannerInfo *root, RelOptInfo *rel, PathKey *pathkey) {
    if (pathkey->pk_eclass->ec_has_volatile)
        return nullptr;
    Oid type;
    Expr *expr = shippable_member(root, rel, pathkey, &type);
    if (expr == nullptr)
        return nullptr;
    Oid op = get_opfamily_member(pathkey->pk_opfamily, type, type,
                                 static_cast<int16>(pathkey->pk_strategy));
    bool descending = pathkey->pk_strategy == BTGreaterStrategyNumber;
    // ASC and DESC mean the default operators of the expression's type.
    TypeCacheEntry *defaults = lookup_type_cache(exprType(reinterpret_cast<Node *>(expr)),
                                                 TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);
    if (!OidIsValid(op) || op != (descending ? defaults->gt_opr : defaults->lt_opr))
        return nullptr;
    auto *key = static_cast<SortKey *>(palloc(sizeof(SortKey)));
    *key = {expr, op, pathkey->pk_eclass->ec_collation, descending, pathkey->pk_nulls_first};
    return key;
}

// The sort keys for the query's whole order, or NIL when some key cannot be computed remotely.
List *make_sort_keys(PlannerInfo *root, RelOptInfo *rel) {
    List *keys = NIL;
    ListCell *cell;
    foreach (cell, root->query_pathkeys) {
        SortKey *key = make_sort_key(root, rel, lfirst_node(PathKey, cell));
        if (key == nullptr)
            return NIL;
        keys = lappend(keys, key);
    }
    return keys;
}

bool all_clauses_are_remote(RelOptInfo *rel) {
    ListCell *cell;
    foreach (cell, rel->baserestrictinfo) {
        RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
        if (!clause->pseudoconstant && !is_remote_clause(rel, clause))
            return false;
    }
    return true;
}

// Whether the first LIMIT + OFFSET rows of this relation are all that the query can need: it is
// the only relation, and nothing between scan and LIMIT adds, drops or combines rows.
bool limit_reaches_scan(PlannerInfo *root, RelOptInfo *rel) {
    Query *query = root->parse;
    return query->commandType == CMD_SELECT && query->limitCount != nullptr &&
           query->limitOption != LIMIT_OPTION_WITH_TIES && query->groupClause == NIL &&
           query->groupingSets == NIL && !query->hasAggs && !query->hasWindowFuncs &&
           query->distinctClause == NIL && !query->hasTargetSRFs && query->havingQual == nullptr &&
           query->setOperations == nullptr && query->rowMarks == NIL &&
           bms_equal(rel->relids, root->all_baserels) && bms_is_empty(rel->lateral_relids) &&
           all_clauses_are_remote(rel);
}

double limited_rows(PlannerInfo *root, double rows) {
    return root->limit_tuples > 0 ? std::min(rows, root->limit_tuples) : rows;
}

CustomPath *make_path(PlannerInfo *root, RelOptInfo *rel, const DistributedTable *table,
                      List *sort_keys, bool push_limit, const char *lock) {
    ParamPathInfo *lateral = rel->reloptkind == RELOPT_JOINREL
                                 ? nullptr
                                 : get_baserel_parampathinfo(root, rel, rel->lateral_relids);
    CustomPath *path = make_scan_path(rel, lateral, lock);
    path->path.pathkeys = sort_keys != NIL ? root->query_pathkeys : NIL;
    linitial(path->custom_private) = sort_keys;
    lsecond(path->custom_private) = push_limit ? list_make1_int(1) : NIL;

    int nodes = count_read_nodes(table);
    double rows = push_limit ? limited_rows(root, rel->rows) : rel->rows;
    Cost remote = remote_read_cost(root, rel, nodes) - kRoundTripCost;
    Cost sort = 0;
    if (sort_keys != NIL && !push_limit)
        sort =
            2 * cpu_operator_cost * rel->rows / nodes * std::log2(std::max(2.0, rel->rows / nodes));
    Cost transfer = transfer_cost(rows, rel->reltarget->width);
    path->path.rows = clamp_row_est(rows);
    path->path.startup_cost = kRoundTripCost + sort;
    if (push_limit || sort_keys != NIL)
        path->path.startup_cost += remote;
    path->path.total_cost = kRoundTripCost + remote + sort + transfer;
    return path;
}

// The shards have the shell's indexes. Which of them a worker chooses is its own affair; where a
// condition is on an index's first column and few rows pass, it will be about one page for each.
bool has_useful_index(const RelOptInfo *rel) {
    Bitmapset *columns = nullptr;
    ListCell *cell;
    foreach (cell, rel->baserestrictinfo)
        pull_varattnos(reinterpret_cast<Node *>(lfirst_node(RestrictInfo, cell)->clause),
                       rel->relid, &columns);
    foreach (cell, rel->indexlist) {
        auto *index = static_cast<IndexOptInfo *>(lfirst(cell));
        if (index->sortopfamily != nullptr && index->indexkeys[0] != 0 &&
            bms_is_member(index->indexkeys[0] - FirstLowInvalidHeapAttributeNumber, columns))
            return true;
    }
    return false;
}

} // namespace

CustomPath *make_scan_path(RelOptInfo *rel, ParamPathInfo *lookup, const char *lock) {
    CustomPath *path = makeNode(CustomPath);
    path->path.pathtype = T_CustomScan;
    path->path.parent = rel;
    path->path.pathtarget = rel->reltarget;
    path->path.param_info = lookup;
    path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
    path->methods = &kScanPathMethods;
    path->custom_private = list_make3(NIL, NIL, makeString(const_cast<char *>(lock)));
    return path;
}

int count_read_nodes(const DistributedTable *table) {
    Bitmapset *nodes = nullptr;
    for (int i = 0; i < table->shard_count; i++)
        nodes = bms_add_member(nodes, read_node(&table->shards[i]));
    return std::max(1, bms_num_members(nodes));
}

const DistributedTable *scanned_table(PlannerInfo *root, RelOptInfo *rel) {
    if (rel->reloptkind == RELOPT_BASEREL) {
        RangeTblEntry *entry = planner_rt_fetch(rel->relid, root);
        return entry->rtekind == RTE_RELATION ? find_distributed_table(entry->relid) : nullptr;
    }
    const RemoteRel *join = remote_rel_of(root, rel);
    return join != nullptr ? join->table : nullptr;
}

Cost remote_read_cost(PlannerInfo *root, RelOptInfo *rel, int nodes) {
    if (rel->reloptkind == RELOPT_JOINREL) {
        const RemoteRel *join = remote_rel_of(root, rel);
        return kRoundTripCost + join->read / nodes + join->read_copy;
    }
    return kRoundTripCost + read_cost(rel) / nodes;
}

Cost read_cost(const RelOptInfo *rel) {
    Cost per_tuple = cpu_tuple_cost + rel->baserestrictcost.per_tuple;
    Cost all = rel->pages * seq_page_cost + rel->tuples * per_tuple;
    if (!has_useful_index(rel))
        return all;
    return std::min(all, rel->rows * (random_page_cost + per_tuple));
}

Cost transfer_cost(double rows, double width) {
    return rows * (kRowTransferCost + kBlockTransferCost * width / BLCKSZ);
}

List *path_sort_keys(const CustomPath *path) {
    return static_cast<List *>(linitial(path->custom_private));
}

bool path_pushes_limit(const CustomPath *path) {
    return lsecond(path->custom_private) != nullptr;
}

bool has_small_result(PlannerInfo *root, const CustomPath *path) {
    if (path->methods == &kScanPathMethods)
        return path_lock(path)[0] == '\0' &&
               (path_pushes_limit(path) ||
                (path->path.parent->reloptkind == RELOPT_BASEREL &&
                 finds_one_row(root, path->path.parent, path->path.param_info)));
    return path->path.rows <= 100 && strcmp(path->methods->CustomName, "Panvel Aggregate") == 0;
}

const char *path_lock(const CustomPath *path) {
    return strVal(lthird(path->custom_private));
}

bool is_remote_clause(RelOptInfo *rel, RestrictInfo *clause) {
    // A condition from outside a security barrier must not see rows before the barrier's own
    // conditions were applied, unless it cannot leak.
    if (clause->security_level > rel->baserestrict_min_security && !clause->leakproof)
        return false;
    return is_shippable(rel->relids, clause->clause);
}

void add_remote_paths(PlannerInfo *root, RelOptInfo *rel, const DistributedTable *table,
                      const char *lock) {
    bool limit = limit_reaches_scan(root, rel);
    bool unordered_limit = limit && root->query_pathkeys == NIL;
    add_path(rel,
             reinterpret_cast<Path *>(make_path(root, rel, table, NIL, unordered_limit, lock)));
    if (List *sort_keys = make_sort_keys(root, rel))
        add_path(rel,
                 reinterpret_cast<Path *>(make_path(root, rel, table, sort_keys, limit, lock)));
}

void add_scan_paths(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *entry) {
    const DistributedTable *table = find_distributed_table(entry->relid);
    if (table == nullptr || IS_DUMMY_REL(rel))
        return;
    rel->pathlist = NIL;
    rel->partial_pathlist = NIL;
    rel->consider_parallel = false;
    add_remote_paths(root, rel, table, take_row_lock(root, rel));
    add_lookup_paths(root, rel, table);
}

} // namespace panvel
