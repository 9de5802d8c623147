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

class Finder {
  public:
    Finder(Index varno, const DistributedTable *table) : varno_(varno), table_(table) {
        if (table->is_reference)
            return;
        Oid opclass = GetDefaultOpClass(table->distribution_type, HASH_AM_OID);
        family_ = OidIsValid(opclass) ? get_opclass_family(opclass) : InvalidOid;
    }

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
            if (is_distribution_column(left))
                return make_key(op->opno, op->inputcollid, right, false);
            Oid commutator = get_commutator(op->opno);
            if (is_distribution_column(right) && OidIsValid(commutator))
                return make_key(commutator, op->inputcollid, left, false);
        } else if (IsA(qual, ScalarArrayOpExpr)) {
            auto *op = castNode(ScalarArrayOpExpr, qual);
            if (op->useOr && is_distribution_column(static_cast<Node *>(linitial(op->args))))
                return make_key(op->opno, op->inputcollid, static_cast<Node *>(lsecond(op->args)),
                                true);
        }
        return nullptr;
    }

    bool is_distribution_column(Node *node) const {
        while (IsA(node, RelabelType))
            node = reinterpret_cast<Node *>(castNode(RelabelType, node)->arg);
        if (!IsA(node, Var))
            return false;
        Var *var = castNode(Var, node);
        return var->varno == static_cast<int>(varno_) && var->varlevelsup == 0 &&
               var->varattno == table_->distribution_attribute;
    }

    PruneKey *make_key(Oid op, Oid collation, Node *value, bool is_array) const {
        if (references_relation(value, varno_) || contain_volatile_functions(value))
            return nullptr;
        // Equality as the hash understands it, and under the collation it hashes with.
        if (get_op_opfamily_strategy(op, family_) != HTEqualStrategyNumber)
            return nullptr;
        if (OidIsValid(table_->distribution_collation) &&
            collation != table_->distribution_collation)
            return nullptr;
        Oid left;
        Oid right;
        op_input_types(op, &left, &right);
        Oid hash = get_opfamily_proc(family_, right, right, HASHEXTENDED_PROC);
        if (!OidIsValid(hash))
            return nullptr;
        auto *key = static_cast<PruneKey *>(palloc(sizeof(PruneKey)));
        *key = {reinterpret_cast<Expr *>(value), is_array, hash};
        return key;
    }

    Index varno_;
    const DistributedTable *table_;
    Oid family_ = InvalidOid; // none: no key
};

} // namespace

PruneKey *find_prune_key(PlannerInfo *root, Index varno, List *quals) {
    const DistributedTable *table = get_distributed_table(planner_rt_fetch(varno, root)->relid);
    return Finder(varno, table).find(quals);
}

} // namespace panvel
