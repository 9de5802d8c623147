#include "coordinator/planner/modify_rows.h"

#include "coordinator/planner/modify_sql.h"
#include "coordinator/planner/ship_internal.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"
}

namespace panvel {
namespace {

// ------------------------------------------------------------------ identity

// The columns by which all copies of a reference table know a row; empty where it has no key.
List *key_columns(Relation relation) {
    Bitmapset *key = RelationGetIndexAttrBitmap(relation, INDEX_ATTR_BITMAP_PRIMARY_KEY);
    List *columns = NIL;
    int member = -1;
    while ((member = bms_next_member(key, member)) >= 0)
        columns = lappend_int(columns, member + FirstLowInvalidHeapAttributeNumber);
    return columns;
}

// What names a row's shard and, in all its copies, the row.
List *identity_columns(Relation relation) {
    const DistributedTable *table = get_distributed_table(RelationGetRelid(relation));
    return table->is_reference ? key_columns(relation)
                               : list_make1_int(table->distribution_attribute);
}

void add_junk(Query *query, Var *var, const char *name) {
    auto position = static_cast<AttrNumber>(list_length(query->targetList) + 1);
    query->targetList = lappend(query->targetList, makeTargetEntry(reinterpret_cast<Expr *>(var),
                                                                   position, pstrdup(name), true));
}

void add_column(Query *query, Relation relation, AttrNumber attribute) {
    Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), attribute - 1);
    add_junk(query,
             makeVar(query->resultRelation, attribute, column->atttypid, column->atttypmod,
                     column->attcollation, 0),
             NameStr(column->attname));
}

// MERGE's actions use columns of the table, which PostgreSQL fetches by ctid; here they have to
// come with the plan's rows.
void add_columns_of_actions(Query *query) {
    List *vars = pull_vars_of_level(reinterpret_cast<Node *>(query->mergeActionList), 0);
    ListCell *cell;
    foreach (cell, vars) {
        Var *var = static_cast<Var *>(copyObjectImpl(lfirst(cell)));
        var->varlevelsup = 0;
        if (var->varno == query->resultRelation &&
            tlist_member(reinterpret_cast<Expr *>(var), query->targetList) == nullptr)
            add_junk(query, var, "merged");
    }
}

void add_identity(Query *query) {
    if (query->commandType != CMD_UPDATE && query->commandType != CMD_DELETE &&
        query->commandType != CMD_MERGE)
        return;
    RangeTblEntry *target = rt_fetch(query->resultRelation, query->rtable);
    if (target->rtekind != RTE_RELATION || target->relkind != RELKIND_RELATION ||
        find_distributed_table(target->relid) == nullptr)
        return;
    add_junk(
        query,
        makeVar(query->resultRelation, MinTransactionIdAttributeNumber, XIDOID, -1, InvalidOid, 0),
        "xmin");
    Relation relation = table_open(target->relid, NoLock);
    ListCell *cell;
    foreach (cell, identity_columns(relation))
        add_column(query, relation, lfirst_int(cell));
    table_close(relation, NoLock);
    if (query->commandType == CMD_MERGE)
        add_columns_of_actions(query);
}

// The column of the plan's rows that has the table's column `attribute` as it was.
int position_of(PlannerInfo *root, AttrNumber attribute) {
    ListCell *cell;
    foreach (cell, root->processed_tlist) {
        TargetEntry *entry = lfirst_node(TargetEntry, cell);
        if (!entry->resjunk || !IsA(entry->expr, Var))
            continue;
        Var *var = castNode(Var, entry->expr);
        if (var->varno == root->parse->resultRelation && var->varattno == attribute)
            return entry->resno;
    }
    elog(ERROR, "column %d of the updated table is not among the plan's", attribute);
    pg_unreachable();
}

// ------------------------------------------------------------------ what needs it

bool is_partial_assignment(Expr *expr) {
    expr = without_domain_check(expr);
    return IsA(expr, FieldStore) ||
           (IsA(expr, SubscriptingRef) && castNode(SubscriptingRef, expr)->refassgnexpr != nullptr);
}

bool has_unshippable_assignment(PlannerInfo *root) {
    Index varno = root->parse->resultRelation;
    ListCell *cell;
    foreach (cell, root->processed_tlist) {
        TargetEntry *entry = lfirst_node(TargetEntry, cell);
        // SET (a, b) = (SELECT ...) assigns parameters that a hidden column sets.
        if (entry->resjunk ? contain_subplans(reinterpret_cast<Node *>(entry->expr))
                           : is_partial_assignment(entry->expr) ||
                                 !is_shippable(varno, without_domain_check(entry->expr)))
            return true;
    }
    return false;
}

