#include "coordinator/executor/modify.h"

#include "coordinator/ddl/foreign_keys.h"
#include "coordinator/executor/explain.h"
#include "coordinator/planner/modify_sql.h"
#include "coordinator/replication/in_sync.h"
#include "coordinator/replication/membership.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeSubplan.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "portability/instr_time.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
}

namespace panvel {
namespace {

int64 now_in_microseconds() {
    instr_time now;
    INSTR_TIME_SET_CURRENT(now);
    return static_cast<int64>(INSTR_TIME_GET_MICROSEC(now));
}

// Range table entries of the table in the whole statement.
int references(EState *estate, Oid relid) {
    int count = 0;
    ListCell *cell;
    foreach (cell, estate->es_range_table) {
        RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);
        // ON CONFLICT's EXCLUDED is an entry of the same relation with another kind.
        count += entry->rtekind == RTE_RELATION && entry->relid == relid &&
                 entry->relkind == RELKIND_RELATION;
    }
    return count;
}

// What foreign keys do to rows that refer to one that is deleted, and to one whose key is assigned.
bool carries_deletion_on(Oid trigger_function) {
    return trigger_function == F_RI_FKEY_CASCADE_DEL || trigger_function == F_RI_FKEY_SETNULL_DEL ||
           trigger_function == F_RI_FKEY_SETDEFAULT_DEL;
}

bool carries_update_on(Oid trigger_function) {
    return trigger_function == F_RI_FKEY_CASCADE_UPD || trigger_function == F_RI_FKEY_SETNULL_UPD ||
           trigger_function == F_RI_FKEY_SETDEFAULT_UPD;
}

// Whether columns are assigned to which foreign keys may refer.
bool assigns_key(const ModifyState *state) {
    const ScanState *scan = &state->custom.ss;
    Index target = castNode(CustomScan, scan->ps.plan)->scan.scanrelid;
    Bitmapset *keys = RelationGetIndexAttrBitmap(scan->ss_currentRelation, INDEX_ATTR_BITMAP_KEY);
    bool assigned = bms_overlap(exec_rt_fetch(target, scan->ps.state)->updatedCols, keys);
    bms_free(keys);
    return assigned;
}

bool deletes_rows(const ModifyPlan *plan) {
    ListCell *cell;
    foreach (cell, plan->actions)
        if (static_cast<RowAction *>(lfirst(cell))->operation == CMD_DELETE)
            return true;
    return plan->operation == CMD_DELETE;
}

// Foreign keys may change rows of other tables, of which nothing comes back.
bool may_change_more_tables(const ModifyState *state) {
    const ModifyPlan *plan = state->plan;
    bool deletes = deletes_rows(plan);
    bool updates = plan->operation == CMD_UPDATE || plan->operation == CMD_MERGE ||
                   plan->on_conflict == ONCONFLICT_UPDATE;
    updates = updates && assigns_key(state);
    const TriggerDesc *triggers = state->custom.ss.ss_currentRelation->trigdesc;
    for (int i = 0; triggers != nullptr && i < triggers->numtriggers; i++) {
        Oid function = triggers->triggers[i].tgfoid;
        if ((deletes && carries_deletion_on(function)) || (updates && carries_update_on(function)))
            return true;
    }
    return false;
}

WriteReport::PerNode *report_of(WriteReport *report, int32 node_id) {
    ListCell *cell;
    foreach (cell, report->nodes) {
        auto *node = static_cast<WriteReport::PerNode *>(lfirst(cell));
        if (node->node_id == node_id)
            return node;
    }
    return nullptr;
}

} // namespace

