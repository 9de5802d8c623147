#include "coordinator/planner/source.h"

extern "C" {
#include "lib/stringinfo.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace panvel {

Source::Source(PlannerInfo *root, RelOptInfo *rel)
    : root_(root), rel_(rel),
      join_(rel->reloptkind == RELOPT_JOINREL ? remote_rel_of(root, rel) : nullptr),
      relids_(join_ != nullptr ? join_->visible : rel->relids) {}

bool Source::has_column(const Var *var) const {
    return bms_is_member(var->varno, relids_) && var->varlevelsup == 0;
}

char *Source::ship(Expr *expr) {
    ListCell *cell;
    foreach (cell, pull_var_clause(reinterpret_cast<Node *>(expr), PVC_RECURSE_PLACEHOLDERS)) {
        Var *var = lfirst_node(Var, cell);
        if (has_column(var))
            used_ = list_append_unique(used_, var);
    }
    return is_join() ? deparse_over_join(relids_, expr, &params_)
                     : deparse_shipped(root_, rel_->relid, expr, &params_);
}

char *Source::where(List *quals) {
    StringInfoData text;
    initStringInfo(&text);
    ListCell *cell;
    foreach (cell, quals)
        appendStringInfo(&text, "%s%s", text.len > 0 ? " AND " : "",
                         ship(static_cast<Expr *>(lfirst(cell))));
    return text.data;
}

char *Source::column_list() const {
    Oid relid = planner_rt_fetch(rel_->relid, root_)->relid;
    StringInfoData text;
    initStringInfo(&text);
    ListCell *cell;
    foreach (cell, used_)
        appendStringInfo(
            &text, "%s%s", text.len > 0 ? ", " : "",
            quote_identifier(get_attname(relid, lfirst_node(Var, cell)->varattno, false)));
    return text.data;
}

void Source::finish(ScanPlan *plan, List *quals) {
    if (is_join()) {
        plan->where = "";
        plan->columns = "";
        plan->join = join_statement(root_, join_, used_, &params_);
        plan->description = describe_join(root_, join_);
        plan->relid = join_->table->relid;
        plan->prune_key = find_join_prune_key(root_, join_);
    } else {
        plan->where = where(quals);
        plan->columns = column_list();
        plan->description = "";
        plan->relid = planner_rt_fetch(rel_->relid, root_)->relid;
        plan->prune_key = find_prune_key(root_, rel_->relids, rel_->relid, quals);
    }
    plan->params = params_.exprs;
}

} // namespace panvel
