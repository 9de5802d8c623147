// ON CONFLICT, which the shard does: its unique constraints are the table's. What it cannot
// evaluate of DO UPDATE is done by rows: the shard finds and locks the rows, the new values are
// computed here.
#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/modify_rows.h"
#include "coordinator/planner/modify_sql.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/sysattr.h"
#include "catalog/heap.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/plancat.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
}

namespace panvel {
namespace {

struct Rows {
    Oid relid;
    Index target;
    Index excluded;
};

// Renumbers columns of EXCLUDED as deparse_shipped() understands them.
Node *excluded_mutator(Node *node, Rows *rows) {
    if (node == nullptr)
        return nullptr;
    if (IsA(node, Var)) {
        Var *var = castNode(Var, copyObjectImpl(node));
        if (var->varno == static_cast<int>(rows->excluded) && var->varlevelsup == 0) {
            if (var->varattno <= 0)
                refuse_modification(rows->relid, "a whole row of EXCLUDED in ON CONFLICT DO UPDATE",
                                    "Name its columns.");
            var->varno = static_cast<int>(rows->target);
            var->varattno += kExcludedColumns;
        }
        return reinterpret_cast<Node *>(var);
    }
    return expression_tree_mutator(node, pg::mutator(excluded_mutator), rows);
}

Expr *with_excluded(PlannerInfo *root, Node *expr) {
    Rows rows = {planner_rt_fetch(root->parse->resultRelation, root)->relid,
                 static_cast<Index>(root->parse->resultRelation),
                 static_cast<Index>(root->parse->onConflict->exclRelIndex)};
    return reinterpret_cast<Expr *>(excluded_mutator(expr, &rows));
}

Node *first_relation_mutator(Node *node, void *context) {
    if (node == nullptr)
        return nullptr;
    if (IsA(node, Var)) {
        Var *var = castNode(Var, copyObjectImpl(node));
        var->varno = 1;
        var->varnosyn = 0;
        var->varattnosyn = 0;
        return reinterpret_cast<Node *>(var);
    }
    return expression_tree_mutator(node, pg::mutator(first_relation_mutator), context);
}

// An expression or predicate as an index of the table has it: constants in place, columns without
// the alias, which is not visible there.
char *index_expression(Relation relation, Node *node) {
    Node *expr = first_relation_mutator(node, nullptr);
    List *context = deparse_context_for("t", RelationGetRelid(relation));
    int guc_level = NewGUCNestLevel();
    set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                      true, 0, false);
    char *text = deparse_expression(expr, context, false, false);
    AtEOXact_GUC(true, guc_level);
    return text;
}

void append_arbiter(PlannerInfo *root, Relation relation, StringInfo sql) {
    OnConflictExpr *conflict = root->parse->onConflict;
    infer_arbiter_indexes(root); // the usual error where there is no such constraint
    if (OidIsValid(conflict->constraint)) {
        appendStringInfo(sql, " ON CONSTRAINT %s",
                         quote_identifier(get_constraint_name(conflict->constraint)));
        return;
    }
    const char *separator = " (";
    ListCell *cell;
    foreach (cell, conflict->arbiterElems) {
        InferenceElem *element = lfirst_node(InferenceElem, cell);
        if (OidIsValid(element->inferopclass))
            refuse_modification(RelationGetRelid(relation), "an operator class in ON CONFLICT",
                                "Name the constraint: ON CONFLICT ON CONSTRAINT.");
        if (IsA(element->expr, Var))
            appendStringInfo(sql, "%s%s", separator,
                             column_name(relation, castNode(Var, element->expr)->varattno));
        else
            appendStringInfo(sql, "%s(%s)", separator, index_expression(relation, element->expr));
        if (OidIsValid(element->infercollid))
            appendStringInfo(sql, " COLLATE %s", generate_collation_name(element->infercollid));
        separator = ", ";
    }
    if (conflict->arbiterElems != NIL)
        appendStringInfoChar(sql, ')');
    if (conflict->arbiterWhere != nullptr) {
        Expr *predicate = make_ands_explicit(reinterpret_cast<List *>(conflict->arbiterWhere));
        appendStringInfo(sql, " WHERE %s",
                         index_expression(relation, reinterpret_cast<Node *>(predicate)));
    }
}

// The rows that conflict have equal keys, the distribution column among them: assigning it its own
// or the excluded value leaves the row in its shard.
bool keeps_shard(PlannerInfo *root, Relation relation, Expr *expr) {
    if (!IsA(expr, Var))
        return false;
    Var *var = castNode(Var, expr);
    AttrNumber attribute =
        get_distributed_table(RelationGetRelid(relation))->distribution_attribute;
    return var->varno == root->parse->resultRelation &&
           (var->varattno == attribute || var->varattno == attribute + kExcludedColumns);
}

// Its own value, or the excluded one where rows conflict by the primary key.
bool keeps_key(PlannerInfo *root, Relation relation, Expr *expr, AttrNumber attribute) {
    if (!IsA(expr, Var))
        return false;
    Var *var = castNode(Var, expr);
    if (var->varno != root->parse->resultRelation)
        return false;
    return var->varattno == attribute ||
           (var->varattno == attribute + kExcludedColumns &&
            list_member_oid(infer_arbiter_indexes(root), RelationGetPrimaryKeyIndex(relation)));
}

// Refuses what would take the row to another shard, or followers to another row.
void check_assignment(PlannerInfo *root, Relation relation, AttrNumber attribute, Expr *expr) {
    const DistributedTable *table = get_distributed_table(RelationGetRelid(relation));
    if (attribute == table->distribution_attribute && !keeps_shard(root, relation, expr))
        refuse_key_update(table);
    if (is_followed_key(relation, attribute) && !keeps_key(root, relation, expr, attribute))
        refuse_modification(table->relid,
                            psprintf("updating primary key column %s, with a replication "
                                     "factor above 1,",
                                     column_name(relation, attribute)),
                            "Delete the row and insert it with the new key, in one "
                            "transaction.");
}

void append_update(PlannerInfo *root, Relation relation, StringInfo sql, ShippedParams *params) {
    OnConflictExpr *conflict = root->parse->onConflict;
    Oid relid = RelationGetRelid(relation);
    const char *separator = " DO UPDATE SET ";
    ListCell *cell;
    foreach (cell, conflict->onConflictSet) {
        TargetEntry *entry = lfirst_node(TargetEntry, cell);
        // SET (a, b) = (SELECT ...) assigns parameters that a hidden column sets.
        if (entry->resjunk && contain_subplans(reinterpret_cast<Node *>(entry->expr)))
            refuse_modification(
                relid, "a subquery that is evaluated for every row in ON CONFLICT DO UPDATE",
                "Read the values first and pass them as parameters.");
        if (entry->resjunk)
            continue;
        Expr *expr =
            without_domain_check(with_excluded(root, reinterpret_cast<Node *>(entry->expr)));
        check_assignment(root, relation, entry->resno, expr);
        appendStringInfo(sql, "%s%s = %s", separator, column_name(relation, entry->resno),
                         ship_or_refuse(root, expr, "ON CONFLICT DO UPDATE", params));
        separator = ", ";
    }
    separator = " WHERE ";
    foreach (cell, reinterpret_cast<List *>(conflict->onConflictWhere)) {
        Expr *expr = with_excluded(root, static_cast<Node *>(lfirst(cell)));
        appendStringInfo(sql, "%s(%s)", separator,
                         ship_or_refuse(root, expr, "WHERE of ON CONFLICT", params));
        separator = " AND ";
    }
}

// ------------------------------------------------------------------ by rows

List *conflict_expressions(const OnConflictExpr *conflict) {
    List *exprs = NIL;
    ListCell *cell;
    foreach (cell, conflict->onConflictSet)
        exprs = lappend(exprs, lfirst_node(TargetEntry, cell)->expr);
    return list_concat(exprs, reinterpret_cast<List *>(conflict->onConflictWhere));
}

// The columns of rows that only the shard has.
bool needs_more_than_columns(PlannerInfo *root, Relation relation, List *exprs) {
    Index excluded = root->parse->onConflict->exclRelIndex;
    bool needs = false;
    ListCell *cell;
    foreach (cell, pull_var_clause(reinterpret_cast<Node *>(exprs), PVC_INCLUDE_PLACEHOLDERS)) {
        auto *var = static_cast<Var *>(lfirst(cell));
        if (!IsA(var, Var))
            return true;
        bool is_excluded = var->varno == static_cast<int>(excluded);
        needs |=
            var->varattno < (is_excluded ? 1 : 0) ||
            (is_excluded &&
             TupleDescAttr(RelationGetDescr(relation), var->varattno - 1)->attgenerated != '\0');
    }
    return needs;
}

bool has_unshippable(PlannerInfo *root) {
    const OnConflictExpr *conflict = root->parse->onConflict;
    ListCell *cell;
    foreach (cell, conflict->onConflictSet)
        if (contain_subplans(reinterpret_cast<Node *>(lfirst_node(TargetEntry, cell)->expr)))
            return true; // also SET (a, b) = (SELECT ...), which assigns parameters
    foreach (cell, conflict_expressions(conflict)) {
        Expr *expr = without_domain_check(with_excluded(root, static_cast<Node *>(lfirst(cell))));
        if (!is_shippable(root->parse->resultRelation, expr))
            return true;
    }
    return false;
}

// A column that is assigned, to itself: the row gets a version of this transaction's, and all else
// stays.
void append_touch(const OnConflictExpr *conflict, Relation relation, StringInfo sql) {
    auto *entry = linitial_node(TargetEntry, conflict->onConflictSet);
    const char *column = column_name(relation, entry->resno);
    appendStringInfo(sql, " DO UPDATE SET %s = t.%s", column, column);
}

} // namespace