void begin_modify(ModifyState *state) {
    CustomScanState *node = &state->custom;
    EState *estate = node->ss.ps.state;
    state->plan = modify_plan_of(castNode(CustomScan, node->ss.ps.plan));
    Oid relid = RelationGetRelid(node->ss.ss_currentRelation);
    if (get_distributed_table(relid)->is_reference &&
        (estate->es_top_eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0) {
        // Foreign keys carry an update or delete on, and those tables' writers take turns, too.
        List *written = state->plan->operation == CMD_INSERT ? list_make1_oid(relid)
                                                             : reference_tables_written_with(relid);
        ListCell *cell;
        foreach (cell, written)
            lock_reference_table(lfirst_oid(cell));
    }
    state->table = get_distributed_table(relid);
    state->changes_more_tables = may_change_more_tables(state);
    if ((estate->es_top_eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
        state->table = state->changes_more_tables ? exclude_down_nodes(state->table)
                                                  : exclude_lagging(state->table);
    state->followers = {estate->es_query_cxt, node->ss.ss_currentRelation, state->table, NIL, 0};
    state->reads_own_table = references(estate, state->table->relid) > 1;
    const char *hint = "Use separate statements in one transaction.";
    if (state->reads_own_table && estate->es_plannedstmt->hasModifyingCTE)
        refuse_modification(state->table->relid,
                            "using the table twice in a statement with data-modifying WITH", hint);
    if (state->reads_own_table &&
        contain_subplans(reinterpret_cast<Node *>(node->ss.ps.plan->targetlist)))
        refuse_modification(state->table->relid, "a subquery in RETURNING that may read the table",
                            hint);
    state->params = make_param_evaluator(state->plan->params, &node->ss.ps);
    state->binary_results =
        state->plan->images != NIL && images_are_binary(node->ss.ss_currentRelation, state->plan);
    if (!state->plan->can_set_tag)
        estate->es_auxmodifytables = lcons(node, estate->es_auxmodifytables);
}

void evaluate_initplans(ModifyState *state) {
    if (!state->reads_own_table)
        return;
    PlanState *planstate = &state->custom.ss.ps;
    ListCell *cell;
    foreach (cell, planstate->initPlan) {
        SubPlanState *subplan = lfirst_node(SubPlanState, cell);
        if (subplan->subplan->subLinkType == CTE_SUBLINK)
            continue;
        int param = linitial_int(subplan->subplan->setParam);
        if (planstate->state->es_param_exec_vals[param].execPlan != nullptr)
            ExecSetParamPlan(subplan, planstate->ps_ExprContext);
    }
}

bool sends_same_to_followers(const ModifyState *state) {
    return is_replicated(state->table) && state->plan->apply_command == nullptr;
}

void raise_null_key(ModifyState *state) {
    AttrNumber attribute = state->table->distribution_attribute;
    Relation relation = state->custom.ss.ss_currentRelation;
    const char *column = NameStr(TupleDescAttr(RelationGetDescr(relation), attribute - 1)->attname);
    ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
                    errmsg("null value in column \"%s\" of relation \"%s\" violates not-null "
                           "constraint",
                           column, RelationGetRelationName(relation)),
                    errdetail("\"%s\" is the distribution column.", column),
                    errtablecol(relation, attribute)));
    pg_unreachable();
}

namespace {

char *statement_text(const ModifyState *state, const Shard *shard, const char *command,
                     const char *tail) {
    if (state->plan->whole == NIL)
        return psprintf("%s%s%s", command, shard_relation_name(state->table, shard), tail);
    StringInfoData sql;
    initStringInfo(&sql);
    ListCell *cell;
    foreach (cell, state->plan->whole)
        appendStringInfo(&sql, "%s%s", foreach_current_index(cell) > 0 ? shard->schema : "",
                         strVal(lfirst(cell)));
    return sql.data;
}

} // namespace

WriteRequest send_write(ModifyState *state, const Shard *shard, const char *command,
                        const char *tail, const RemoteParams *params) {
    if (is_replicated(state->table) && state->plan->images == NIL)
        refuse_modification(state->table->relid,
                            "this statement, with a replication factor above 1,",
                            "Use INSERT, UPDATE or DELETE of the table alone.");
    note_written(state->table, shard);
    RemoteStatement statement = {};
    char *sql = statement_text(state, shard, command, tail);
    statement.sql = sql;
    statement.params = params;
    statement.effect = Effect::kWrite;
    statement.keep_prepared = true;
    statement.binary_results = state->binary_results;
    statement.shard_id = shard->shard_id;
    WriteRequest request = {nullptr, now_in_microseconds(), NIL, shard, statement};
    auto send = [&](int32 node_id) {
        count_buffers(&state->custom.ss.ps, &state->report.counted, node_id);
        return remote_send(node_id, &statement);
    };
    int32 first = write_node(shard);
    request.request = send(first);
    for (int i = 0; state->table->is_reference && i < shard->placement_count; i++)
        if (shard->placements[i].node_id != first)
            request.copies = lappend(request.copies, send(shard->placements[i].node_id));
    if (!sends_same_to_followers(state))
        pfree(sql);
    return request;
}

namespace {

void count_rows(ModifyState *state, RemoteRequest *request, int64 sent, int64 rows) {
    EState *estate = state->custom.ss.ps.state;
    if (estate->es_instrument == 0)
        return;
    MemoryContext previous = MemoryContextSwitchTo(estate->es_query_cxt);
    int32 node_id = remote_node(request);
    WriteReport::PerNode *node = report_of(&state->report, node_id);
    if (node == nullptr) {
        node = palloc0_object(WriteReport::PerNode);
        node->node_id = node_id;
        node->first_sent = sent;
        state->report.nodes = lappend(state->report.nodes, node);
    }
    node->rows += rows;
    node->first_sent = Min(node->first_sent, sent);
    node->last_done = Max(node->last_done, sent + remote_elapsed(request));
    MemoryContextSwitchTo(previous);
}

void finish_copies(ModifyState *state, WriteRequest *request, int64 rows) {
    ListCell *cell;
    foreach (cell, request->copies) {
        auto *copy = static_cast<RemoteRequest *>(lfirst(cell));
        int64 copied = remote_affected(remote_wait(copy));
        if (copied != rows)
            ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                            errmsg("could not serialize access to reference table \"%s\"",
                                   get_rel_name(state->table->relid)),
                            errdetail("The statement changed " INT64_FORMAT " rows on node \"%s\" "
                                      "and " INT64_FORMAT " on node \"%s\".",
                                      rows, get_node(remote_node(request->request))->name, copied,
                                      get_node(remote_node(copy))->name),
                            errhint("The transaction might succeed if retried.")));
        count_rows(state, copy, request->sent, copied);
        remote_release(copy);
    }
    request->copies = NIL;
}

} // namespace

