#include "coordinator/planner/modify.h"

#include "coordinator/catalog/metadata.h"
#include "coordinator/planner/modify_rows.h"
#include "coordinator/planner/modify_sql.h"
#include "coordinator/planner/row_security.h"
#include "extension/pg/boundary.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/sysattr.h"
#include "access/table.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planner.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

create_upper_paths_hook_type previous_hook = nullptr;

// ------------------------------------------------------------------ the plan in a CustomScan

// custom_private of the CustomScan, in this order; its expressions are in custom_exprs.
enum PrivateField {
    kOperation,
    kCanSetTag,
    kCommand,
    kTail,
    kReturned,
    kNoRows,
    kPruneIsArray,
    kPruneHash,
    kSent,
    kTailMany,
    kOnConflict,
    kImages,
    kApplyCommand,
    kApplyOne,
    kApplyMany,
    kJournalOne,
    kJournalMany,
    kByRows,
    kCtid,
    kXmin,
    kKey,
    kNewKey,
    kFromChild,
    kActions,
    kWhole,
};

Node *string_or_null(const char *text) {
    return text == nullptr ? nullptr : reinterpret_cast<Node *>(makeString(pstrdup(text)));
}

List *private_of(const ModifyPlan *plan) {
    List *fields = NIL;
    fields = lappend(fields, makeInteger(plan->operation));
    fields = lappend(fields, makeInteger(plan->can_set_tag));
    fields = lappend(fields, string_or_null(plan->command));
    fields = lappend(fields, string_or_null(plan->tail));
    fields = lappend(fields, plan->returned);
    fields = lappend(fields, makeInteger(plan->no_rows));
    fields = lappend(fields, makeInteger(plan->prune != nullptr && plan->prune->is_array));
    fields =
        lappend(fields, plan->prune == nullptr ? NIL : list_make1_oid(plan->prune->hash_function));
    fields = lappend(fields, plan->sent);
    fields = lappend(fields, string_or_null(plan->tail_many));
    fields = lappend(fields, makeInteger(plan->on_conflict));
    fields = lappend(fields, plan->images);
    fields = lappend(fields, string_or_null(plan->apply_command));
    fields = lappend(fields, string_or_null(plan->apply_one));
    fields = lappend(fields, string_or_null(plan->apply_many));
    fields = lappend(fields, string_or_null(plan->journal_one));
    fields = lappend(fields, string_or_null(plan->journal_many));
    fields = lappend(fields, makeInteger(plan->by_rows));
    fields = lappend(fields, makeInteger(plan->ctid));
    fields = lappend(fields, makeInteger(plan->xmin));
    fields = lappend(fields, makeInteger(plan->key));
    fields = lappend(fields, makeInteger(plan->new_key));
    fields = lappend(fields, plan->from_child);
    fields = lappend(fields, merge_private(plan));
    fields = lappend(fields, plan->whole);
    return fields;
}

const char *text_of(const void *node) {
    return node == nullptr ? nullptr : strVal(const_cast<void *>(node));
}

// ------------------------------------------------------------------ RETURNING

// What RETURNING uses, as the node's scan tuple; its expressions are evaluated here, over what the
// shards return and, by rows, what the child plan's rows have of other tables.
List *returning_columns(PlannerInfo *root, List *returning) {
    List *columns = NIL;
    Oid relid = planner_rt_fetch(root->parse->resultRelation, root)->relid;
    List *vars = pull_var_clause(reinterpret_cast<Node *>(returning), PVC_INCLUDE_PLACEHOLDERS);
    ListCell *cell;
    foreach (cell, vars) {
        auto *expr = static_cast<Expr *>(lfirst(cell));
        if (tlist_member(expr, columns) != nullptr)
            continue;
        if (IsA(expr, Var) && castNode(Var, expr)->varno == root->parse->resultRelation &&
            castNode(Var, expr)->varattno < 0 &&
            castNode(Var, expr)->varattno != TableOidAttributeNumber)
            refuse_modification(relid, "RETURNING a system column", "Return the primary key.");
        columns = lappend(columns,
                          makeTargetEntry(expr, static_cast<AttrNumber>(list_length(columns) + 1),
                                          nullptr, false));
    }
    return columns;
}

bool is_of_target(PlannerInfo *root, Expr *expr) {
    return IsA(expr, Var) && castNode(Var, expr)->varno == root->parse->resultRelation;
}

