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

// What the deparser is to call columns: range table entries, which columns refer to by position,
// and their aliases.
struct Naming {
    Relids relids;
    bool joined;   // one entry of the columns below, for the rows of a join
    List *columns; // String: c<varno>_<attribute>
};

struct Parameterize {
    Naming *naming;
    ShippedParams *params;
    bool conditional; // the part may not be evaluated at all
    bool delayed;     // inside a part that must not be evaluated before it is asked for
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

} // namespace

// $n with an explicit cast: the worker takes the parameter's type from the cast, by name.
Node *make_shipped_param(Expr *expr, ShippedParams *params) {
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

Node *make_unknown(Node *value) {
    Query *query = makeNode(Query);
    query->commandType = CMD_SELECT;
    query->canSetTag = true;
    query->jointree = makeFromExpr(NIL, nullptr);
    query->targetList =
        list_make1(makeTargetEntry(reinterpret_cast<Expr *>(value), 1, nullptr, false));
    SubLink *link = makeNode(SubLink);
    link->subLinkType = EXPR_SUBLINK;
    link->subselect = reinterpret_cast<Node *>(query);
    link->location = -1;
    return reinterpret_cast<Node *>(link);
}

bool is_length_coercion(Node *node) {
    return IsA(node, FuncExpr) && exprIsLengthCoercion(node, nullptr);
}

Node *with_first_argument(const FuncExpr *call, Node *argument) {
    FuncExpr *copy = makeNode(FuncExpr);
    *copy = *call;
    copy->args = list_copy(call->args);
    linitial(copy->args) = argument;
    return reinterpret_cast<Node *>(copy);
}

namespace {

// Position of a relation among `relids`, from 1.
int entry_number(Relids relids, int varno) {
    int number = 1;
    int member = -1;
    while ((member = bms_next_member(relids, member)) >= 0 && member != varno)
        number++;
    return number;
}

AttrNumber joined_column(Naming *naming, const Var *var) {
    String *name = makeString(joined_column_name(var));
    ListCell *cell;
    foreach (cell, naming->columns)
        if (equal(lfirst(cell), name))
            return static_cast<AttrNumber>(foreach_current_index(cell) + 1);
    naming->columns = lappend(naming->columns, name);
    return static_cast<AttrNumber>(list_length(naming->columns));
}

Node *parameterize_mutator(Node *node, Parameterize *context);
Node *parameterize_parts(Node *node, Parameterize *context);

// The arguments, of which those after the first are evaluated only where that does not decide.
List *parameterize_until_decided(List *args, Parameterize *context) {
    Parameterize inner = *context;
    List *result = NIL;
    ListCell *cell;
    foreach (cell, args) {
        result = lappend(result, parameterize_mutator(static_cast<Node *>(lfirst(cell)), &inner));
        inner.conditional = true;
    }
    return result;
}

Node *parameterize_case(const CaseExpr *expr, Parameterize *context) {
    Parameterize inner = *context;
    auto *result = makeNode(CaseExpr);
    *result = *expr;
    result->args = NIL;
    ListCell *cell;
    foreach (cell, expr->args) {
        auto *when = makeNode(CaseWhen);
        *when = *lfirst_node(CaseWhen, cell);
        auto mutate = [&](Expr *part) {
            return reinterpret_cast<Expr *>(
                parameterize_mutator(reinterpret_cast<Node *>(part), &inner));
        };
        when->expr = mutate(when->expr);
        inner.conditional = true;
        when->result = mutate(when->result);
        result->args = lappend(result->args, when);
    }
    result->defresult = reinterpret_cast<Expr *>(
        parameterize_mutator(reinterpret_cast<Node *>(expr->defresult), &inner));
    return reinterpret_cast<Node *>(result);
}

Node *parameterize_mutator(Node *node, Parameterize *context) {
    if (node == nullptr)
        return nullptr;
    if (!IsA(node, List) && is_free_of_columns(node, context->naming->relids)) {
        if (context->conditional && may_raise(node)) {
            Parameterize inner = *context;
            inner.delayed = true;
            return parameterize_parts(node, &inner);
        }
        // NULL and the truth values are part of the condition's shape, not values to vary.
        if (IsA(node, Const)) {
            Const *constant = castNode(Const, node);
            if (constant->constisnull || constant->consttype == BOOLOID)
                return static_cast<Node *>(copyObjectImpl(node));
        }
        Node *param = make_shipped_param(reinterpret_cast<Expr *>(node), context->params);
        return context->delayed && !IsA(node, Const) ? make_unknown(param) : param;
    }
    if (IsA(node, Var)) {
        Var *var = static_cast<Var *>(copyObjectImpl(node));
        if (context->naming->joined) {
            var->varattno = joined_column(context->naming, var);
            var->varno = 1;
        } else if (var->varattno > kExcludedColumns) {
            var->varno = 2; // see relation_context()
            var->varattno -= kExcludedColumns;
        } else {
            var->varno = entry_number(context->naming->relids, var->varno);
        }
        var->varnosyn = 0;
        var->varattnosyn = 0;
        return reinterpret_cast<Node *>(var);
    }
    return parameterize_parts(node, context);
}

Node *parameterize_parts(Node *node, Parameterize *context) {
    if (IsA(node, CaseExpr) && castNode(CaseExpr, node)->arg == nullptr)
        return parameterize_case(castNode(CaseExpr, node), context);
    if (IsA(node, BoolExpr) || IsA(node, CoalesceExpr)) {
        Node *result = static_cast<Node *>(copyObjectImpl(node));
        List **args = IsA(node, BoolExpr) ? &castNode(BoolExpr, result)->args
                                          : &castNode(CoalesceExpr, result)->args;
        *args = parameterize_until_decided(*args, context);
        return result;
    }
    if (is_length_coercion(node)) {
        auto *cast = castNode(FuncExpr, node);
        return with_first_argument(
            cast, parameterize_mutator(static_cast<Node *>(linitial(cast->args)), context));
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

RangeTblEntry *make_entry(RTEKind kind, char *alias, List *columns) {
    RangeTblEntry *entry = makeNode(RangeTblEntry);
    entry->rtekind = kind;
    entry->alias = makeAlias(alias, NIL);
    entry->eref = makeAlias(alias, columns);
    entry->inFromCl = true;
    return entry;
}

RangeTblEntry *make_relation_entry(PlannerInfo *root, int varno, char *alias) {
    RangeTblEntry *entry = make_entry(RTE_RELATION, alias, NIL);
    entry->relid = planner_rt_fetch(varno, root)->relid;
    entry->relkind = RELKIND_RELATION;
    entry->rellockmode = AccessShareLock;
    return entry;
}

char *deparse_named(Node *node, List *entries, List *aliases) {
    PlannedStmt *statement = makeNode(PlannedStmt);
    statement->rtable = entries;
    return deparse_qualified(node, deparse_context_for_plan_tree(statement, aliases));
}

Node *parameterize(Naming *naming, Expr *expr, ShippedParams *params) {
    Parameterize context = {naming, params, false, false};
    return parameterize_mutator(reinterpret_cast<Node *>(expr), &context);
}

} // namespace

char *joined_column_name(const Var *var) {
    return psprintf("c%d_%d", var->varno, var->varattno);
}

char *deparse_shipped(PlannerInfo *root, Index varno, Expr *expr, ShippedParams *params) {
    Naming naming = {bms_make_singleton(static_cast<int>(varno)), false, NIL};
    Node *node = parameterize(&naming, expr, params);
    // The relation's columns print as t.column, those of EXCLUDED as excluded.column.
    RangeTblEntry *entry = make_relation_entry(root, static_cast<int>(varno), pstrdup("t"));
    return deparse_named(node, list_make2(entry, entry),
                         list_make2(pstrdup("t"), pstrdup("excluded")));
}

char *deparse_for_join(PlannerInfo *root, Relids relids, Expr *expr, ShippedParams *params) {
    Naming naming = {relids, false, NIL};
    Node *node = parameterize(&naming, expr, params);
    List *entries = NIL;
    List *aliases = NIL;
    int member = -1;
    while ((member = bms_next_member(relids, member)) >= 0) {
        char *alias = psprintf("r%d", member);
        entries = lappend(entries, make_relation_entry(root, member, alias));
        aliases = lappend(aliases, alias);
    }
    return deparse_named(node, entries, aliases);
}

char *deparse_over_join(Relids relids, Expr *expr, ShippedParams *params) {
    Naming naming = {relids, true, NIL};
    Node *node = parameterize(&naming, expr, params);
    return deparse_named(node, list_make1(make_entry(RTE_VALUES, pstrdup("t"), naming.columns)),
                         list_make1(pstrdup("t")));
}

char *deparse_param(Expr *expr, ShippedParams *params) {
    return deparse_qualified(make_shipped_param(expr, params), NIL);
}

} // namespace panvel
