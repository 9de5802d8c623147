#include "coordinator/planner/ship.h"

extern "C" {
#include "access/sysattr.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
}

#include "coordinator/planner/ship_internal.h"
#include "extension/pg/compat.h"

namespace panvel {
namespace {

// Whether an object that is not built in belongs to the extension `vector`, which every node has
// in the same version. Looked up in pg_depend once per object and backend.
bool belongs_to_vector(Oid class_id, Oid object_id) {
    struct Key {
        Oid class_id;
        Oid object_id;
    };
    struct Entry {
        Key key;
        bool member;
    };
    static HTAB *cache = nullptr;
    if (cache == nullptr) {
        HASHCTL control = {};
        control.keysize = sizeof(Key);
        control.entrysize = sizeof(Entry);
        control.hcxt = CacheMemoryContext;
        cache = hash_create("panvel shippable objects", 64, &control,
                            HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    }
    Key key = {class_id, object_id};
    bool found;
    auto *entry = static_cast<Entry *>(hash_search(cache, &key, HASH_FIND, &found));
    if (found)
        return entry->member;
    Oid extension = getExtensionOfObject(class_id, object_id);
    bool member = OidIsValid(extension) && extension == get_extension_oid("vector", true);
    entry = static_cast<Entry *>(hash_search(cache, &key, HASH_ENTER, &found));
    entry->member = member;
    return member;
}

} // namespace

bool is_function_everywhere(Oid function) {
    return function < FirstGenbkiObjectId || belongs_to_vector(ProcedureRelationId, function);
}

bool is_operator_everywhere(Oid op) {
    return op < FirstGenbkiObjectId || belongs_to_vector(OperatorRelationId, op);
}

bool is_type_everywhere(Oid type) {
    return type < FirstGenbkiObjectId || belongs_to_vector(TypeRelationId, type);
}

bool is_transportable(Oid type) {
    switch (get_typtype(type)) {
    case TYPTYPE_PSEUDO:
        return false;
    case TYPTYPE_COMPOSITE:
        return get_rel_relkind(get_typ_typrelid(type)) == RELKIND_COMPOSITE_TYPE;
    default:
        return true;
    }
}

namespace {

// The collation a worker's parser gives an expression, built up from the leaves: explicit COLLATE
// is not shipped, so a column's own collation prevails over the database default, and two
// different ones have no result.
struct DerivedCollation {
    Oid collation = InvalidOid;
    bool conflict = false;

    void merge(const DerivedCollation &child) {
        conflict |= child.conflict;
        if (!OidIsValid(child.collation) || child.collation == collation)
            return;
        if (!OidIsValid(collation) || collation == DEFAULT_COLLATION_OID)
            collation = child.collation;
        else if (child.collation != DEFAULT_COLLATION_OID)
            conflict = true;
    }
};

class Checker {
  public:
    Checker(Relids relids) : relids_(relids) {}

    bool check(Node *node, DerivedCollation *derived) {
        if (node == nullptr)
            return true;
        if (IsA(node, List)) {
            ListCell *cell;
            foreach (cell, castNode(List, node))
                if (!check(static_cast<Node *>(lfirst(cell)), derived))
                    return false;
            return true;
        }
        bool is_free = is_free_of_columns(node, relids_);
        if (is_free && conditional_ && may_raise(node)) {
            if (!is_computed_alike(node))
                return false;
        } else if (is_free) {
            // Travels as a parameter, whose collation is its type's default.
            derived->merge({get_typcollation(exprType(node)), false});
            return is_transportable(exprType(node));
        }
        DerivedCollation own;
        if (!check_node(node, &own))
            return false;
        if (own.conflict)
            return false;
        derived->merge(own);
        return true;
    }

