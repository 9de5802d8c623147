// What a remote statement reads, called `t` in it: a relation's shards, or a join of relations that
// every shard computes.
#pragma once

#include "coordinator/planner/join.h"

namespace panvel {

class Source {
  public:
    // `rel`: a distributed relation, or a join that is a remote one (remote_rel_of()).
    Source(PlannerInfo *root, RelOptInfo *rel);

    // The relations whose columns its rows have.
    Relids relids() const { return relids_; }
    bool is_join() const { return join_ != nullptr; }
    bool has_column(const Var *var) const;

    // The expression's text over `t`. REQUIRES: is_shippable(relids(), expr).
    char *ship(Expr *expr);

    // Fills what the plan has of the source: columns, conditions, parameters, pruning key. `quals`:
    // conditions on a relation (List of Expr); a join has its own. Called after ship().
    void finish(ScanPlan *plan, List *quals);

  private:
    char *where(List *quals);
    char *column_list() const;

    PlannerInfo *root_;
    RelOptInfo *rel_;
    const RemoteRel *join_; // null: a relation
    Relids relids_;
    List *used_ = NIL; // Var *: columns that the statement mentions
    ShippedParams params_;
};

} // namespace panvel