bool current_of_walker(Node *node, void *context) {
    if (node == nullptr)
        return false;
    return IsA(node, CurrentOfExpr) ||
           expression_tree_walker(node, pg::walker(current_of_walker), context);
}

bool has_unshippable_condition(PlannerInfo *root) {
    RelOptInfo *rel = find_base_rel(root, root->parse->resultRelation);
    ListCell *cell;
    foreach (cell, rel->baserestrictinfo) {
        Expr *clause = lfirst_node(RestrictInfo, cell)->clause;
        if (current_of_walker(reinterpret_cast<Node *>(clause), nullptr))
            refuse_modification(planner_rt_fetch(rel->relid, root)->relid, "WHERE CURRENT OF",
                                "Use the primary key in WHERE.");
        if (!is_shippable(rel->relids, clause))
            return true;
    }
    return false;
}

// ------------------------------------------------------------------ SQL

// The statement's row source: an array for each column, of these types (Oid List), then the rows'
// numbers. `casts`: what SQL makes of each column (String List).
char *row_source(List *types, List **casts) {
    StringInfoData arrays;
    initStringInfo(&arrays);
    ListCell *cell;
    foreach (cell, types) {
        SentColumn column = sent_column(lfirst_oid(cell));
        int number = foreach_current_index(cell) + 1;
        appendStringInfo(&arrays, "%spg_catalog.unnest($%d::%s[])", number > 1 ? ", " : "", number,
                         qualified_type_name(column.element_type));
        const char *cast = column.cast != nullptr ? psprintf("r.c%d::%s", number, column.cast)
                                                  : psprintf("r.c%d", number);
        *casts = lappend(*casts, makeString(const_cast<char *>(cast)));
    }
    StringInfoData source;
    initStringInfo(&source);
    appendStringInfo(&source, "ROWS FROM (%s) WITH ORDINALITY AS r(", arrays.data);
    for (int i = 1; i <= list_length(types); i++)
        appendStringInfo(&source, "c%d, ", i);
    appendStringInfoString(&source, "n)");
    return source.data;
}

void append_row_assignments(Relation relation, StringInfo sql, List *columns, List *casts) {
    const char *separator = " AS t SET ";
    ListCell *cell;
    foreach (cell, columns) {
        appendStringInfo(sql, "%s%s = %s", separator, column_name(relation, lfirst_int(cell)),
                         strVal(list_nth(casts, foreach_current_index(cell))));
        separator = ", ";
    }
    // SET generated_column = DEFAULT assigns nothing, but updates the row.
    if (columns == NIL) {
        const char *column = column_name(relation, plain_column(relation));
        appendStringInfo(sql, "%s%s = t.%s", separator, column, column);
    }
}

// The row by its place on the one placement, or by the key that its copies share.
void append_identity(Relation relation, StringInfo sql, List *casts, int first) {
    if (!get_distributed_table(RelationGetRelid(relation))->is_reference) {
        appendStringInfo(sql, " WHERE t.ctid = %s", strVal(list_nth(casts, first)));
        return;
    }
    const char *separator = " WHERE ";
    ListCell *cell;
    foreach (cell, identity_columns(relation)) {
        appendStringInfo(sql, "%st.%s = %s", separator, column_name(relation, lfirst_int(cell)),
                         strVal(list_nth(casts, first + foreach_current_index(cell))));
        separator = " AND ";
    }
}

} // namespace

// The columns asked for and the row's number; then the images for followers.
void append_row_returning(StringInfo sql, Relation relation, const ModifyPlan *plan) {
    const char *separator = " RETURNING ";
    ListCell *cell;
    foreach (cell, plan->returned) {
        appendStringInfo(sql, "%st.%s", separator, column_name(relation, lfirst_int(cell)));
        separator = ", ";
    }
    if (plan->returned != NIL)
        appendStringInfo(sql, "%sr.n", separator);
    foreach (cell, plan->images) {
        appendStringInfo(sql, "%st.%s", separator, column_name(relation, lfirst_int(cell)));
        separator = ", ";
    }
}

void add_row_identity(Query *query) {
    add_identity(query);
    ListCell *cell;
    foreach (cell, query->cteList) {
        CommonTableExpr *cte = lfirst_node(CommonTableExpr, cell);
        if (IsA(cte->ctequery, Query))
            add_identity(castNode(Query, cte->ctequery));
    }
}