  private:
    // A node over columns of the relations: its functions, then its arguments.
    bool check_node(Node *node, DerivedCollation *own) {
        switch (nodeTag(node)) {
        case T_Var: {
            Var *var = castNode(Var, node);
            if (!bms_is_member(var->varno, relids_) || var->varlevelsup != 0 || var->varattno <= 0)
                return false;
            own->collation = var->varcollid;
            return true;
        }
        case T_OpExpr:
        case T_DistinctExpr:
        case T_NullIfExpr: {
            OpExpr *op = reinterpret_cast<OpExpr *>(node);
            return is_operator_everywhere(op->opno) &&
                   check_call(reinterpret_cast<Node *>(op->args), op->inputcollid, op->opcollid,
                              own);
        }
        case T_ScalarArrayOpExpr: {
            auto *op = castNode(ScalarArrayOpExpr, node);
            return is_operator_everywhere(op->opno) &&
                   check_call(reinterpret_cast<Node *>(op->args), op->inputcollid, InvalidOid, own);
        }
        case T_FuncExpr: {
            auto *func = castNode(FuncExpr, node);
            return !func->funcretset && is_function_everywhere(func->funcid) &&
                   check_call(reinterpret_cast<Node *>(func->args), func->inputcollid,
                              func->funccollid, own);
        }
        case T_SubscriptingRef: {
            auto *ref = castNode(SubscriptingRef, node);
            return ref->refassgnexpr == nullptr &&
                   check(reinterpret_cast<Node *>(ref->refupperindexpr), own) &&
                   check(reinterpret_cast<Node *>(ref->reflowerindexpr), own) &&
                   check(reinterpret_cast<Node *>(ref->refexpr), own) &&
                   same_collation(ref->refcollid, own);
        }
        case T_RelabelType: {
            auto *relabel = castNode(RelabelType, node);
            return check(reinterpret_cast<Node *>(relabel->arg), own) &&
                   same_collation(relabel->resultcollid, own);
        }
        case T_BoolExpr: {
            DerivedCollation ignored;
            return check_until_decided(castNode(BoolExpr, node)->args, &ignored) &&
                   !ignored.conflict;
        }
        case T_NullTest: {
            auto *test = castNode(NullTest, node);
            DerivedCollation ignored;
            return !test->argisrow && check(reinterpret_cast<Node *>(test->arg), &ignored);
        }
        case T_BooleanTest: {
            auto *test = castNode(BooleanTest, node);
            return check(reinterpret_cast<Node *>(test->arg), own);
        }
        case T_ArrayExpr: {
            auto *array = castNode(ArrayExpr, node);
            return check(reinterpret_cast<Node *>(array->elements), own) &&
                   same_collation(array->array_collid, own);
        }
        case T_CoalesceExpr: {
            auto *coalesce = castNode(CoalesceExpr, node);
            return check_until_decided(coalesce->args, own) &&
                   same_collation(coalesce->coalescecollid, own);
        }
        case T_MinMaxExpr: {
            auto *expr = castNode(MinMaxExpr, node);
            return check_call(reinterpret_cast<Node *>(expr->args), expr->inputcollid,
                              expr->minmaxcollid, own);
        }
        case T_CaseExpr:
            return check_case(castNode(CaseExpr, node), own);
        case T_ArrayCoerceExpr:
        case T_CoerceViaIO:
            // The conversion functions are the types' own; immutability is checked for the
            // expression as a whole.
            return check_conversion(node, own);
        default:
            return false;
        }
    }

    bool check_call(Node *args, Oid input_collation, Oid result_collation, DerivedCollation *own) {
        if (!check(args, own) || own->conflict)
            return false;
        if (OidIsValid(input_collation) && input_collation != own->collation)
            return false;
        if (!OidIsValid(result_collation)) {
            own->collation = InvalidOid;
            return true;
        }
        // A result that is collatable from inputs that are not takes the default.
        if (!OidIsValid(own->collation))
            own->collation = DEFAULT_COLLATION_OID;
        return result_collation == own->collation;
    }

    // What comes after the first is evaluated only where that does not decide.
    bool check_until_decided(List *args, DerivedCollation *derived) {
        bool conditional = conditional_;
        bool shippable = true;
        ListCell *cell;
        foreach (cell, args) {
            shippable = shippable && check(static_cast<Node *>(lfirst(cell)), derived);
            conditional_ = true;
        }
        conditional_ = conditional;
        return shippable;
    }

    bool check_case(CaseExpr *expr, DerivedCollation *own) {
        // CASE x WHEN y: the comparison is in each WHEN over a CaseTestExpr, which ruleutils
        // prints back as CASE x WHEN y. Only the searched form is shipped.
        if (expr->arg != nullptr)
            return false;
        List *conditions = NIL;
        List *results = list_make1(static_cast<void *>(nullptr)); // none is evaluated in any case
        ListCell *cell;
        foreach (cell, expr->args) {
            conditions = lappend(conditions, lfirst_node(CaseWhen, cell)->expr);
            results = lappend(results, lfirst_node(CaseWhen, cell)->result);
        }
        results = lappend(results, expr->defresult);
        DerivedCollation ignored;
        return check_until_decided(conditions, &ignored) && !ignored.conflict &&
               check_until_decided(results, own) && same_collation(expr->casecollid, own);
    }

