// Which joins a shard can compute by itself.
#include "coordinator/planner/join.h"

extern "C" {
#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/placeholder.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
}

namespace panvel {
namespace {

JoinCondition *make_condition(Expr *expr) {
    auto *condition = palloc0_object(JoinCondition);
    condition->expr = expr;
    return condition;
}

// ------------------------------------------------------------------------- relations

// Null when a shard cannot apply all of the relation's conditions.
RemoteRel *make_base(PlannerInfo *root, RelOptInfo *rel) {
    RangeTblEntry *entry = planner_rt_fetch(rel->relid, root);
    if (entry->rtekind != RTE_RELATION || entry->relkind != RELKIND_RELATION ||
        !bms_is_empty(rel->lateral_relids) || IS_DUMMY_REL(rel))
        return nullptr;
    const DistributedTable *table = find_distributed_table(entry->relid);
    if (table == nullptr)
        return nullptr;
    auto *remote = palloc0_object(RemoteRel);
    ListCell *cell;
    foreach (cell, rel->baserestrictinfo) {
        RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
        if (clause->pseudoconstant || !is_remote_clause(rel, clause))
            return nullptr;
        remote->where = lappend(remote->where, make_condition(clause->clause));
    }
    remote->relids = remote->visible = rel->relids;
    remote->table = table;
    remote->varno = rel->relid;
    Cost read = read_cost(rel);
    if (table->is_reference) {
        remote->read_copy = read;
    } else {
        remote->read = read;
        remote->keys = list_make1_int(static_cast<int>(rel->relid));
    }
    return remote;
}

// ------------------------------------------------------------------------- equal keys

const DistributedTable *table_of(PlannerInfo *root, int varno) {
    return get_distributed_table(planner_rt_fetch(varno, root)->relid);
}

bool is_key_of(PlannerInfo *root, const RemoteRel *rel, Node *node) {
    ListCell *cell;
    foreach (cell, rel->keys)
        if (is_distribution_column(static_cast<Index>(lfirst_int(cell)),
                                   table_of(root, lfirst_int(cell)), node))
            return true;
    return false;
}

bool clause_equates_keys(PlannerInfo *root, const RemoteRel *a, const RemoteRel *b, Expr *clause) {
    if (!IsA(clause, OpExpr) || list_length(castNode(OpExpr, clause)->args) != 2)
        return false;
    auto *op = castNode(OpExpr, clause);
    auto *left = static_cast<Node *>(linitial(op->args));
    auto *right = static_cast<Node *>(lsecond(op->args));
    return ((is_key_of(root, a, left) && is_key_of(root, b, right)) ||
            (is_key_of(root, b, left) && is_key_of(root, a, right))) &&
           is_key_equality(a->table, op->opno, op->inputcollid);
}

// Two keys that are equal to the same constant are equal without a clause that says so.
bool classes_equate_keys(PlannerInfo *root, const RemoteRel *a, const RemoteRel *b) {
    Oid family =
        lookup_type_cache(a->table->distribution_type, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
    ListCell *cell;
    foreach (cell, root->eq_classes) {
        EquivalenceClass *eq_class = lfirst_node(EquivalenceClass, cell);
        if (eq_class->ec_has_volatile || eq_class->ec_below_outer_join ||
            !list_member_oid(eq_class->ec_opfamilies, family) ||
            (OidIsValid(a->table->distribution_collation) &&
             eq_class->ec_collation != a->table->distribution_collation))
            continue;
        bool has_a = false;
        bool has_b = false;
        ListCell *member_cell;
        foreach (member_cell, eq_class->ec_members) {
            auto *member = lfirst_node(EquivalenceMember, member_cell);
            if (member->em_is_child)
                continue;
            auto *expr = reinterpret_cast<Node *>(member->em_expr);
            has_a |= is_key_of(root, a, expr);
            has_b |= is_key_of(root, b, expr);
        }
        if (has_a && has_b)
            return true;
    }
    return false;
}

// Whether rows that the join can combine are always in the same shard.
bool are_colocated(PlannerInfo *root, const RemoteRel *outer, const RemoteRel *inner, JoinType type,
                   List *on) {
    if (outer->table->colocation_id != inner->table->colocation_id)
        return false;
    ListCell *cell;
    foreach (cell, on)
        if (clause_equates_keys(root, outer, inner,
                                static_cast<JoinCondition *>(lfirst(cell))->expr))
            return true;
    // The conditions of outer joins do not become equivalences of the rows that they combine.
    return (type == JOIN_INNER || type == JOIN_SEMI) && classes_equate_keys(root, outer, inner);
}

// ------------------------------------------------------------------------- joins

// Whether every row of the join comes from exactly one shard.
bool is_split_by_shards(PlannerInfo *root, const RemoteRel *outer, const RemoteRel *inner,
                        JoinType type, List *on) {
    if (outer->table->is_reference)
        // An outer row without a partner would come from every shard.
        return inner->table->is_reference || type == JOIN_INNER;
    if (inner->table->is_reference)
        return type != JOIN_FULL;
    return are_colocated(root, outer, inner, type, on);
}

// A node may apply the conditions of one statement in any order: one that could tell what rows it
// sees must not stand beside those that hide rows from it (security barriers, policies).
bool keeps_secrets(PlannerInfo *root, const RelOptInfo *joined, const RestrictInfo *clause) {
    int member = -1;
    while (!clause->leakproof && (member = bms_next_member(joined->relids, member)) >= 0)
        if (find_base_rel(root, member)->baserestrict_min_security < clause->security_level)
            return false;
    return true;
}

// Splits the join's clauses into those of ON and those that filter its rows. False when one cannot
// be computed by the shards.
bool split_clauses(PlannerInfo *root, RelOptInfo *joined, Relids known, JoinType type,
                   List *clauses, List **on, List **where) {
    ListCell *cell;
    foreach (cell, clauses) {
        RestrictInfo *clause = lfirst_node(RestrictInfo, cell);
        if (clause->pseudoconstant || !bms_is_subset(clause->clause_relids, known) ||
            !is_shippable(known, clause->clause) || !keeps_secrets(root, joined, clause))
            return false;
        JoinCondition *condition = make_condition(clause->clause);
        if (IS_OUTER_JOIN(type) && RINFO_IS_PUSHED_DOWN(clause, joined->relids))
            *where = lappend(*where, condition);
        else
            *on = lappend(*on, condition);
    }
    return true;
}

bool conditions_are_over(List *conditions, Relids relids) {
    ListCell *cell;
    foreach (cell, conditions) {
        auto *condition = static_cast<JoinCondition *>(lfirst(cell));
        if (condition->expr != nullptr &&
            !bms_is_subset(pull_varnos(nullptr, reinterpret_cast<Node *>(condition->expr)), relids))
            return false;
    }
    return true;
}

// Whether the rows' columns are plain ones of the relations that are still visible.
bool has_plain_columns(const RelOptInfo *joined, Relids visible) {
    ListCell *cell;
    foreach (cell, joined->reltarget->exprs) {
        if (!IsA(lfirst(cell), Var))
            return false;
        Var *var = lfirst_node(Var, cell);
        if (var->varattno <= 0 || !bms_is_member(var->varno, visible))
            return false;
    }
    return true;
}

RemoteRel *make_join(PlannerInfo *root, RelOptInfo *joined, const RemoteRel *outer,
                     const RemoteRel *inner, JoinType type, List *clauses) {
    auto *join = palloc0_object(RemoteRel);
    Relids known = bms_union(outer->visible, inner->visible);
    if (!split_clauses(root, joined, known, type, clauses, &join->on, &join->where) ||
        !is_split_by_shards(root, outer, inner, type, join->on))
        return nullptr;
    bool exists = type == JOIN_SEMI || type == JOIN_ANTI;
    join->relids = bms_union(outer->relids, inner->relids);
    join->visible = exists ? outer->visible : known;
    if (!has_plain_columns(joined, join->visible) ||
        !conditions_are_over(join->where, join->visible))
        return nullptr;
    join->table = outer->table->is_reference ? inner->table : outer->table;
    join->keys = exists ? outer->keys : list_concat_copy(outer->keys, inner->keys);
    join->type = type;
    join->outer = outer;
    join->inner = inner;
    join->read = outer->read + inner->read;
    join->read_copy = outer->read_copy + inner->read_copy;

    switch (type) {
    case JOIN_INNER:
        join->where = list_concat_copy(outer->where, inner->where);
        join->where = list_concat(join->where, join->on);
        join->on = NIL;
        break;
    case JOIN_LEFT: // the inner side's own conditions decide which rows are partners
        join->on = list_concat_copy(inner->where, join->on);
        join->where = list_concat_copy(outer->where, join->where);
        break;
    case JOIN_FULL:
        if (outer->where != NIL || inner->where != NIL)
            return nullptr;
        break;
    default: {
        JoinCondition *condition = make_condition(nullptr);
        condition->exists = inner;
        condition->negated = type == JOIN_ANTI;
        condition->on = join->on;
        join->where = lappend(list_concat_copy(outer->where, join->where), condition);
        join->on = NIL;
    }
    }
    return join;
}

// What cannot be done over a join as a whole: row locks and their rechecks, expressions that have
// to be computed below an outer join.
bool query_allows_joins(PlannerInfo *root, RelOptInfo *joined) {
    if ((root->parse->commandType != CMD_SELECT && root->parse->commandType != CMD_INSERT) ||
        root->rowMarks != NIL || !bms_is_empty(joined->lateral_relids))
        return false;
    ListCell *cell;
    foreach (cell, root->placeholder_list)
        if (bms_overlap(lfirst_node(PlaceHolderInfo, cell)->ph_eval_at, joined->relids))
            return false;
    return true;
}

} // namespace

const RemoteRel *remote_rel_of(PlannerInfo *root, RelOptInfo *rel) {
    if (rel->fdwroutine != nullptr)
        return nullptr;
    if (rel->reloptkind == RELOPT_BASEREL && rel->fdw_private == nullptr) {
        // With the relation, which outlives the memory that GEQO tries an order of joins in.
        MemoryContext old = MemoryContextSwitchTo(root->planner_cxt);
        rel->fdw_private = make_base(root, rel);
        MemoryContextSwitchTo(old);
    }
    if (rel->reloptkind != RELOPT_BASEREL && rel->reloptkind != RELOPT_JOINREL)
        return nullptr;
    return static_cast<const RemoteRel *>(rel->fdw_private);
}

void add_join_paths(PlannerInfo *root, RelOptInfo *joined, RelOptInfo *outer, RelOptInfo *inner,
                    JoinType type, const JoinPathExtraData *extra) {
    // Whichever pair it is made of, it has the same rows.
    if (joined->reloptkind != RELOPT_JOINREL || joined->fdwroutine != nullptr ||
        joined->fdw_private != nullptr)
        return;
    if (type != JOIN_INNER && type != JOIN_LEFT && type != JOIN_FULL && type != JOIN_SEMI &&
        type != JOIN_ANTI)
        return;
    const RemoteRel *left = remote_rel_of(root, outer);
    const RemoteRel *right = left != nullptr ? remote_rel_of(root, inner) : nullptr;
    if (right == nullptr || !query_allows_joins(root, joined))
        return;
    RemoteRel *join = make_join(root, joined, left, right, type, extra->restrictlist);
    if (join == nullptr)
        return;
    join->read +=
        cpu_operator_cost * 2 * (outer->rows + inner->rows) + cpu_tuple_cost * joined->rows;
    joined->fdw_private = join;
    add_remote_paths(root, joined, join->table, "");
}

} // namespace panvel