bool is_by_rows(PlannerInfo *root) {
    return root->parse->commandType == CMD_MERGE || has_unshippable_condition(root) ||
           bms_membership(root->all_baserels) != BMS_SINGLETON ||
           (root->parse->commandType == CMD_UPDATE && has_unshippable_assignment(root));
}

void find_row_identity(PlannerInfo *root, Relation relation, ModifyPlan *plan) {
    const DistributedTable *table = get_distributed_table(RelationGetRelid(relation));
    if (identity_columns(relation) == NIL)
        refuse_modification(
            table->relid,
            "UPDATE, DELETE or MERGE with a join, a subquery or a function that the "
            "nodes cannot evaluate",
            "Give the reference table a primary key.");
    if (planner_rt_fetch(root->parse->resultRelation, root)->securityQuals != NIL ||
        root->parse->withCheckOptions != NIL)
        refuse_modification(
            table->relid,
            "UPDATE, DELETE or MERGE with a join, a subquery or a function that the "
            "nodes cannot evaluate, under row-level security,",
            "Read the rows first and pass values as parameters.");
    plan->by_rows = true;
    plan->ctid = position_of(root, SelfItemPointerAttributeNumber);
    plan->xmin = position_of(root, MinTransactionIdAttributeNumber);
    if (!table->is_reference)
        plan->key = position_of(root, table->distribution_attribute);
}

List *identity_attributes(Relation relation) {
    return get_distributed_table(RelationGetRelid(relation))->is_reference
               ? key_columns(relation)
               : list_make1_int(SelfItemPointerAttributeNumber);
}

List *row_identity(PlannerInfo *root, Relation relation) {
    if (!get_distributed_table(RelationGetRelid(relation))->is_reference)
        return list_make1_int(position_of(root, SelfItemPointerAttributeNumber));
    List *positions = NIL;
    ListCell *cell;
    foreach (cell, identity_columns(relation))
        positions = lappend_int(positions, position_of(root, lfirst_int(cell)));
    return positions;
}

int assigned_key(Relation relation, List *columns) {
    const DistributedTable *table = get_distributed_table(RelationGetRelid(relation));
    ListCell *cell;
    foreach (cell, columns)
        if (!table->is_reference && lfirst_int(cell) == table->distribution_attribute)
            return foreach_current_index(cell) + 1;
    return 0;
}

char *update_rows_tail(Relation relation, List *columns, List *types, const ModifyPlan *plan) {
    List *casts = NIL;
    char *source = row_source(types, &casts);
    StringInfoData tail;
    initStringInfo(&tail);
    append_row_assignments(relation, &tail, columns, casts);
    appendStringInfo(&tail, " FROM %s", source);
    append_identity(relation, &tail, casts, list_length(columns));
    append_row_returning(&tail, relation, plan);
    return tail.data;
}

char *delete_rows_tail(Relation relation, List *types, const ModifyPlan *plan) {
    List *casts = NIL;
    char *source = row_source(types, &casts);
    StringInfoData tail;
    initStringInfo(&tail);
    appendStringInfo(&tail, " AS t USING %s", source);
    append_identity(relation, &tail, casts, 0);
    append_row_returning(&tail, relation, plan);
    return tail.data;
}

void build_row_sql(PlannerInfo *root, Relation relation, ModifyPlan *plan) {
    find_row_identity(root, relation, plan);
    List *columns = plan->operation == CMD_UPDATE ? root->update_colnos : NIL;
    for (int i = 1; i <= list_length(columns); i++)
        plan->sent = lappend_int(plan->sent, i);
    plan->sent = list_concat(plan->sent, row_identity(root, relation));
    List *types = NIL;
    ListCell *cell;
    foreach (cell, plan->sent) {
        auto *entry =
            static_cast<TargetEntry *>(list_nth(root->processed_tlist, lfirst_int(cell) - 1));
        types = lappend_oid(types, exprType(reinterpret_cast<Node *>(entry->expr)));
    }
    if (plan->operation == CMD_UPDATE) {
        plan->command = "UPDATE ";
        plan->new_key = assigned_key(relation, columns);
        build_apply_sql(relation, columns, plan);
        plan->tail = update_rows_tail(relation, columns, types, plan);
    } else {
        plan->command = "DELETE FROM ";
        build_apply_sql(relation, NIL, plan);
        plan->tail = delete_rows_tail(relation, types, plan);
    }
}

} // namespace panvel
