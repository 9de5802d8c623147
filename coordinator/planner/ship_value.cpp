// Parts of an expression that have no columns of the relations. The coordinator computes them, once
// before the rows, and sends their values.
//
// Not so where a row may not ask for the part, as in a branch of CASE, and computing it could raise
// an error, as 1 / $1 does: it stays an expression then, and raises where PostgreSQL would.
#include "coordinator/executor/codec.h"
#include "coordinator/planner/ship_internal.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/transam.h"
#include "catalog/pg_collation.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

bool references_relation_walker(Node *node, Bitmapset *relids) {
    if (node == nullptr)
        return false;
    if (IsA(node, Var)) {
        Var *var = castNode(Var, node);
        return var->varlevelsup == 0 && bms_is_member(var->varno, relids);
    }
    // CaseTestExpr and the like mean something only inside their parent.
    if (IsA(node, CaseTestExpr) || IsA(node, CoerceToDomainValue) || IsA(node, SubPlan) ||
        IsA(node, AlternativeSubPlan) || IsA(node, Aggref) || IsA(node, WindowFunc) ||
        IsA(node, GroupingFunc) || IsA(node, PlaceHolderVar) || IsA(node, CurrentOfExpr))
        return true;
    return expression_tree_walker(node, pg::walker(references_relation_walker), relids);
}

// ------------------------------------------------------------------ errors

// A leakproof function raises nothing that its arguments could be told by; now() and its like have
// none.
bool function_may_raise(Oid function, void *) {
    bool asks_nothing = function < FirstGenbkiObjectId && get_func_nargs(function) == 0;
    return !asks_nothing && !get_func_leakproof(function);
}

bool may_raise_walker(Node *node, void *context) {
    if (node == nullptr)
        return false;
    switch (nodeTag(node)) {
    case T_List:
    case T_Var:
    case T_Const:
    case T_Param:
    case T_SQLValueFunction:
    case T_RelabelType:
    case T_BoolExpr:
    case T_NullTest:
    case T_BooleanTest:
    case T_CaseExpr:
    case T_CaseWhen:
    case T_CoalesceExpr:
        break;
    case T_ArrayExpr:
        if (castNode(ArrayExpr, node)->multidims)
            return true;
        break;
    case T_FuncExpr:
    case T_OpExpr:
    case T_DistinctExpr:
    case T_NullIfExpr:
    case T_ScalarArrayOpExpr:
        if (check_functions_in_node(node, function_may_raise, nullptr))
            return true;
        break;
    default:
        return true;
    }
    return expression_tree_walker(node, pg::walker(may_raise_walker), context);
}

// ------------------------------------------------------------------ what nodes compute

bool is_foreign_to_nodes(Oid function, void *) {
    return !is_function_everywhere(function) || may_differ_on_nodes(function);
}

bool is_default_collation(Oid collation) {
    return !OidIsValid(collation) || collation == DEFAULT_COLLATION_OID;
}

// Whether a value of this type, of a parameter or computed from some, is the same on a node: its
// collation the one that the node's parser derives, and no name of something that only the
// coordinator may have.
bool has_common_type(Node *node) {
    Oid type = exprType(node);
    return is_type_everywhere(type) && is_transportable(type) && !is_object_identifier(type) &&
           is_default_collation(get_typcollation(type)) &&
           is_default_collation(exprCollation(node));
}

bool computes_alike(Node *node) {
    switch (nodeTag(node)) {
    case T_Const:
    case T_Param:
    case T_Var: // of a relation around, a parameter here
    case T_SQLValueFunction:
    case T_RelabelType:
    case T_BoolExpr:
    case T_BooleanTest:
    case T_ArrayExpr:
    case T_CoalesceExpr:
        return true;
    case T_NullTest:
        return !castNode(NullTest, node)->argisrow;
    case T_CaseExpr:
        return castNode(CaseExpr, node)->arg == nullptr;
    case T_FuncExpr:
        return !castNode(FuncExpr, node)->funcretset;
    case T_OpExpr:
    case T_DistinctExpr:
    case T_NullIfExpr:
        return is_operator_everywhere(reinterpret_cast<OpExpr *>(node)->opno);
    case T_ScalarArrayOpExpr:
        return is_operator_everywhere(castNode(ScalarArrayOpExpr, node)->opno);
    case T_CoerceViaIO: // text conversions of others may depend on settings
        return exprType(node) < FirstGenbkiObjectId &&
               exprType(reinterpret_cast<Node *>(castNode(CoerceViaIO, node)->arg)) <
                   FirstGenbkiObjectId;
    default:
        return false;
    }
}

// Finds something that a node would not compute as the coordinator does.
bool differing_walker(Node *node, void *context) {
    if (node == nullptr)
        return false;
    bool is_part_of_other = IsA(node, List) || IsA(node, CaseWhen);
    // now() is computed here in any case, and what it gives is sent.
    bool is_sent = !is_part_of_other && !may_raise(node);
    if (!is_part_of_other && !has_common_type(node))
        return true;
    if (is_sent)
        return false;
    if (!is_part_of_other &&
        (!computes_alike(node) || !is_default_collation(exprInputCollation(node)) ||
         check_functions_in_node(node, is_foreign_to_nodes, nullptr)))
        return true;
    return expression_tree_walker(node, pg::walker(differing_walker), context);
}

} // namespace

bool references_relation(Node *node, Relids relids) {
    return references_relation_walker(node, relids);
}

bool is_free_of_columns(Node *node, Relids relids) {
    return !IsA(node, List) && !references_relation(node, relids) &&
           !contain_volatile_functions(node);
}

bool may_raise(Node *node) {
    return may_raise_walker(node, nullptr);
}

bool is_computed_alike(Node *node) {
    return !differing_walker(node, nullptr);
}

} // namespace panvel