PGresult *finish_write(ModifyState *state, WriteRequest *request) {
    PGresult *result = remote_wait(request->request);
    int64 rows = remote_affected(result);
    if (state->plan->can_set_tag)
        state->custom.ss.ps.state->es_processed += rows;
    count_rows(state, request->request, request->sent, rows);
    finish_copies(state, request, rows);
    if (!is_replicated(state->table))
        return result;
    state->followers.leader_us = remote_elapsed(request->request);
    if (sends_same_to_followers(state))
        repeat_on_followers(&state->followers, request->shard, &request->statement, rows);
    else
        send_images(&state->followers, state->plan, request->shard, result);
    journal_images(&state->followers, state->plan, request->shard, result);
    if (rows > 0 && state->changes_more_tables)
        journal_unknown(request->shard);
    return result;
}

void finish_all_writes(ModifyState *state) {
    finish_followers(&state->followers);
    auto add = [](PlanState *plan, int32 node_id, const BufferUsage &used) {
        auto *modify = reinterpret_cast<ModifyState *>(plan);
        if (WriteReport::PerNode *node = report_of(&modify->report, node_id))
            add_buffer_usage(&node->buffers, used);
    };
    collect_buffers(&state->custom.ss.ps, &state->report.counted, add);
}

namespace {

// Adds one placement to the reports, whose number it returns.
int report_placement(ModifyState *state, NodeReport *reports, int count, const Shard *shard,
                     int32 node_id, const char *tail) {
    int position = 0;
    while (position < count && reports[position].node_id != node_id)
        position++;
    NodeReport *report = &reports[position];
    report->shard_count++;
    if (position < count)
        return count;
    report->node_id = node_id;
    report->sql = statement_text(state, shard, state->plan->command, tail);
    if (const WriteReport::PerNode *done = report_of(&state->report, node_id)) {
        report->rows = done->rows;
        report->microseconds = done->last_done - done->first_sent;
        report->executions = 1;
        report->buffers = done->buffers;
    }
    return count + 1;
}

} // namespace

void explain_modify(ModifyState *state, ExplainState *es, Bitmapset *shards, const char *tail) {
    const DistributedTable *table = state->table;
    int size = table->is_reference ? table->shards[0].placement_count : table->shard_count;
    auto *reports = palloc0_array(NodeReport, size);
    int count = 0;
    int index = -1;
    while ((index = bms_next_member(shards, index)) >= 0) {
        const Shard *shard = &table->shards[index];
        int written = table->is_reference ? shard->placement_count : 1;
        for (int i = 0; i < written; i++)
            count =
                report_placement(state, reports, count, shard, shard->placements[i].node_id, tail);
    }
    explain_nodes(es, reports, count, size);
}

Bitmapset *all_shards(const ModifyState *state) {
    return bms_add_range(nullptr, 0, state->table->shard_count - 1);
}

void explain_write(CustomScanState *node, List *, ExplainState *es) {
    pg::entry([&] {
        auto *state = reinterpret_cast<ModifyState *>(node);
        explain_modify(state, es, all_shards(state), state->plan->tail);
    });
}

void rescan_write(CustomScanState *) {
    pg::entry([] { elog(ERROR, "a data-modifying plan cannot be executed again"); });
}

} // namespace panvel
