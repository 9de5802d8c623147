// Finding the condition on the distribution column that tells which shards a statement needs.
#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/ship.h"
#include "coordinator/planner/ship_internal.h"

extern "C" {
#include "access/hash.h"
#include "catalog/pg_am.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

Oid hash_family(const DistributedTable *table) {
    if (table->is_reference)
        return InvalidOid;
    Oid opclass = GetDefaultOpClass(table->distribution_type, HASH_AM_OID);
    return OidIsValid(opclass) ? get_opclass_family(opclass) : InvalidOid;
}

class Finder {
  public:
    Finder(Relids relids, Index varno, const DistributedTable *table)
        : relids_(relids), varno_(varno), table_(table), family_(hash_family(table)) {}

    PruneKey *find(List *quals) {
        if (!OidIsValid(family_))
            return nullptr;
        ListCell *cell;
        foreach (cell, quals)
            if (PruneKey *key = key_of(static_cast<Node *>(lfirst(cell))))
                return key;
        return nullptr;
    }

  private:
    PruneKey *key_of(Node *qual) {
        if (IsA(qual, OpExpr)) {
            auto *op = castNode(OpExpr, qual);
            if (list_length(op->args) != 2)
                return nullptr;
            auto *left = static_cast<Node *>(linitial(op->args));
            auto *right = static_cast<Node *>(lsecond(op->args));
            if (is_distribution_column(varno_, table_, left))
                return make_key(op->opno, op->inputcollid, right, false);
            Oid commutator = get_commutator(op->opno);
            if (is_distribution_column(varno_, table_, right) && OidIsValid(commutator))
                return make_key(commutator, op->inputcollid, left, false);
        } else if (IsA(qual, ScalarArrayOpExpr)) {
            auto *op = castNode(ScalarArrayOpExpr, qual);
            if (op->useOr &&
                is_distribution_column(varno_, table_, static_cast<Node *>(linitial(op->args))))
                return make_key(op->opno, op->inputcollid, static_cast<Node *>(lsecond(op->args)),
                                true);
        }
        return nullptr;
    }

    PruneKey *make_key(Oid op, Oid collation, Node *value, bool is_array) const {
        if (references_relation(value, relids_) || contain_volatile_functions(value) ||
            !is_key_equality(table_, op, collation))
            return nullptr;
        return make_prune_key(table_, op, value, is_array);
    }

    Relids relids_;
    Index varno_;
    const DistributedTable *table_;
    Oid family_; // invalid: no key
};

} // namespace

bool is_distribution_column(Index varno, const DistributedTable *table, Node *node) {
    while (IsA(node, RelabelType))
        node = reinterpret_cast<Node *>(castNode(RelabelType, node)->arg);
    if (!IsA(node, Var) || table->is_reference)
        return false;
    Var *var = castNode(Var, node);
    return var->varno == static_cast<int>(varno) && var->varlevelsup == 0 &&
           var->varattno == table->distribution_attribute;
}

bool is_key_equality(const DistributedTable *table, Oid op, Oid collation) {
    Oid family = hash_family(table);
    return OidIsValid(family) && get_op_opfamily_strategy(op, family) == HTEqualStrategyNumber &&
           (!OidIsValid(table->distribution_collation) ||
            collation == table->distribution_collation);
}

PruneKey *make_prune_key(const DistributedTable *table, Oid op, Node *value, bool is_array) {
    Oid left;
    Oid right;
    op_input_types(op, &left, &right);
    Oid hash = get_opfamily_proc(hash_family(table), right, right, HASHEXTENDED_PROC);
    if (!OidIsValid(hash))
        return nullptr;
    auto *key = palloc_object(PruneKey);
    *key = {reinterpret_cast<Expr *>(value), is_array, hash};
    return key;
}

PruneKey *find_prune_key(PlannerInfo *root, Relids relids, Index varno, List *quals) {
    const DistributedTable *table = get_distributed_table(planner_rt_fetch(varno, root)->relid);
    return Finder(relids, varno, table).find(quals);
}

} // namespace panvel