// For each of RETURNING's columns, the column of the child plan's rows that it is; 0: the shards'.
List *columns_from_child(PlannerInfo *root, List *scan_columns) {
    List *positions = NIL;
    ListCell *cell;
    foreach (cell, scan_columns) {
        Expr *expr = lfirst_node(TargetEntry, cell)->expr;
        if (is_of_target(root, expr)) {
            positions = lappend_int(positions, 0);
            continue;
        }
        TargetEntry *entry = tlist_member(expr, root->processed_tlist);
        if (entry == nullptr)
            elog(ERROR, "a column of RETURNING is not among the plan's");
        positions = lappend_int(positions, entry->resno);
    }
    return positions;
}

List *add_attribute(List *attributes, AttrNumber attribute) {
    return list_append_unique_int(attributes, attribute);
}

// What the shards have to return for these scan columns.
List *returned_attributes(PlannerInfo *root, Relation relation, List *scan_columns) {
    List *attributes = NIL;
    ListCell *cell;
    foreach (cell, scan_columns) {
        if (!is_of_target(root, lfirst_node(TargetEntry, cell)->expr))
            continue;
        Var *var = castNode(Var, lfirst_node(TargetEntry, cell)->expr);
        if (var->varattno > 0)
            attributes = add_attribute(attributes, var->varattno);
        if (var->varattno != 0)
            continue;
        TupleDesc columns = RelationGetDescr(relation);
        for (int i = 0; i < columns->natts; i++)
            if (!TupleDescAttr(columns, i)->attisdropped)
                attributes = add_attribute(attributes, i + 1);
    }
    // One row of the result for each affected row, also where no column is asked for.
    if (attributes == NIL)
        attributes = list_make1_int(plain_column(relation));
    return attributes;
}

// ------------------------------------------------------------------ paths and plans

// The same of an upsert by rows: columns of the row that was found come from its shard, those of
// EXCLUDED from the child.
void plan_upsert_columns(PlannerInfo *root, Relation relation, List *returning, CustomScan *scan,
                         ModifyPlan *plan) {
    List *columns = returning_columns(root, returning);
    List *vars = upsert_vars(root, relation);
    ListCell *cell;
    foreach (cell, vars) {
        auto *var = static_cast<Expr *>(lfirst(cell));
        if (tlist_member(var, columns) == nullptr)
            columns =
                lappend(columns, makeTargetEntry(static_cast<Expr *>(copyObjectImpl(var)),
                                                 static_cast<AttrNumber>(list_length(columns) + 1),
                                                 nullptr, false));
    }
    foreach (cell, columns) {
        Expr *expr = lfirst_node(TargetEntry, cell)->expr;
        plan->from_child = lappend_int(
            plan->from_child, is_of_target(root, expr) ? 0 : castNode(Var, expr)->varattno);
    }
    scan->custom_scan_tlist = columns;
    plan->returned = returned_attributes(root, relation, columns);
    plan->actions =
        list_make1(plan_upsert(root, relation, returning != NIL ? plan->returned : NIL));
}

void plan_returning(PlannerInfo *root, Relation relation, List *returning, CustomScan *scan,
                    ModifyPlan *plan) {
    if (returning == NIL)
        return;
    scan->custom_scan_tlist = returning_columns(root, returning);
    plan->returned = returned_attributes(root, relation, scan->custom_scan_tlist);
    if (plan->by_rows)
        plan->from_child = columns_from_child(root, scan->custom_scan_tlist);
}

const CustomScanMethods *scan_methods(const ModifyPlan *plan) {
    switch (plan->operation) {
    case CMD_INSERT:
        return finds_conflicts(plan) ? &upsert_rows_scan_methods : &insert_scan_methods;
    case CMD_UPDATE:
        return plan->by_rows ? &update_rows_scan_methods : &update_scan_methods;
    case CMD_MERGE:
        return &merge_scan_methods;
    default:
        return plan->by_rows ? &delete_rows_scan_methods : &delete_scan_methods;
    }
}

void build_sql(PlannerInfo *root, Relation relation, ModifyTablePath *modify, ModifyPlan *plan) {
    if (plan->operation == CMD_INSERT)
        build_insert_sql(root, relation, plan);
    else if (plan->operation == CMD_MERGE)
        build_merge_sql(root, relation, static_cast<List *>(linitial(modify->mergeActionLists)),
                        plan);
    else if (plan->by_rows)
        build_row_sql(root, relation, plan);
    else
        build_update_sql(root, relation, plan);
}

