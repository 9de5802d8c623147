// Finding the one shard whose rows are all that a query can use, or that every shard can do its
// part of a statement that writes.
//
// A relation is pinned when a condition that none of its rows can pass unless its distribution
// column equals a value stands where it decides over the relation's rows: in WHERE, in ON of an
// inner join, or in ON of an outer join on whose inner side the relation is. The value is one that
// is known before, or the distribution column of another relation that is pinned: whatever that
// relation's other rows are joined with is rejected with them.
#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/whole_query.h"
#include "extension/pg/compat.h"

extern "C" {
#include "catalog/pg_class.h"
#include "nodes/bitmapset.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

// A distributed relation where a query reads it.
struct Use {
    const Query *query;
    Index index;
    const DistributedTable *table;
};

// "The distribution column of `use` equals this": a value, or that of another use.
struct Equality {
    int use;
    PruneKey *key; // null: `other`
    int other;
};

class PinFinder {
  public:
    ShardPin find(Query *query) {
        collect(query, NIL);
        if (mixed_ || (uses_ == NIL && reference_ == nullptr))
            return {};
        if (uses_ == NIL)
            return {reference_, nullptr, relations_};
        ListCell *cell;
        foreach (cell, equalities_) {
            PruneKey *key = static_cast<Equality *>(lfirst(cell))->key;
            if (key != nullptr && pins_all(nullptr, key))
                return {use(0)->table, key, relations_};
        }
        return {};
    }

    ShardPin find_split(Query *query) {
        const DistributedTable *target =
            find_distributed_table(rt_fetch(query->resultRelation, query->rtable)->relid);
        ShardPin pin = find(query);
        int anchor = query->commandType == CMD_INSERT ? source_of_key(query, target)
                                                      : use_of(query, query->resultRelation);
        if (mixed_ || anchor < 0 || use(anchor)->table->colocation_id != target->colocation_id)
            return {};
        if (pin.table == nullptr && !pins_all(bms_make_singleton(anchor), nullptr))
            return {};
        return {target, pin.key, relations_};
    }

  private:
    struct Walk {
        PinFinder *finder;
        List *queries; // of what is walked, innermost first
    };

    static bool walker(Node *node, Walk *walk) {
        if (node == nullptr)
            return false;
        if (IsA(node, Query)) {
            walk->finder->collect(castNode(Query, node), walk->queries);
            return false;
        }
        return expression_tree_walker(node, pg::walker(walker), walk);
    }

    // Uses first, of all levels: conditions refer to those of the levels around, too.
    void collect(Query *query, List *outer) {
        check_stack_depth();
        List *queries = lcons(query, list_copy(outer));
        collect_uses(query, reinterpret_cast<Node *>(query->jointree));
        Walk walk = {this, queries};
        query_tree_walker(query, pg::walker(walker), &walk, 0);
        if (query->jointree != nullptr)
            collect_conditions(queries, reinterpret_cast<Node *>(query->jointree));
    }

    void collect_uses(const Query *query, Node *node) {
        if (node == nullptr)
            return;
        ListCell *cell;
        if (IsA(node, FromExpr)) {
            foreach (cell, castNode(FromExpr, node)->fromlist)
                collect_uses(query, static_cast<Node *>(lfirst(cell)));
        } else if (IsA(node, JoinExpr)) {
            collect_uses(query, castNode(JoinExpr, node)->larg);
            collect_uses(query, castNode(JoinExpr, node)->rarg);
        } else if (IsA(node, RangeTblRef)) {
            add_use(query, static_cast<Index>(castNode(RangeTblRef, node)->rtindex));
        }
    }

    void add_use(const Query *query, Index index) {
        RangeTblEntry *entry = rt_fetch(index, query->rtable);
        if (entry->rtekind != RTE_RELATION)
            return;
        relations_++;
        const DistributedTable *table =
            entry->relkind == RELKIND_RELATION ? find_distributed_table(entry->relid) : nullptr;
        if (table == nullptr) {
            mixed_ = true;
        } else if (table->is_reference) {
            reference_ = table;
        } else {
            mixed_ |= uses_ != NIL && use(0)->table->colocation_id != table->colocation_id;
            auto *added = palloc_object(Use);
            *added = {query, index, table};
            uses_ = lappend(uses_, added);
        }
    }

    const Use *use(int number) const { return static_cast<Use *>(list_nth(uses_, number)); }

    // ------------------------------------------------------------------ conditions

    static void add_members(Node *node, Bitmapset **members) {
        ListCell *cell;
        if (IsA(node, RangeTblRef)) {
            *members = bms_add_member(*members, castNode(RangeTblRef, node)->rtindex);
        } else if (IsA(node, JoinExpr)) {
            add_members(castNode(JoinExpr, node)->larg, members);
            add_members(castNode(JoinExpr, node)->rarg, members);
        } else {
            foreach (cell, castNode(FromExpr, node)->fromlist)
                add_members(static_cast<Node *>(lfirst(cell)), members);
        }
    }

    void collect_conditions(List *queries, Node *node) {
        Bitmapset *decided = nullptr; // relations over whose rows the condition decides
        if (IsA(node, FromExpr)) {
            auto *from = castNode(FromExpr, node);
            ListCell *cell;
            foreach (cell, from->fromlist)
                collect_conditions(queries, static_cast<Node *>(lfirst(cell)));
            add_members(node, &decided);
            add_conditions(queries, from->quals, decided);
        } else if (IsA(node, JoinExpr)) {
            auto *join = castNode(JoinExpr, node);
            collect_conditions(queries, join->larg);
            collect_conditions(queries, join->rarg);
            if (join->jointype == JOIN_INNER || join->jointype == JOIN_RIGHT)
                add_members(join->larg, &decided);
            if (join->jointype == JOIN_INNER || join->jointype == JOIN_LEFT)
                add_members(join->rarg, &decided);
            add_conditions(queries, join->quals, decided);
        }
    }

    void add_conditions(List *queries, Node *condition, Bitmapset *decided) {
        if (condition == nullptr || bms_is_empty(decided))
            return;
        if (is_andclause(condition)) {
            ListCell *cell;
            foreach (cell, castNode(BoolExpr, condition)->args)
                add_conditions(queries, static_cast<Node *>(lfirst(cell)), decided);
        } else if (IsA(condition, OpExpr) && list_length(castNode(OpExpr, condition)->args) == 2) {
            auto *op = castNode(OpExpr, condition);
            auto *left = static_cast<Node *>(linitial(op->args));
            auto *right = static_cast<Node *>(lsecond(op->args));
            add_equality(queries, decided, op->opno, op->inputcollid, left, right);
            Oid commutator = get_commutator(op->opno);
            if (OidIsValid(commutator))
                add_equality(queries, decided, commutator, op->inputcollid, right, left);
        }
    }

    void add_equality(List *queries, Bitmapset *decided, Oid op, Oid collation, Node *column,
                      Node *value) {
        int number = resolve(queries, column, true, decided);
        if (number < 0 || !is_key_equality(use(number)->table, op, collation))
            return;
        auto *equality = palloc0_object(Equality);
        equality->use = number;
        if (is_known_value(value))
            equality->key = make_prune_key(use(number)->table, op, value, false);
        else
            equality->other = resolve(queries, value, false, nullptr);
        if (equality->key != nullptr || (!is_known_value(value) && equality->other >= 0))
            equalities_ = lappend(equalities_, equality);
    }

    // ------------------------------------------------------------------ columns

    // The use whose distribution column the expression is, perhaps through joins and subqueries;
    // -1 when it is none. `filtered`: a condition on the expression takes rows of the relation
    // away, one of those `decided` (null: any), as if it stood beside it.
    int resolve(List *queries, Node *node, bool filtered, Bitmapset *decided) {
        while (IsA(node, RelabelType))
            node = reinterpret_cast<Node *>(castNode(RelabelType, node)->arg);
        if (!IsA(node, Var))
            return -1;
        Var *var = castNode(Var, node);
        if (static_cast<int>(var->varlevelsup) >= list_length(queries) ||
            (filtered && var->varlevelsup > 0))
            return -1;
        List *level = list_copy_tail(queries, static_cast<int>(var->varlevelsup));
        auto *query = static_cast<Query *>(linitial(level));
        RangeTblEntry *entry = rt_fetch(var->varno, query->rtable);
        if (entry->rtekind == RTE_JOIN && var->varattno > 0)
            return resolve(level,
                           static_cast<Node *>(list_nth(entry->joinaliasvars, var->varattno - 1)),
                           filtered, decided);
        if (filtered && decided != nullptr && !bms_is_member(var->varno, decided))
            return -1;
        if (entry->rtekind == RTE_SUBQUERY && var->varattno > 0)
            return resolve_output(level, entry->subquery, var->varattno, filtered);
        return use_of_key(query, var);
    }

    int use_of(const Query *query, int index) const {
        ListCell *cell;
        foreach (cell, uses_) {
            auto *use = static_cast<Use *>(lfirst(cell));
            if (use->query == query && use->index == static_cast<Index>(index))
                return foreach_current_index(cell);
        }
        return -1;
    }

    int use_of_key(const Query *query, const Var *var) const {
        int number = use_of(query, var->varno);
        bool is_key = number >= 0 && var->varattno == use(number)->table->distribution_attribute;
        return is_key ? number : -1;
    }

    int resolve_output(List *queries, Query *subquery, AttrNumber column, bool filtered) {
        bool plain = subquery->setOperations == nullptr && subquery->groupingSets == NIL;
        // Rows that are taken away later must not have decided which others there are.
        if (filtered)
            plain &= !subquery->hasAggs && subquery->groupClause == NIL &&
                     !subquery->hasWindowFuncs && subquery->distinctClause == NIL &&
                     !subquery->hasTargetSRFs && subquery->limitCount == nullptr &&
                     subquery->limitOffset == nullptr && subquery->rowMarks == NIL;
        if (!plain)
            return -1;
        TargetEntry *entry = get_tle_by_resno(subquery->targetList, column);
        return entry == nullptr ? -1
                                : resolve(lcons(subquery, list_copy(queries)),
                                          reinterpret_cast<Node *>(entry->expr), filtered, nullptr);
    }

    // ------------------------------------------------------------------ INSERT ... SELECT

    // The relation whose distribution column the target's is given, where each row of the query
    // comes from one of that relation's and from no rows of other keys.
    int source_of_key(Query *query, const DistributedTable *target) const {
        auto *entry = get_tle_by_resno(query->targetList, target->distribution_attribute);
        Node *node = entry != nullptr ? reinterpret_cast<Node *>(entry->expr) : nullptr;
        while (node != nullptr) {
            while (IsA(node, RelabelType))
                node = reinterpret_cast<Node *>(castNode(RelabelType, node)->arg);
            if (!IsA(node, Var) || castNode(Var, node)->varlevelsup > 0 ||
                castNode(Var, node)->varattno <= 0)
                return -1;
            Var *var = castNode(Var, node);
            RangeTblEntry *from = rt_fetch(var->varno, query->rtable);
            if (from->rtekind == RTE_JOIN) {
                node = static_cast<Node *>(list_nth(from->joinaliasvars, var->varattno - 1));
                continue;
            }
            if (!keeps_rows(reinterpret_cast<Node *>(query->jointree), var->varno))
                return -1;
            if (from->rtekind != RTE_SUBQUERY)
                return use_of_key(query, var);
            query = from->subquery;
            TargetEntry *output = get_tle_by_resno(query->targetList, var->varattno);
            node = is_split_by_key(query) && output != nullptr
                       ? reinterpret_cast<Node *>(output->expr)
                       : nullptr;
        }
        return -1;
    }

    // Whether rows of different keys have nothing to do with each other. A key that is among the
    // output of a query that groups is grouped by, and DISTINCT is over it.
    static bool is_split_by_key(const Query *query) {
        return query->setOperations == nullptr && query->groupingSets == NIL &&
               !query->hasWindowFuncs && !query->hasDistinctOn && query->limitCount == nullptr &&
               query->limitOffset == nullptr && query->rowMarks == NIL;
    }

    // Whether no row of the FROM list lacks a row of the relation, as outer joins may let it.
    static bool keeps_rows(Node *node, int index) {
        if (IsA(node, RangeTblRef))
            return castNode(RangeTblRef, node)->rtindex == index;
        if (IsA(node, JoinExpr)) {
            auto *join = castNode(JoinExpr, node);
            bool left = join->jointype == JOIN_INNER || join->jointype == JOIN_LEFT;
            bool right = join->jointype == JOIN_INNER || join->jointype == JOIN_RIGHT;
            return (left && keeps_rows(join->larg, index)) ||
                   (right && keeps_rows(join->rarg, index));
        }
        ListCell *cell;
        foreach (cell, castNode(FromExpr, node)->fromlist)
            if (keeps_rows(static_cast<Node *>(lfirst(cell)), index))
                return true;
        return false;
    }

    // ------------------------------------------------------------------ the value

    static bool same_key(const PruneKey *a, const PruneKey *b) {
        return a->hash_function == b->hash_function && equal(a->value, b->value);
    }

    // Whether all uses have only rows of the same shard, once those `pinned` have, or those whose
    // distribution column equals the key.
    bool pins_all(Bitmapset *pinned, const PruneKey *key) const {
        for (int before = -1; bms_num_members(pinned) > before;) {
            before = bms_num_members(pinned);
            ListCell *cell;
            foreach (cell, equalities_) {
                auto *equality = static_cast<Equality *>(lfirst(cell));
                if (equality->key != nullptr ? key != nullptr && same_key(equality->key, key)
                                             : bms_is_member(equality->other, pinned))
                    pinned = bms_add_member(pinned, equality->use);
            }
        }
        return bms_num_members(pinned) == list_length(uses_);
    }

    List *uses_ = NIL;       // Use *
    List *equalities_ = NIL; // Equality *
    const DistributedTable *reference_ = nullptr;
    int relations_ = 0;
    bool mixed_ = false; // tables that no node has together
};

} // namespace

ShardPin find_shard_pin(Query *query) {
    return PinFinder().find(query);
}

ShardPin find_shard_split(Query *query) {
    return PinFinder().find_split(query);
}

} // namespace panvel
