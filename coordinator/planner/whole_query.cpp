// Which queries a node can answer as a whole: everything in them means there what it means here.
#include "coordinator/planner/whole_query.h"

#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/ship_internal.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

// Whether a part of an expression depends on rows, or has a meaning only in its place.
bool depends_on_place(Node *node, void *context) {
    if (node == nullptr)
        return false;
    switch (nodeTag(node)) {
    case T_Var:
    case T_Aggref:
    case T_WindowFunc:
    case T_GroupingFunc:
    case T_SubLink:
    case T_Query:
    case T_CaseTestExpr:
    case T_CoerceToDomainValue:
    case T_SetToDefault:
    case T_CurrentOfExpr:
    case T_CollateExpr:
        return true;
    case T_Param:
        return castNode(Param, node)->paramkind != PARAM_EXTERN;
    default:
        return expression_tree_walker(node, pg::walker(depends_on_place), context);
    }
}

bool is_expression(Node *node) {
    switch (nodeTag(node)) {
    case T_Const:
    case T_Param:
    case T_FuncExpr:
    case T_OpExpr:
    case T_DistinctExpr:
    case T_NullIfExpr:
    case T_ScalarArrayOpExpr:
    case T_RelabelType:
    case T_CoerceViaIO:
    case T_ArrayCoerceExpr:
    case T_BoolExpr:
    case T_NullTest:
    case T_BooleanTest:
    case T_ArrayExpr:
    case T_CaseExpr:
    case T_CoalesceExpr:
    case T_MinMaxExpr:
    case T_SQLValueFunction:
    case T_SubscriptingRef:
    case T_CoerceToDomain:
        return true;
    default:
        return false;
    }
}

bool is_unfit(Oid function, void *) {
    return !is_function_everywhere(function) || may_differ_on_nodes(function);
}

class Check {
  public:
    // True when there is something that cannot be shipped.
    static bool walker(Node *node, Check *check) {
        if (node == nullptr)
            return false;
        if (is_known_value(node))
            return !travels_as_value(node);
        if (!check->allows(node))
            return true;
        if (IsA(node, Query))
            return query_tree_walker(castNode(Query, node), pg::walker(walker), check,
                                     QTW_EXAMINE_RTES_BEFORE | QTW_EXAMINE_SORTGROUP);
        if (IsA(node, RangeTblEntry) || IsA(node, SortGroupClause))
            return false;
        return expression_tree_walker(node, pg::walker(walker), check);
    }

    // Whether a node computes this part of a known value as the coordinator does, if it has the
    // parts below.
    static bool computes(Node *node) {
        switch (nodeTag(node)) {
        case T_Const:
        case T_Param:
            return true;
        case T_ArrayCoerceExpr:
        case T_CoerceToDomain:
        case T_SQLValueFunction:
            return false;
        default:
            return is_expression(node) && has_common_functions(node);
        }
    }

    const Query *top; // may be a statement that writes
    bool locks = false;

  private:
    // A parameter has its type's own collation.
    static bool travels_as_value(Node *node) {
        Oid type = exprType(node);
        return is_type_everywhere(type) && is_transportable(type) &&
               exprCollation(node) == get_typcollation(type);
    }

    bool allows(Node *node) {
        switch (nodeTag(node)) {
        case T_Query:
            return allows_query(castNode(Query, node));
        case T_RangeTblEntry:
            return allows_entry(castNode(RangeTblEntry, node));
        case T_SortGroupClause: {
            auto *clause = castNode(SortGroupClause, node);
            return is_operator_everywhere(clause->eqop) &&
                   (!OidIsValid(clause->sortop) || is_operator_everywhere(clause->sortop));
        }
        case T_CommonTableExpr: {
            auto *cte = castNode(CommonTableExpr, node);
            return cte->search_clause == nullptr && cte->cycle_clause == nullptr;
        }
        case T_List:
        case T_TargetEntry:
        case T_FromExpr:
        case T_JoinExpr:
        case T_RangeTblRef:
        case T_RangeTblFunction:
        case T_WindowClause:
        case T_SetOperationStmt:
        case T_OnConflictExpr:
        case T_CaseWhen:
            return true;
        case T_Var: // neither system columns nor whole rows, whose types are the nodes' own
            return castNode(Var, node)->varattno > 0;
        case T_CollateExpr: // one of those that every server has
            return castNode(CollateExpr, node)->collOid < FirstGenbkiObjectId;
        case T_CaseTestExpr:
        case T_SubLink:
        case T_GroupingFunc:
            return true;
        case T_Param:
            return castNode(Param, node)->paramkind == PARAM_SUBLINK;
        case T_NullTest:
            return !castNode(NullTest, node)->argisrow;
        case T_RowCompareExpr:
        case T_Aggref:
        case T_WindowFunc:
            return has_common_functions(node);
        default:
            return computes(node);
        }
    }