Plan *plan_modify_path(PlannerInfo *root, RelOptInfo *, CustomPath *path, List *, List *,
                       List *custom_plans) {
    return pg::entry([&] {
        ModifyTablePath *modify = linitial_node(ModifyTablePath, path->custom_private);
        Index varno = linitial_int(modify->resultRelations);
        Relation relation = table_open(planner_rt_fetch(varno, root)->relid, NoLock);
        List *returning = modify->returningLists != NIL
                              ? static_cast<List *>(linitial(modify->returningLists))
                              : NIL;
        ModifyPlan plan = {};
        plan.operation = modify->operation;
        plan.can_set_tag = modify->canSetTag;
        plan.by_rows = modify->operation != CMD_INSERT && custom_plans != NIL;
        if (modify->onconflict != nullptr)
            plan.on_conflict = modify->onconflict->action;
        if (custom_plans != NIL)
            apply_tlist_labeling(static_cast<Plan *>(linitial(custom_plans))->targetlist,
                                 root->processed_tlist);

        CustomScan *scan = makeNode(CustomScan);
        scan->flags = path->flags;
        scan->scan.scanrelid = varno;
        scan->custom_plans = custom_plans;
        if (is_upsert_by_rows(root, relation))
            plan_upsert_columns(root, relation, returning, scan, &plan);
        else
            plan_returning(root, relation, returning, scan, &plan);
        scan->methods = scan_methods(&plan);
        build_sql(root, relation, modify, &plan);
        // MERGE's actions are computed over the child plan's rows.
        if (modify->operation == CMD_MERGE)
            scan->custom_scan_tlist = static_cast<List *>(copyObjectImpl(root->processed_tlist));
        scan->scan.plan.targetlist = static_cast<List *>(copyObjectImpl(returning));
        store_modify_plan(scan, &plan);
        // PostgreSQL labels the top plan's columns after this list, which for an ordinary
        // ModifyTable it leaves alone: those columns are RETURNING's.
        root->processed_tlist = returning;
        table_close(relation, NoLock);
        return &scan->scan.plan;
    });
}

const CustomPathMethods insert_path_methods = {"Panvel Insert", plan_modify_path, nullptr};
const CustomPathMethods update_path_methods = {"Panvel Update", plan_modify_path, nullptr};
const CustomPathMethods delete_path_methods = {"Panvel Delete", plan_modify_path, nullptr};
const CustomPathMethods merge_path_methods = {"Panvel Merge", plan_modify_path, nullptr};

// The conditions of policies are the shards' own, for the same role. Those of views are not known
// there, may not be evaluated together with the user's own, and check options need the row as the
// shard stored it.
void require_no_security_conditions(PlannerInfo *root) {
    RangeTblEntry *entry = planner_rt_fetch(root->parse->resultRelation, root);
    const char *hint = "Write to the table itself.";
    if (has_view_checks(root->parse))
        refuse_modification(entry->relid, "writing through a view WITH CHECK OPTION", hint);
    if (has_view_conditions(root->parse, entry))
        refuse_modification(entry->relid, "writing through a security barrier view", hint);
}

Path *replacement_path(PlannerInfo *root, ModifyTablePath *modify) {
    CustomPath *path = makeNode(CustomPath);
    path->path = modify->path;
    path->path.type = T_CustomPath;
    path->path.pathtype = T_CustomScan;
    path->path.pathkeys = NIL;
    path->custom_private = list_make1(modify);
    switch (modify->operation) {
    case CMD_INSERT:
        path->methods = &insert_path_methods;
        path->custom_paths = list_make1(modify->subpath);
        break;
    case CMD_UPDATE:
        path->methods = &update_path_methods;
        break;
    case CMD_DELETE:
        path->methods = &delete_path_methods;
        break;
    default:
        path->methods = &merge_path_methods;
    }
    if (modify->operation != CMD_INSERT && is_by_rows(root))
        path->custom_paths = list_make1(modify->subpath);
    require_no_security_conditions(root);
    return &path->path;
}

void replace_modify_paths(PlannerInfo *root, RelOptInfo *final_rel) {
    if (root->parse->commandType == CMD_SELECT || root->parse->resultRelation == 0)
        return;
    RangeTblEntry *target = planner_rt_fetch(root->parse->resultRelation, root);
    if (find_distributed_table(target->relid) == nullptr)
        return;
    List *paths = NIL;
    ListCell *cell;
    foreach (cell, final_rel->pathlist) {
        Path *path = static_cast<Path *>(lfirst(cell));
        paths = lappend(paths, IsA(path, ModifyTablePath)
                                   ? replacement_path(root, castNode(ModifyTablePath, path))
                                   : path);
    }
    final_rel->pathlist = paths;
}

