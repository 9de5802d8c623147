#include "coordinator/planner/modify_subquery.h"

#include "coordinator/catalog/metadata.h"
#include "extension/pg/compat.h"

extern "C" {
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

// `expr` over the one column of `subselect`, as a query of its own:
// SELECT expr FROM (subselect) s. A PARAM_SUBLINK in `expr` stands for the column.
Node *sublink_param_to_column(Node *node, Query *subselect) {
    if (node == nullptr)
        return nullptr;
    if (IsA(node, Param) && castNode(Param, node)->paramkind == PARAM_SUBLINK) {
        Param *param = castNode(Param, node);
        return reinterpret_cast<Node *>(makeVar(1, static_cast<AttrNumber>(param->paramid),
                                                param->paramtype, param->paramtypmod,
                                                param->paramcollid, 0));
    }
    return expression_tree_mutator(node, pg::mutator(sublink_param_to_column), subselect);
}

Query *select_over(Query *subselect, Node *expr) {
    // One level deeper than before: its references to WITH queries, too.
    IncrementVarSublevelsUp(reinterpret_cast<Node *>(subselect), 1, 1);
    RangeTblEntry *entry = makeNode(RangeTblEntry);
    entry->rtekind = RTE_SUBQUERY;
    entry->subquery = subselect;
    List *names = NIL;
    ListCell *cell;
    foreach (cell, subselect->targetList) {
        TargetEntry *target = lfirst_node(TargetEntry, cell);
        if (!target->resjunk)
            names = lappend(names, makeString(pstrdup(target->resname ? target->resname : "c")));
    }
    entry->alias = makeAlias("s", NIL);
    entry->eref = makeAlias("s", names);
    entry->inFromCl = true;

    RangeTblRef *reference = makeNode(RangeTblRef);
    reference->rtindex = 1;
    Query *query = makeNode(Query);
    query->commandType = CMD_SELECT;
    query->querySource = QSRC_ORIGINAL;
    query->rtable = list_make1(entry);
    query->jointree = makeFromExpr(list_make1(reference), nullptr);
    expr = sublink_param_to_column(expr, subselect);
    query->targetList =
        list_make1(makeTargetEntry(reinterpret_cast<Expr *>(expr), 1, pstrdup("c"), false));
    query->hasSubLinks = checkExprHasSubLink(expr);
    return query;
}

// left op ANY/ALL (ARRAY(query)), `query` having one column.
Node *compare_to_array(Oid op, Oid collation, Node *left, Query *query, bool any) {
    SubLink *array = makeNode(SubLink);
    array->subLinkType = ARRAY_SUBLINK;
    array->subselect = reinterpret_cast<Node *>(query);
    array->location = -1;
    ScalarArrayOpExpr *comparison = makeNode(ScalarArrayOpExpr);
    comparison->opno = op;
    comparison->opfuncid = get_opcode(op);
    comparison->useOr = any;
    comparison->inputcollid = collation;
    comparison->args = list_make2(left, array);
    comparison->location = -1;
    return reinterpret_cast<Node *>(comparison);
}

bool is_uncorrelated(Node *node) {
    return !contain_vars_of_level(node, 1);
}

bool has_array_type(Node *expr) {
    return OidIsValid(get_array_type(exprType(expr)));
}

// ------------------------------------------------------------------ IN, ANY, ALL

bool sublink_param_walker(Node *node, void *context) {
    if (node == nullptr)
        return false;
    if (IsA(node, Param))
        return castNode(Param, node)->paramkind == PARAM_SUBLINK;
    return expression_tree_walker(node, pg::walker(sublink_param_walker), context);
}

// Null when the sublink cannot be rewritten.
Node *rewrite_quantified(SubLink *sublink) {
    if (sublink->testexpr == nullptr || !IsA(sublink->testexpr, OpExpr) ||
        !is_uncorrelated(sublink->subselect))
        return nullptr;
    OpExpr *test = castNode(OpExpr, sublink->testexpr);
    if (list_length(test->args) != 2 || test->opresulttype != BOOLOID)
        return nullptr;
    Node *left = static_cast<Node *>(linitial(test->args));
    Node *right = static_cast<Node *>(lsecond(test->args));
    if (sublink_param_walker(left, nullptr) || !has_array_type(right) ||
        contain_vars_of_level(right, 0))
        return nullptr;
    return compare_to_array(test->opno, test->inputcollid, left,
                            select_over(castNode(Query, sublink->subselect), right),
                            sublink->subLinkType == ANY_SUBLINK);
}

// ------------------------------------------------------------------ EXISTS

// The one condition of an EXISTS subquery that refers to the table: inner op outer.
struct Correlation {
    Oid op; // with the outer expression to its left
    Oid collation;
    Node *inner;
    Node *outer;
};

bool is_simple_select(const Query *query) {
    return query->commandType == CMD_SELECT && query->cteList == NIL &&
           query->setOperations == nullptr && !query->hasAggs && !query->hasWindowFuncs &&
           !query->hasTargetSRFs && query->groupClause == NIL && query->groupingSets == NIL &&
           query->havingQual == nullptr && query->limitOffset == nullptr &&
           query->limitCount == nullptr && query->rowMarks == NIL;
}

bool is_inner(Node *expr) {
    return is_uncorrelated(expr) && contain_vars_of_level(expr, 0);
}

bool is_outer(Node *expr) {
    return contain_vars_of_level(expr, 1) && !contain_vars_of_level(expr, 0);
}

bool find_correlation(Node *qual, Correlation *found) {
    if (!IsA(qual, OpExpr))
        return false;
    OpExpr *op = castNode(OpExpr, qual);
    if (list_length(op->args) != 2 || op->opresulttype != BOOLOID || checkExprHasSubLink(qual) ||
        contain_volatile_functions(qual))
        return false;
    Node *left = static_cast<Node *>(linitial(op->args));
    Node *right = static_cast<Node *>(lsecond(op->args));
    if (is_outer(left) && is_inner(right))
        *found = {op->opno, op->inputcollid, right, left};
    else if (is_inner(left) && is_outer(right))
        *found = {get_commutator(op->opno), op->inputcollid, left, right};
    else
        return false;
    return OidIsValid(found->op) && has_array_type(found->inner);
}

// Null when the sublink cannot be rewritten, or need not be.
Node *rewrite_exists(SubLink *sublink) {
    Query *query = castNode(Query, sublink->subselect);
    if (is_uncorrelated(sublink->subselect) || !is_simple_select(query))
        return nullptr;
    List *quals = make_ands_implicit(reinterpret_cast<Expr *>(query->jointree->quals));
    List *rest = NIL;
    Correlation correlation = {};
    ListCell *cell;
    foreach (cell, quals) {
        Node *qual = static_cast<Node *>(lfirst(cell));
        if (!contain_vars_of_level(qual, 1))
            rest = lappend(rest, qual);
        else if (correlation.inner != nullptr || !find_correlation(qual, &correlation))
            return nullptr;
    }
    if (correlation.inner == nullptr)
        return nullptr;

    Query *values = static_cast<Query *>(copyObjectImpl(query));
    values->jointree->quals =
        rest == NIL ? nullptr : reinterpret_cast<Node *>(make_ands_explicit(rest));
    values->targetList = list_make1(makeTargetEntry(
        reinterpret_cast<Expr *>(copyObjectImpl(correlation.inner)), 1, pstrdup("c"), false));
    values->distinctClause = NIL;
    values->sortClause = NIL;
    values->hasDistinctOn = false;
    if (!is_uncorrelated(reinterpret_cast<Node *>(values)))
        return nullptr;
    Node *outer = static_cast<Node *>(copyObjectImpl(correlation.outer));
    IncrementVarSublevelsUp(outer, -1, 1);
    return compare_to_array(correlation.op, correlation.collation, outer, values, true);
}

// ------------------------------------------------------------------ the filter

// Outside a conjunction NULL and false differ: EXISTS is never NULL.
Node *never_null(Node *comparison) {
    CoalesceExpr *coalesce = makeNode(CoalesceExpr);
    coalesce->coalescetype = BOOLOID;
    coalesce->args = list_make2(comparison, makeBoolConst(false, false));
    coalesce->location = -1;
    return reinterpret_cast<Node *>(coalesce);
}

Node *rewrite_mutator(Node *node, void *context) {
    if (node == nullptr)
        return nullptr;
    if (IsA(node, SubLink)) {
        SubLink *sublink = castNode(SubLink, node);
        Node *rewritten = nullptr;
        if (sublink->subLinkType == ANY_SUBLINK || sublink->subLinkType == ALL_SUBLINK)
            rewritten = rewrite_quantified(sublink);
        else if (sublink->subLinkType == EXISTS_SUBLINK) {
            rewritten = rewrite_exists(sublink);
            rewritten = rewritten != nullptr ? never_null(rewritten) : nullptr;
        }
        return rewritten != nullptr ? rewritten : node;
    }
    return expression_tree_mutator(node, pg::mutator(rewrite_mutator), context);
}

Node *rewrite_conjunct(Node *qual) {
    if (IsA(qual, SubLink) && castNode(SubLink, qual)->subLinkType == EXISTS_SUBLINK)
        if (Node *rewritten = rewrite_exists(castNode(SubLink, qual)))
            return rewritten;
    return rewrite_mutator(qual, nullptr);
}

void rewrite_query(Query *query) {
    if (query->commandType != CMD_UPDATE && query->commandType != CMD_DELETE)
        return;
    RangeTblEntry *target = rt_fetch(query->resultRelation, query->rtable);
    if (target->rtekind != RTE_RELATION || find_distributed_table(target->relid) == nullptr ||
        !query->hasSubLinks)
        return;
    List *quals = NIL;
    ListCell *cell;
    foreach (cell, make_ands_implicit(reinterpret_cast<Expr *>(query->jointree->quals)))
        quals = lappend(quals, rewrite_conjunct(static_cast<Node *>(lfirst(cell))));
    if (quals != NIL)
        query->jointree->quals = reinterpret_cast<Node *>(make_ands_explicit(quals));
}

} // namespace

void rewrite_filter_subqueries(Query *query) {
    rewrite_query(query);
    ListCell *cell;
    foreach (cell, query->cteList) {
        CommonTableExpr *cte = lfirst_node(CommonTableExpr, cell);
        if (IsA(cte->ctequery, Query))
            rewrite_query(castNode(Query, cte->ctequery));
    }
}

} // namespace panvel
