#include "coordinator/planner/modify_sql.h"

#include "coordinator/catalog/metadata.h"
#include "coordinator/executor/codec.h"
#include "coordinator/planner/ship_internal.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/plancat.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

void append_returning(StringInfo sql, Relation relation, const ModifyPlan *plan) {
    const char *separator = " RETURNING ";
    ListCell *cell;
    foreach (cell, plan->returned) {
        appendStringInfo(sql, "%st.%s", separator, column_name(relation, lfirst_int(cell)));
        separator = ", ";
    }
    if (finds_conflicts(plan)) // coordinator/executor/returning.h
        appendStringInfoString(sql, ", t.ctid, t.xmax");
    foreach (cell, plan->images) {
        appendStringInfo(sql, "%st.%s", separator, column_name(relation, lfirst_int(cell)));
        separator = ", ";
    }
}

// ------------------------------------------------------------------ what cannot be shipped

bool system_column_walker(Node *node, Index *varno) {
    if (node == nullptr)
        return false;
    if (IsA(node, Var)) {
        Var *var = castNode(Var, node);
        return var->varno == static_cast<int>(*varno) && var->varattno < 0;
    }
    return expression_tree_walker(node, pg::walker(system_column_walker), varno);
}

bool current_of_walker(Node *node, void *context) {
    if (node == nullptr)
        return false;
    if (IsA(node, CurrentOfExpr))
        return true;
    return expression_tree_walker(node, pg::walker(current_of_walker), context);
}

struct Refusal {
    Oid relid;
    const char *where; // "WHERE of UPDATE"

    [[noreturn]] void operator()(const char *construct, const char *hint) const {
        refuse_modification(relid, psprintf("%s in %s", construct, where), hint);
    }
};

// Says why the shards cannot evaluate `expr`.
[[noreturn]] void refuse_expression(Expr *expr, Index varno, const Refusal &refuse) {
    Node *node = reinterpret_cast<Node *>(expr);
    if (current_of_walker(node, nullptr))
        refuse("WHERE CURRENT OF", "Use the primary key in WHERE.");
    if (contain_subplans(node))
        refuse("a subquery that is evaluated for every row",
               "Read the values first and pass them as parameters, or as an array to = ANY.");
    if (contain_volatile_functions(node))
        refuse("a volatile function", "Compute the value first and pass it as a parameter.");
    if (system_column_walker(node, &varno))
        refuse("a system column", "Use the primary key in WHERE.");
    refuse("an expression that the nodes may evaluate differently",
           "Only built-in immutable functions and those of extension vector are evaluated there; "
           "read the rows first and pass values as parameters.");
}

// ------------------------------------------------------------------ UPDATE

bool is_column(Expr *expr, Index varno, AttrNumber attribute) {
    if (!IsA(expr, Var))
        return false;
    Var *var = castNode(Var, expr);
    return var->varno == static_cast<int>(varno) && var->varattno == attribute;
}

// The distribution column may be assigned itself, or the value that WHERE asks of it, which is
// compared at execution (plan->assigned_key): the row stays in its shard.
void check_assigned_key(Index varno, const DistributedTable *table, Expr *expr, ModifyPlan *plan) {
    if (is_column(expr, varno, table->distribution_attribute))
        return;
    bool known = is_free_of_columns(reinterpret_cast<Node *>(expr),
                                    bms_make_singleton(static_cast<int>(varno)));
    if (!known || plan->prune == nullptr || plan->prune->is_array)
        refuse_key_update(table);
    plan->assigned_key = expr;
}