void modify_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input_rel,
                        RelOptInfo *output_rel, void *extra) {
    if (previous_hook != nullptr)
        previous_hook(root, stage, input_rel, output_rel, extra);
    if (stage == UPPERREL_FINAL)
        pg::entry([&] { replace_modify_paths(root, output_rel); });
}

} // namespace

void refuse_modification(Oid relid, const char *construct, const char *hint) {
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("%s is not supported on distributed table \"%s\"", construct,
                           get_rel_name(relid)),
                    errhint("%s", hint)));
    pg_unreachable();
}

void refuse_key_update(const DistributedTable *table) {
    refuse_modification(
        table->relid,
        psprintf("updating the distribution column \"%s\"",
                 get_attname(table->relid, table->distribution_attribute, false)),
        "The row would move to another shard: delete it and insert it with the new value, in one "
        "transaction.");
}

void store_modify_plan(CustomScan *scan, const ModifyPlan *plan) {
    scan->custom_private = private_of(plan);
    scan->custom_exprs =
        list_make4(plan->params, plan->prune == nullptr ? NIL : list_make1(plan->prune->value),
                   plan->assigned_key, merge_exprs(plan));
}

ModifyPlan *modify_plan_of(CustomScan *scan) {
    List *fields = scan->custom_private;
    ModifyPlan *plan = static_cast<ModifyPlan *>(palloc0(sizeof(ModifyPlan)));
    plan->operation = static_cast<CmdType>(intVal(list_nth(fields, kOperation)));
    plan->can_set_tag = intVal(list_nth(fields, kCanSetTag)) != 0;
    plan->command = text_of(list_nth(fields, kCommand));
    plan->tail = text_of(list_nth(fields, kTail));
    plan->returned = static_cast<List *>(list_nth(fields, kReturned));
    plan->no_rows = intVal(list_nth(fields, kNoRows)) != 0;
    plan->sent = static_cast<List *>(list_nth(fields, kSent));
    plan->tail_many = text_of(list_nth(fields, kTailMany));
    plan->on_conflict = static_cast<OnConflictAction>(intVal(list_nth(fields, kOnConflict)));
    plan->images = static_cast<List *>(list_nth(fields, kImages));
    plan->apply_command = text_of(list_nth(fields, kApplyCommand));
    plan->apply_one = text_of(list_nth(fields, kApplyOne));
    plan->apply_many = text_of(list_nth(fields, kApplyMany));
    plan->journal_one = text_of(list_nth(fields, kJournalOne));
    plan->journal_many = text_of(list_nth(fields, kJournalMany));
    plan->by_rows = intVal(list_nth(fields, kByRows)) != 0;
    plan->ctid = intVal(list_nth(fields, kCtid));
    plan->xmin = intVal(list_nth(fields, kXmin));
    plan->key = intVal(list_nth(fields, kKey));
    plan->new_key = intVal(list_nth(fields, kNewKey));
    plan->from_child = static_cast<List *>(list_nth(fields, kFromChild));
    plan->actions = merge_actions(static_cast<List *>(list_nth(fields, kActions)),
                                  static_cast<List *>(lfourth(scan->custom_exprs)));
    plan->whole = static_cast<List *>(list_nth(fields, kWhole));
    plan->params = static_cast<List *>(linitial(scan->custom_exprs));
    plan->assigned_key = static_cast<Expr *>(lthird(scan->custom_exprs));
    List *prune_value = static_cast<List *>(lsecond(scan->custom_exprs));
    if (prune_value != NIL) {
        plan->prune = static_cast<PruneKey *>(palloc(sizeof(PruneKey)));
        plan->prune->value = static_cast<Expr *>(linitial(prune_value));
        plan->prune->is_array = intVal(list_nth(fields, kPruneIsArray)) != 0;
        plan->prune->hash_function =
            linitial_oid(static_cast<List *>(list_nth(fields, kPruneHash)));
    }
    return plan;
}

void init_modify_planner() {
    RegisterCustomScanMethods(&insert_scan_methods);
    RegisterCustomScanMethods(&insert_select_scan_methods);
    RegisterCustomScanMethods(&upsert_rows_scan_methods);
    RegisterCustomScanMethods(&update_scan_methods);
    RegisterCustomScanMethods(&delete_scan_methods);
    RegisterCustomScanMethods(&update_rows_scan_methods);
    RegisterCustomScanMethods(&delete_rows_scan_methods);
    RegisterCustomScanMethods(&merge_scan_methods);
    previous_hook = create_upper_paths_hook;
    create_upper_paths_hook = modify_upper_paths;
}

} // namespace panvel
