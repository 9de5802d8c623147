// MERGE: PostgreSQL's plan joins the source with the table; its rows go through the actions here.
#include "coordinator/planner/modify_rows.h"
#include "coordinator/planner/modify_sql.h"

extern "C" {
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
}

namespace panvel {
namespace {

enum ActionField {
    kMatched,
    kOperation,
    kCommand,
    kTail,
    kSent,
    kKey,
    kImages,
    kApplyCommand,
    kApplyOne,
    kApplyMany,
    kJournalOne,
    kJournalMany
};

List *column_types(List *columns) {
    List *types = NIL;
    ListCell *cell;
    foreach (cell, columns)
        types = lappend_oid(
            types, exprType(reinterpret_cast<Node *>(lfirst_node(TargetEntry, cell)->expr)));
    return types;
}

// The action's new values, as far as they are assigned.
List *new_values(const MergeAction *from) {
    List *values = NIL;
    ListCell *cell;
    foreach (cell, from->targetList)
        if (!lfirst_node(TargetEntry, cell)->resjunk)
            values = lappend(values, copyObjectImpl(lfirst(cell)));
    return values;
}

List *with_identity(PlannerInfo *root, Relation relation, List *columns) {
    ListCell *cell;
    foreach (cell, row_identity(root, relation)) {
        auto *entry =
            static_cast<TargetEntry *>(list_nth(root->processed_tlist, lfirst_int(cell) - 1));
        columns = lappend(columns, makeTargetEntry(static_cast<Expr *>(copyObjectImpl(entry->expr)),
                                                   0, nullptr, false));
    }
    return columns;
}

void renumber(List *columns) {
    ListCell *cell;
    foreach (cell, columns)
        lfirst_node(TargetEntry, cell)->resno =
            static_cast<AttrNumber>(foreach_current_index(cell) + 1);
}

List *all_of(List *columns) {
    List *positions = NIL;
    for (int i = 1; i <= list_length(columns); i++)
        positions = lappend_int(positions, i);
    return positions;
}

void plan_insert(Relation relation, RowAction *action) {
    const DistributedTable *table = get_distributed_table(RelationGetRelid(relation));
    action->command = "INSERT INTO ";
    action->sent = stored_columns(relation);
    // Images of the new rows: batches of parameters are not kept until the leaders are done.
    action->followed->on_conflict = ONCONFLICT_NOTHING;
    build_apply_sql(relation, action->sent, action->followed);
    StringInfoData tail;
    initStringInfo(&tail);
    appendStringInfoString(&tail, insert_rows_tail(relation, action->sent));
    append_row_returning(&tail, relation, action->followed);
    action->tail = tail.data;
    action->key = table->is_reference ? 0 : table->distribution_attribute;
}

void plan_update(PlannerInfo *root, Relation relation, List *assigned, RowAction *action) {
    action->columns = with_identity(root, relation, action->columns);
    action->command = "UPDATE ";
    action->sent = all_of(action->columns);
    build_apply_sql(relation, assigned, action->followed);
    action->tail =
        update_rows_tail(relation, assigned, column_types(action->columns), action->followed);
    action->key = assigned_key(relation, assigned);
}

void plan_delete(PlannerInfo *root, Relation relation, RowAction *action) {
    action->columns = with_identity(root, relation, NIL);
    action->command = "DELETE FROM ";
    action->sent = all_of(action->columns);
    build_apply_sql(relation, NIL, action->followed);
    action->tail = delete_rows_tail(relation, column_types(action->columns), action->followed);
}

RowAction *plan_action(PlannerInfo *root, Relation relation, const MergeAction *from) {
    RowAction *action = palloc0_object(RowAction);
    action->matched = from->matched;
    action->operation = from->commandType;
    action->quals = static_cast<List *>(copyObjectImpl(from->qual));
    action->columns = new_values(from);
    action->followed = palloc0_object(ModifyPlan);
    action->followed->operation = from->commandType;
    if (from->commandType == CMD_INSERT)
        plan_insert(relation, action);
    else if (from->commandType == CMD_UPDATE)
        plan_update(root, relation, from->updateColnos, action);
    else if (from->commandType == CMD_DELETE)
        plan_delete(root, relation, action);
    renumber(action->columns);
    return action;
}

Node *text_node(const char *text) {
    return reinterpret_cast<Node *>(makeString(pstrdup(text != nullptr ? text : "")));
}

} // namespace

void build_merge_sql(PlannerInfo *root, Relation relation, List *actions, ModifyPlan *plan) {
    find_row_identity(root, relation, plan);
    plan->command = plan->tail = "";
    ListCell *cell;
    foreach (cell, actions) {
        RowAction *action = plan_action(root, relation, lfirst_node(MergeAction, cell));
        plan->actions = lappend(plan->actions, action);
        if (action->command != nullptr && plan->command[0] == '\0') { // for EXPLAIN
            plan->command = action->command;
            plan->tail = action->tail;
        }
    }
}

List *merge_private(const ModifyPlan *plan) {
    List *actions = NIL;
    ListCell *cell;
    foreach (cell, plan->actions) {
        auto *action = static_cast<const RowAction *>(lfirst(cell));
        List *fields =
            list_make5(makeInteger(action->matched), makeInteger(action->operation),
                       text_node(action->command), text_node(action->tail), action->sent);
        const ModifyPlan *followed = action->followed;
        fields = lappend(lappend(fields, makeInteger(action->key)), followed->images);
        for (const char *text : {followed->apply_command, followed->apply_one, followed->apply_many,
                                 followed->journal_one, followed->journal_many})
            fields = lappend(fields, text_node(text));
        actions = lappend(actions, fields);
    }
    return actions;
}

List *merge_exprs(const ModifyPlan *plan) {
    List *exprs = NIL;
    ListCell *cell;
    foreach (cell, plan->actions) {
        auto *action = static_cast<const RowAction *>(lfirst(cell));
        exprs = lappend(exprs, list_make2(action->quals, action->columns));
    }
    return exprs;
}

namespace {

// Null where nothing was there.
const char *text_of(List *fields, ActionField field) {
    const char *text = strVal(list_nth(fields, field));
    return *text != '\0' ? text : nullptr;
}

ModifyPlan *followed_part(List *fields, CmdType operation) {
    ModifyPlan *followed = palloc0_object(ModifyPlan);
    followed->operation = operation;
    followed->images = static_cast<List *>(list_nth(fields, kImages));
    followed->apply_command = text_of(fields, kApplyCommand);
    followed->apply_one = text_of(fields, kApplyOne);
    followed->apply_many = text_of(fields, kApplyMany);
    followed->journal_one = text_of(fields, kJournalOne);
    followed->journal_many = text_of(fields, kJournalMany);
    return followed;
}

} // namespace

List *merge_actions(List *fields, List *exprs) {
    List *actions = NIL;
    ListCell *cell;
    foreach (cell, fields) {
        auto *from = static_cast<List *>(lfirst(cell));
        auto *parts = static_cast<List *>(list_nth(exprs, foreach_current_index(cell)));
        RowAction *action = palloc0_object(RowAction);
        action->matched = intVal(list_nth(from, kMatched)) != 0;
        action->operation = static_cast<CmdType>(intVal(list_nth(from, kOperation)));
        action->command = strVal(list_nth(from, kCommand));
        action->tail = strVal(list_nth(from, kTail));
        action->sent = static_cast<List *>(list_nth(from, kSent));
        action->key = intVal(list_nth(from, kKey));
        action->followed = followed_part(from, action->operation);
        action->quals = static_cast<List *>(linitial(parts));
        action->columns = static_cast<List *>(lsecond(parts));
        actions = lappend(actions, action);
    }
    return actions;
}

} // namespace panvel
