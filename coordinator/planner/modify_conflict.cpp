// ON CONFLICT, which the shard does: its unique constraints are the table's.
#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/modify_sql.h"
#include "extension/pg/compat.h"

extern "C" {
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
        if (entry->resno == get_distributed_table(relid)->distribution_attribute &&
            !keeps_shard(root, relation, expr))
            refuse_key_update(get_distributed_table(relid));
        if (is_followed_key(relation, entry->resno) &&
            !keeps_key(root, relation, expr, entry->resno))
            refuse_modification(relid,
                                psprintf("updating primary key column %s, with a replication "
                                         "factor above 1,",
                                         column_name(relation, entry->resno)),
                                "Delete the row and insert it with the new key, in one "
                                "transaction.");
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

} // namespace

void append_on_conflict(PlannerInfo *root, Relation relation, StringInfo sql,
                        ShippedParams *params) {
    OnConflictExpr *conflict = root->parse->onConflict;
    if (conflict == nullptr)
        return;
    appendStringInfoString(sql, " ON CONFLICT");
    append_arbiter(root, relation, sql);
    if (conflict->action == ONCONFLICT_NOTHING)
        appendStringInfoString(sql, " DO NOTHING");
    else
        append_update(root, relation, sql, params);
}

} // namespace panvel