// Returns the columns that are assigned (integer List), but for those that are assigned themselves.
List *append_assignments(PlannerInfo *root, Relation relation, StringInfo sql, ModifyPlan *plan,
                         ShippedParams *params) {
    List *assigned = NIL;
    Index varno = root->parse->resultRelation;
    const DistributedTable *table = get_distributed_table(RelationGetRelid(relation));
    const char *separator = " AS t SET ";
    ListCell *column_cell = list_head(root->update_colnos);
    ListCell *cell;
    foreach (cell, root->processed_tlist) {
        TargetEntry *entry = lfirst_node(TargetEntry, cell);
        if (entry->resjunk)
            continue;
        AttrNumber attribute = lfirst_int(column_cell);
        column_cell = lnext(root->update_colnos, column_cell);
        const char *column = column_name(relation, attribute);
        if (attribute == table->distribution_attribute)
            check_assigned_key(varno, table, entry->expr, plan);
        Expr *expr = without_domain_check(entry->expr);
        if (!is_column(expr, varno, attribute))
            assigned = lappend_int(assigned, attribute);
        appendStringInfo(sql, "%s%s = %s", separator, column,
                         ship_or_refuse(root, expr, "SET", params));
        separator = ", ";
    }
    // SET generated_column = DEFAULT assigns nothing, but updates the row.
    if (column_cell == list_head(root->update_colnos)) {
        const char *column = column_name(relation, plain_column(relation));
        appendStringInfo(sql, "%s%s = t.%s", separator, column, column);
    }
    return assigned;
}

void append_filter(PlannerInfo *root, List *quals, StringInfo sql, ShippedParams *params) {
    const char *separator = " WHERE ";
    ListCell *cell;
    foreach (cell, quals) {
        appendStringInfo(sql, "%s(%s)", separator,
                         ship_or_refuse(root, static_cast<Expr *>(lfirst(cell)), "WHERE", params));
        separator = " AND ";
    }
}

// ------------------------------------------------------------------ INSERT

void append_columns(StringInfo sql, Relation relation, List *attributes) {
    const char *separator = " AS t (";
    ListCell *cell;
    foreach (cell, attributes) {
        appendStringInfo(sql, "%s%s", separator, column_name(relation, lfirst_int(cell)));
        separator = ", ";
    }
    // The values of identity columns have been made here.
    appendStringInfoString(sql, ") OVERRIDING SYSTEM VALUE ");
}

void append_one_row(StringInfo sql, Relation relation, List *attributes) {
    const char *separator = "VALUES (";
    int number = 0;
    ListCell *cell;
    foreach (cell, attributes) {
        Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), lfirst_int(cell) - 1);
        appendStringInfo(sql, "%s$%d::%s", separator, ++number,
                         qualified_type_name(getBaseType(column->atttypid)));
        separator = ", ";
    }
    appendStringInfoChar(sql, ')');
}

void append_many_rows(StringInfo sql, Relation relation, List *attributes) {
    StringInfoData arrays;
    initStringInfo(&arrays);
    const char *separator = "";
    int number = 0;
    ListCell *cell;
    appendStringInfoString(sql, "SELECT ");
    foreach (cell, attributes) {
        SentColumn sent =
            sent_column(TupleDescAttr(RelationGetDescr(relation), lfirst_int(cell) - 1)->atttypid);
        appendStringInfo(sql, "%sr.c%d", separator, ++number);
        if (sent.cast != nullptr)
            appendStringInfo(sql, "::%s", sent.cast);
        appendStringInfo(&arrays, "%spg_catalog.unnest($%d::%s[])", separator, number,
                         qualified_type_name(sent.element_type));
        separator = ", ";
    }
    appendStringInfo(sql, " FROM ROWS FROM (%s) AS r(", arrays.data);
    for (int i = 1; i <= number; i++)
        appendStringInfo(sql, "%sc%d", i == 1 ? "" : ", ", i);
    appendStringInfoChar(sql, ')');
}

// Stands for a parameter with the row's value; equal to no expression of a query.
Node *placeholder(int position) {
    Param *param = makeNode(Param);
    param->paramkind = PARAM_EXTERN;
    param->paramid = -1 - position;
    return reinterpret_cast<Node *>(param);
}

} // namespace

AttrNumber plain_column(Relation relation) {
    const DistributedTable *table = get_distributed_table(RelationGetRelid(relation));
    if (!table->is_reference)
        return table->distribution_attribute;
    TupleDesc columns = RelationGetDescr(relation);
    for (int i = 0; i < columns->natts; i++)
        if (!TupleDescAttr(columns, i)->attisdropped &&
            TupleDescAttr(columns, i)->attgenerated == '\0')
            return TupleDescAttr(columns, i)->attnum;
    refuse_modification(table->relid, "this statement on a table without stored columns",
                        "Give the table a column.");
}

