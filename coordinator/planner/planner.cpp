// Hooks into PostgreSQL's planner: what cannot be done on distributed relations is refused before
// planning; every distributed relation's paths are replaced.
#include "coordinator/planner/planner.h"

#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/join.h"
#include "coordinator/planner/lookahead.h"
#include "coordinator/planner/modify_rows.h"
#include "coordinator/planner/modify_subquery.h"
#include "coordinator/planner/scan.h"
#include "coordinator/planner/whole_modify.h"
#include "extension/pg/boundary.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

planner_hook_type next_planner = nullptr;
set_rel_pathlist_hook_type next_set_rel_pathlist = nullptr;
set_join_pathlist_hook_type next_set_join_pathlist = nullptr;
create_upper_paths_hook_type next_create_upper_paths = nullptr;

[[noreturn]] void refuse(Oid relid, const char *construct, const char *hint) {
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("%s is not supported on distributed table \"%s\"", construct,
                           get_rel_name(relid)),
                    errhint("%s", hint)));
    pg_unreachable();
}

bool is_distributed(const RangeTblEntry *entry) {
    return entry->rtekind == RTE_RELATION && entry->relkind == RELKIND_RELATION &&
           find_distributed_table(entry->relid) != nullptr;
}

// Walks a query tree with its enclosing queries, so that a column is found at any depth.
struct QueryWalk {
    List *queries; // innermost first
};

void check_entry(const Query *query, Index index, RangeTblEntry *entry) {
    if (entry->tablesample != nullptr)
        refuse(entry->relid, "TABLESAMPLE", "Filter by a random() expression instead.");
    check_row_lock(query, index, entry->relid);
}

bool check_walker(Node *node, QueryWalk *walk) {
    if (node == nullptr)
        return false;
    if (IsA(node, Var)) {
        Var *var = castNode(Var, node);
        if (var->varattno >= 0 || var->varattno == TableOidAttributeNumber ||
            static_cast<int>(var->varlevelsup) >= list_length(walk->queries))
            return false;
        auto *query = static_cast<Query *>(list_nth(walk->queries, var->varlevelsup));
        RangeTblEntry *entry = rt_fetch(var->varno, query->rtable);
        if (is_distributed(entry))
            refuse(
                entry->relid,
                psprintf("system column \"%s\"", get_attname(entry->relid, var->varattno, false)),
                "Use the primary key to identify rows.");
        return false;
    }
    if (IsA(node, Query)) {
        Query *query = castNode(Query, node);
        Index index = 0;
        ListCell *cell;
        foreach (cell, query->rtable) {
            index++;
            auto *entry = lfirst_node(RangeTblEntry, cell);
            if (is_distributed(entry))
                check_entry(query, index, entry);
        }
        QueryWalk inner = {lcons(query, list_copy(walk->queries))};
        return query_tree_walker(query, pg::walker(check_walker), &inner, 0);
    }
    return expression_tree_walker(node, pg::walker(check_walker), walk);
}

bool mentions_distributed_walker(Node *node, void *context) {
    if (node == nullptr)
        return false;
    if (IsA(node, RangeTblEntry))
        return is_distributed(castNode(RangeTblEntry, node));
    if (IsA(node, Query))
        return query_tree_walker(castNode(Query, node), pg::walker(mentions_distributed_walker),
                                 context, QTW_EXAMINE_RTES_BEFORE);
    return expression_tree_walker(node, pg::walker(mentions_distributed_walker), context);
}

// What the shards may be sent as it is written.
struct Whole {
    const WholeQuery *query;
    const WholeModify *modify;
};

// Refuses what cannot be done; returns the query as one for a single shard, or the statement as one
// for the shards, where it is that.
Whole prepare_query(Query *query) {
    if (!mentions_distributed_walker(reinterpret_cast<Node *>(query), nullptr))
        return {};
    const WholeQuery *whole = find_whole_query(query);
    if (whole != nullptr) {
        strip_row_locks(query);
        return {whole, nullptr};
    }
    QueryWalk walk = {NIL};
    check_walker(reinterpret_cast<Node *>(query), &walk);
    const WholeModify *modify = find_whole_modify(query);
    rewrite_filter_subqueries(query);
    add_row_identity(query);
    return {nullptr, modify};
}

PlannedStmt *plan_query(Query *query, const char *text, int cursor_options, ParamListInfo params) {
    Whole whole = pg::entry([&] { return prepare_query(query); });
    PlannedStmt *statement = next_planner ? next_planner(query, text, cursor_options, params)
                                          : standard_planner(query, text, cursor_options, params);
    if (whole.query != nullptr)
        pg::entry([&] { use_whole_query(statement, whole.query, cursor_options); });
    if (whole.modify != nullptr)
        pg::entry([&] { use_whole_modify(statement, whole.modify); });
    return statement;
}

void set_rel_pathlist(PlannerInfo *root, RelOptInfo *rel, Index index, RangeTblEntry *entry) {
    if (next_set_rel_pathlist)
        next_set_rel_pathlist(root, rel, index, entry);
    if (is_distributed(entry))
        pg::entry([&] { add_scan_paths(root, rel, entry); });
}

void set_join_pathlist(PlannerInfo *root, RelOptInfo *joined, RelOptInfo *outer, RelOptInfo *inner,
                       JoinType type, JoinPathExtraData *extra) {
    if (next_set_join_pathlist)
        next_set_join_pathlist(root, joined, outer, inner, type, extra);
    pg::entry([&] {
        add_join_paths(root, joined, outer, inner, type, extra);
        add_lookahead_paths(root, joined, outer, inner, type, extra);
    });
}

void create_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
                        RelOptInfo *output, void *extra) {
    if (next_create_upper_paths)
        next_create_upper_paths(root, stage, input, output, extra);
    if (stage == UPPERREL_GROUP_AGG)
        pg::entry([&] {
            add_aggregate_paths(root, input, output, static_cast<GroupPathExtraData *>(extra));
        });
}

} // namespace

void init_planner() {
    register_scan_methods();
    register_lookahead_methods();
    next_planner = planner_hook;
    planner_hook = plan_query;
    next_set_rel_pathlist = set_rel_pathlist_hook;
    set_rel_pathlist_hook = set_rel_pathlist;
    next_set_join_pathlist = set_join_pathlist_hook;
    set_join_pathlist_hook = set_join_pathlist;
    next_create_upper_paths = create_upper_paths_hook;
    create_upper_paths_hook = create_upper_paths;
}

} // namespace panvel
