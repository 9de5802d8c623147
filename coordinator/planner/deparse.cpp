// SQL text of shipped expressions. PostgreSQL's own deparser prints them; before, whatever the
// coordinator evaluates is replaced by a parameter, so that the text does not depend on values
// and a worker's prepared statement is found again.
#include "coordinator/planner/ship.h"
#include "coordinator/planner/ship_internal.h"
#include "extension/pg/compat.h"

extern "C" {
#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
}

namespace panvel {
namespace {

struct Parameterize {
    Index varno;
    ShippedParams *params;
};

// Position ($n) of an expression among the parameters; equal ones share one.
int param_number(Expr *expr, ShippedParams *params) {
    int number = 1;
    ListCell *cell;
    foreach (cell, params->exprs) {
        if (equal(lfirst(cell), expr))
            return number;
        number++;
    }
    params->exprs = lappend(params->exprs, expr);
    return number;
}

// $n with an explicit cast: the worker takes the parameter's type from the cast, by name.
Node *make_param(Expr *expr, ShippedParams *params) {
    Oid type = exprType(reinterpret_cast<Node *>(expr));
    Param *param = makeNode(Param);
    param->paramkind = PARAM_EXTERN;
    param->paramid = param_number(expr, params);
    param->paramtype = type;
    param->paramtypmod = -1;
    param->paramcollid = get_typcollation(type);
    param->location = -1;
    return reinterpret_cast<Node *>(makeRelabelType(reinterpret_cast<Expr *>(param), type, -1,
                                                    param->paramcollid, COERCE_EXPLICIT_CAST));
}

Node *parameterize_mutator(Node *node, Parameterize *context) {
    if (node == nullptr)
        return nullptr;
    if (!IsA(node, List) && !IsA(node, CaseWhen) && is_evaluated_locally(node, context->varno)) {
        // NULL and the truth values are part of the condition's shape, not values to vary.
        if (IsA(node, Const)) {
            Const *constant = castNode(Const, node);
            if (constant->constisnull || constant->consttype == BOOLOID)
                return static_cast<Node *>(copyObjectImpl(node));
        }
        return make_param(reinterpret_cast<Expr *>(node), context->params);
    }
    if (IsA(node, Var)) {
        Var *var = static_cast<Var *>(copyObjectImpl(node));
        var->varno = 1; // the relation, as in the deparser's context
        if (var->varattno > kExcludedColumns) {
            var->varno = 2;
            var->varattno -= kExcludedColumns;
        }
        var->varnosyn = 0;
        var->varattnosyn = 0;
        return reinterpret_cast<Node *>(var);
    }
    Node *result = expression_tree_mutator(node, pg::mutator(parameterize_mutator), context);
    // EXTRACT(day FROM x) and its like print only over the constants they were written with.
    if (IsA(result, FuncExpr) && castNode(FuncExpr, result)->funcformat == COERCE_SQL_SYNTAX)
        castNode(FuncExpr, result)->funcformat = COERCE_EXPLICIT_CALL;
    return result;
}

// Prints with every name outside pg_catalog qualified.
char *deparse_qualified(Node *node, List *context) {
    int guc_level = NewGUCNestLevel();
    set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                      true, 0, false);
    char *text = deparse_expression(node, context, true, true);
    AtEOXact_GUC(true, guc_level);
    return text;
}

// The relation's columns print as t.column, those of EXCLUDED as excluded.column.
List *deparse_context_of(Oid relid) {
    RangeTblEntry *entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_RELATION;
    entry->relid = relid;
    entry->relkind = RELKIND_RELATION;
    entry->rellockmode = AccessShareLock;
    entry->alias = makeAlias("t", NIL);
    entry->eref = entry->alias;
    entry->inFromCl = true;
    PlannedStmt *statement = makeNode(PlannedStmt);
    statement->rtable = list_make2(entry, entry);
    return deparse_context_for_plan_tree(
        statement, list_make2(const_cast<char *>("t"), const_cast<char *>("excluded")));
}

} // namespace

char *deparse_shipped(PlannerInfo *root, Index varno, Expr *expr, ShippedParams *params) {
    Parameterize context = {varno, params};
    Node *node = parameterize_mutator(reinterpret_cast<Node *>(expr), &context);
    RangeTblEntry *entry = planner_rt_fetch(varno, root);
    return deparse_qualified(node, deparse_context_of(entry->relid));
}

char *deparse_param(Expr *expr, ShippedParams *params) {
    return deparse_qualified(make_param(expr, params), NIL);
}

} // namespace panvel