bool is_upsert_by_rows(PlannerInfo *root, Relation relation) {
    const OnConflictExpr *conflict = root->parse->onConflict;
    if (root->parse->commandType != CMD_INSERT || conflict == nullptr ||
        conflict->action != ONCONFLICT_UPDATE || root->parse->withCheckOptions != NIL ||
        identity_attributes(relation) == NIL)
        return false;
    return !needs_more_than_columns(root, relation, conflict_expressions(conflict)) &&
           has_unshippable(root);
}

List *upsert_vars(PlannerInfo *root, Relation relation) {
    Index target = root->parse->resultRelation;
    List *vars =
        pull_var_clause(reinterpret_cast<Node *>(conflict_expressions(root->parse->onConflict)), 0);
    ListCell *cell;
    foreach (cell, identity_attributes(relation)) {
        auto attribute = static_cast<AttrNumber>(lfirst_int(cell));
        const FormData_pg_attribute *column =
            attribute < 0 ? SystemAttributeDefinition(attribute)
                          : TupleDescAttr(RelationGetDescr(relation), attribute - 1);
        vars = lappend(vars, makeVar(static_cast<int>(target), attribute, column->atttypid,
                                     column->atttypmod, column->attcollation, 0));
    }
    return vars;
}

RowAction *plan_upsert(PlannerInfo *root, Relation relation, List *returned) {
    const OnConflictExpr *conflict = root->parse->onConflict;
    RowAction *action = palloc0_object(RowAction);
    action->matched = true;
    action->operation = CMD_UPDATE;
    action->command = "UPDATE ";
    action->quals =
        static_cast<List *>(copyObjectImpl(reinterpret_cast<List *>(conflict->onConflictWhere)));
    List *assigned = NIL;
    List *junk = NIL;
    ListCell *cell;
    foreach (cell, conflict->onConflictSet) {
        auto *entry = static_cast<TargetEntry *>(copyObjectImpl(lfirst(cell)));
        List **to = entry->resjunk ? &junk : &action->columns;
        *to = lappend(*to, entry);
        if (entry->resjunk)
            continue;
        check_assignment(
            root, relation, entry->resno,
            without_domain_check(with_excluded(root, reinterpret_cast<Node *>(entry->expr))));
        assigned = lappend_int(assigned, entry->resno);
    }
    List *vars = upsert_vars(root, relation);
    int identity = list_length(identity_attributes(relation));
    for (int i = list_length(vars) - identity; i < list_length(vars); i++)
        action->columns =
            lappend(action->columns,
                    makeTargetEntry(static_cast<Expr *>(list_nth(vars, i)), 0, nullptr, false));
    List *types = NIL;
    foreach (cell, action->columns) {
        types = lappend_oid(
            types, exprType(reinterpret_cast<Node *>(lfirst_node(TargetEntry, cell)->expr)));
        action->sent = lappend_int(action->sent, foreach_current_index(cell) + 1);
    }
    action->columns = list_concat(action->columns, junk);
    foreach (cell, action->columns) {
        lfirst_node(TargetEntry, cell)->resno =
            static_cast<AttrNumber>(foreach_current_index(cell) + 1);
        lfirst_node(TargetEntry, cell)->resjunk = false;
    }
    action->followed = palloc0_object(ModifyPlan);
    action->followed->operation = CMD_UPDATE;
    action->followed->returned = returned;
    build_apply_sql(relation, assigned, action->followed);
    action->tail = update_rows_tail(relation, assigned, types, action->followed);
    return action;
}

void append_on_conflict(PlannerInfo *root, Relation relation, bool by_rows, StringInfo sql,
                        ShippedParams *params) {
    OnConflictExpr *conflict = root->parse->onConflict;
    if (conflict == nullptr)
        return;
    appendStringInfoString(sql, " ON CONFLICT");
    append_arbiter(root, relation, sql);
    if (conflict->action == ONCONFLICT_NOTHING)
        appendStringInfoString(sql, " DO NOTHING");
    else if (by_rows)
        append_touch(conflict, relation, sql);
    else
        append_update(root, relation, sql, params);
}

} // namespace panvel
