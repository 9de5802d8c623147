#include "coordinator/planner/row_security.h"

extern "C" {
#include "miscadmin.h"
#include "rewrite/rowsecurity.h"
}

namespace panvel {

bool has_view_checks(const Query *query) {
    ListCell *cell;
    foreach (cell, query->withCheckOptions)
        if (lfirst_node(WithCheckOption, cell)->kind == WCO_VIEW_CHECK)
            return true;
    return false;
}

// The rewriter puts a policy's conditions and a view's into one list; so many of them are
// policies'.
bool has_view_conditions(Query *query, RangeTblEntry *target) {
    if (target->securityQuals == NIL)
        return false;
    if (OidIsValid(target->checkAsUser) && target->checkAsUser != GetUserId())
        return true;
    List *conditions = NIL;
    List *checks = NIL;
    bool has_policies = false;
    bool has_subqueries = false;
    get_row_security_policies(query, target, query->resultRelation, &conditions, &checks,
                              &has_policies, &has_subqueries);
    return list_length(conditions) != list_length(target->securityQuals);
}

} // namespace panvel