    bool check_conversion(Node *node, DerivedCollation *own) {
        if (IsA(node, ArrayCoerceExpr))
            return false;
        auto *conversion = castNode(CoerceViaIO, node);
        DerivedCollation ignored;
        if (!check(reinterpret_cast<Node *>(conversion->arg), &ignored) || ignored.conflict)
            return false;
        // Only between built-in types: text conversions of others may depend on settings.
        if (conversion->resulttype >= FirstGenbkiObjectId ||
            exprType(reinterpret_cast<Node *>(conversion->arg)) >= FirstGenbkiObjectId)
            return false;
        own->collation = get_typcollation(conversion->resulttype);
        return !OidIsValid(conversion->resultcollid) || conversion->resultcollid == own->collation;
    }

    static bool same_collation(Oid collation, DerivedCollation *own) {
        return !own->conflict && (!OidIsValid(collation) || collation == own->collation);
    }

    Relids relids_;
    bool conditional_ = false; // the part that is looked at may not be evaluated at all
};

// Stable functions that depend on nothing but their arguments and the setting TimeZone, which the
// nodes are given (coordinator/remote/settings.cpp).
bool depends_on_time_zone(Oid function) {
    switch (function) {
    case F_TIMESTAMPTZ_PL_INTERVAL:
    case F_TIMESTAMPTZ_MI_INTERVAL:
    case F_INTERVAL_PL_TIMESTAMPTZ:
    case F_DATE_TRUNC_TEXT_TIMESTAMPTZ:
    case F_DATE_PART_TEXT_TIMESTAMPTZ:
    case F_EXTRACT_TEXT_TIMESTAMPTZ:
    case F_DATE_TIMESTAMPTZ:
    case F_TIME_TIMESTAMPTZ:
    case F_TIMESTAMP_TIMESTAMPTZ:
    case F_TIMESTAMPTZ_DATE:
    case F_TIMESTAMPTZ_TIMESTAMP:
    case F_DATE_LT_TIMESTAMPTZ:
    case F_DATE_LE_TIMESTAMPTZ:
    case F_DATE_EQ_TIMESTAMPTZ:
    case F_DATE_NE_TIMESTAMPTZ:
    case F_DATE_GE_TIMESTAMPTZ:
    case F_DATE_GT_TIMESTAMPTZ:
    case F_TIMESTAMPTZ_LT_DATE:
    case F_TIMESTAMPTZ_LE_DATE:
    case F_TIMESTAMPTZ_EQ_DATE:
    case F_TIMESTAMPTZ_NE_DATE:
    case F_TIMESTAMPTZ_GE_DATE:
    case F_TIMESTAMPTZ_GT_DATE:
    case F_TIMESTAMP_LT_TIMESTAMPTZ:
    case F_TIMESTAMP_LE_TIMESTAMPTZ:
    case F_TIMESTAMP_EQ_TIMESTAMPTZ:
    case F_TIMESTAMP_NE_TIMESTAMPTZ:
    case F_TIMESTAMP_GE_TIMESTAMPTZ:
    case F_TIMESTAMP_GT_TIMESTAMPTZ:
    case F_TIMESTAMPTZ_LT_TIMESTAMP:
    case F_TIMESTAMPTZ_LE_TIMESTAMP:
    case F_TIMESTAMPTZ_EQ_TIMESTAMP:
    case F_TIMESTAMPTZ_NE_TIMESTAMP:
    case F_TIMESTAMPTZ_GE_TIMESTAMP:
    case F_TIMESTAMPTZ_GT_TIMESTAMP:
        return true;
    default:
        return false;
    }
}

bool differs_on_nodes(Oid function, void *) {
    return may_differ_on_nodes(function);
}

// Finds a function that may differ on the nodes. Of parts without columns Checker has seen to that.
bool mutable_walker(Node *node, Bitmapset *relids) {
    if (node == nullptr || is_free_of_columns(node, relids))
        return false;
    if (!IsA(node, List) && check_functions_in_node(node, differs_on_nodes, nullptr))
        return true;
    return expression_tree_walker(node, pg::walker(mutable_walker), relids);
}

} // namespace

bool may_differ_on_nodes(Oid function) {
    return func_volatile(function) != PROVOLATILE_IMMUTABLE && !depends_on_time_zone(function);
}

bool is_shippable(Relids relids, Expr *expr) {
    Node *node = reinterpret_cast<Node *>(expr);
    DerivedCollation derived;
    if (!Checker(relids).check(node, &derived) || derived.conflict)
        return false;
    return !mutable_walker(node, relids);
}

bool is_shippable_with_collation(Relids relids, Expr *expr, Oid collation) {
    DerivedCollation derived;
    return Checker(relids).check(reinterpret_cast<Node *>(expr), &derived) && !derived.conflict &&
           (!OidIsValid(collation) || collation == derived.collation);
}

} // namespace panvel