const char *column_name(Relation relation, AttrNumber attribute) {
    Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), attribute - 1);
    return quote_identifier(NameStr(column->attname));
}

char *ship_or_refuse(PlannerInfo *root, Expr *expr, const char *where, ShippedParams *params) {
    Index varno = root->parse->resultRelation;
    if (!is_shippable(varno, expr))
        refuse_expression(expr, varno, {planner_rt_fetch(varno, root)->relid, where});
    return deparse_shipped(root, varno, expr, params);
}

Expr *without_domain_check(Expr *expr) {
    while (IsA(expr, CoerceToDomain))
        expr = castNode(CoerceToDomain, expr)->arg;
    return expr;
}

char *qualified_type_name(Oid type) {
    return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

SentColumn sent_column(Oid column_type) {
    Oid type = getBaseType(column_type);
    // unnest() would take an array's or a composite value's parts for columns, and some types have
    // no array.
    if (travels_in_binary(type) && OidIsValid(get_array_type(type)) &&
        !OidIsValid(get_element_type(type)) && get_typtype(type) != TYPTYPE_COMPOSITE)
        return {type, type, nullptr};
    return {type, TEXTOID, qualified_type_name(type)};
}

void build_update_sql(PlannerInfo *root, Relation relation, ModifyPlan *plan) {
    Index varno = root->parse->resultRelation;
    RelOptInfo *rel = find_base_rel(root, varno);
    List *quals = list_concat(extract_actual_clauses(rel->baserestrictinfo, true),
                              extract_actual_clauses(rel->baserestrictinfo, false));
    plan->no_rows = IS_DUMMY_REL(rel);
    plan->prune = find_prune_key(root, rel->relids, varno, quals);

    ShippedParams params;
    StringInfoData tail;
    initStringInfo(&tail);
    if (plan->operation == CMD_UPDATE) {
        plan->command = "UPDATE ";
        List *assigned = append_assignments(root, relation, &tail, plan, &params);
        build_apply_sql(relation, assigned, plan);
    } else {
        plan->command = "DELETE FROM ";
        appendStringInfoString(&tail, " AS t");
        build_apply_sql(relation, NIL, plan);
    }
    append_filter(root, quals, &tail, &params);
    append_returning(&tail, relation, plan);
    plan->tail = tail.data;
    plan->params = params.exprs;
}

List *stored_columns(Relation relation) {
    List *stored = NIL;
    TupleDesc columns = RelationGetDescr(relation);
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        if (!column->attisdropped && column->attgenerated == '\0')
            stored = lappend_int(stored, column->attnum);
    }
    return stored;
}

char *insert_rows_tail(Relation relation, List *columns) {
    StringInfoData many;
    initStringInfo(&many);
    append_columns(&many, relation, columns);
    append_many_rows(&many, relation, columns);
    return many.data;
}

void build_insert_sql(PlannerInfo *root, Relation relation, ModifyPlan *plan) {
    plan->sent = stored_columns(relation);
    StringInfoData one;
    StringInfoData many;
    initStringInfo(&one);
    append_columns(&one, relation, plan->sent);
    append_one_row(&one, relation, plan->sent);
    initStringInfo(&many);
    appendStringInfoString(&many, insert_rows_tail(relation, plan->sent));

    // The row's values come first among the parameters.
    StringInfoData end;
    initStringInfo(&end);
    ShippedParams params;
    for (int i = 0; i < list_length(plan->sent); i++)
        params.exprs = lappend(params.exprs, placeholder(i));
    append_on_conflict(root, relation, finds_conflicts(plan), &end, &params);
    plan->params = list_copy_tail(params.exprs, list_length(plan->sent));
    build_apply_sql(relation, plan->sent, plan);
    append_returning(&end, relation, plan);
    appendStringInfoString(&one, end.data);
    appendStringInfoString(&many, end.data);
    plan->command = "INSERT INTO ";
    plan->tail = one.data;
    plan->tail_many = many.data;
}

} // namespace panvel