    // Functions, operators and types that every node has.
    static bool has_common_functions(Node *node) {
        if (!is_type_everywhere(exprType(node)) || check_functions_in_node(node, is_unfit, nullptr))
            return false;
        switch (nodeTag(node)) {
        case T_OpExpr:
        case T_DistinctExpr:
        case T_NullIfExpr:
            return is_operator_everywhere(reinterpret_cast<OpExpr *>(node)->opno);
        case T_ScalarArrayOpExpr:
            return is_operator_everywhere(castNode(ScalarArrayOpExpr, node)->opno);
        default:
            return true;
        }
    }

    bool allows_query(Query *query) {
        if ((query->commandType != CMD_SELECT && query != top) || query->utilityStmt != nullptr ||
            query->hasModifyingCTE || query->hasRowSecurity ||
            query->limitOption == LIMIT_OPTION_WITH_TIES) // which is not printed in parentheses
            return false;
        ListCell *cell;
        foreach (cell, query->rowMarks) {
            locks = true;
            RangeTblEntry *entry = rt_fetch(lfirst_node(RowMarkClause, cell)->rti, query->rtable);
            // A copy's lock would say nothing to those who use another.
            if (entry->rtekind == RTE_RELATION && is_reference(entry))
                return false;
        }
        return true;
    }

    static bool is_reference(const RangeTblEntry *entry) {
        const DistributedTable *table = find_distributed_table(entry->relid);
        return table == nullptr || table->is_reference;
    }

    static bool allows_entry(const RangeTblEntry *entry) {
        if (entry->securityQuals != NIL)
            return false;
        switch (entry->rtekind) {
        case RTE_RELATION: // of a view, only its rights remain
            return (entry->relkind == RELKIND_VIEW && !entry->inFromCl) ||
                   (entry->relkind == RELKIND_RELATION && entry->tablesample == nullptr &&
                    find_distributed_table(entry->relid) != nullptr);
        case RTE_SUBQUERY:
            return !entry->security_barrier;
        case RTE_JOIN:
        case RTE_FUNCTION:
        case RTE_VALUES:
        case RTE_CTE:
            return true;
        default:
            return false;
        }
    }
};

bool needs_coordinator_walker(Node *node, void *context) {
    if (node == nullptr)
        return false;
    if (!IsA(node, List) && !IsA(node, CaseWhen) && !Check::computes(node))
        return true;
    return expression_tree_walker(node, pg::walker(needs_coordinator_walker), context);
}

bool result_can_be_read(const Query *query) {
    ListCell *cell;
    foreach (cell, query->commandType == CMD_SELECT ? query->targetList : query->returningList)
        if (!is_transportable(
                exprType(reinterpret_cast<Node *>(lfirst_node(TargetEntry, cell)->expr))))
            return false;
    return true;
}

bool strip_walker(Node *node, void *context) {
    if (node == nullptr)
        return false;
    if (!IsA(node, Query))
        return expression_tree_walker(node, pg::walker(strip_walker), context);
    castNode(Query, node)->rowMarks = NIL;
    return query_tree_walker(castNode(Query, node), pg::walker(strip_walker), context, 0);
}

// Columns of one relation's rows, and perhaps LIMIT: the plan will be a scan that sends the same.
// To find that out only then (use_whole_query()) would cost as much as planning does.
bool is_simple_select(const Query *query) {
    return list_length(query->rtable) == 1 &&
           linitial_node(RangeTblEntry, query->rtable)->rtekind == RTE_RELATION &&
           !query->hasAggs && !query->hasWindowFuncs && !query->hasTargetSRFs &&
           !query->hasSubLinks && query->cteList == NIL && query->groupClause == NIL &&
           query->groupingSets == NIL && query->havingQual == nullptr &&
           query->distinctClause == NIL && query->sortClause == NIL && query->rowMarks == NIL &&
           query->setOperations == nullptr;
}

} // namespace

bool is_known_value(Node *node) {
    return is_expression(node) && !depends_on_place(node, nullptr) &&
           !contain_volatile_functions(node) && !expression_returns_set(node);
}

bool needs_coordinator(Node *node) {
    return needs_coordinator_walker(node, nullptr);
}

bool is_shippable_query(Query *query, bool *locks) {
    Check check = {query};
    if (Check::walker(reinterpret_cast<Node *>(query), &check) || !result_can_be_read(query))
        return false;
    *locks = check.locks;
    return true;
}

void strip_row_locks(Query *query) {
    strip_walker(reinterpret_cast<Node *>(query), nullptr);
}

WholeQuery *find_whole_query(Query *query) {
    if (query->commandType != CMD_SELECT || query->utilityStmt != nullptr ||
        is_simple_select(query))
        return nullptr;
    ShardPin pin = find_shard_pin(query);
    bool locks = false;
    if (pin.table == nullptr || !is_shippable_query(query, &locks))
        return nullptr;
    // What was locked on which epoch of its shard is noted for one table only.
    if (locks && pin.table->replication_factor > 1)
        return nullptr;
    auto *whole = palloc0_object(WholeQuery);
    whole->query = static_cast<Query *>(copyObjectImpl(query));
    whole->table = pin.table;
    whole->key = pin.key;
    whole->locks = locks;
    whole->single_relation = pin.relations == 1;
    whole->text = deparse_query(whole->query, &whole->params);
    return whole->text != NIL ? whole : nullptr;
}

} // namespace panvel
