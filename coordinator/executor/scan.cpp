// The executor of a distributed scan: one query to every node that holds shards of interest, all
// at the same time; rows come back as they arrive, or merged in order.
#include "coordinator/planner/scan.h"

#include "coordinator/catalog/metadata.h"
#include "coordinator/executor/explain.h"
#include "coordinator/executor/node_rows.h"
#include "coordinator/executor/prune.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/htup_details.h"
#include "common/int.h"
#include "executor/executor.h"
#include "lib/binaryheap.h"
#include "nodes/extensible.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/sortsupport.h"
}

namespace panvel {
namespace {

// A result of at most this many rows is fetched by one statement, without a cursor.
constexpr int64 kMaxBoundedRows = 10000;
// Rows per FETCH: as many as come to about this many bytes.
constexpr double kBatchBytes = 1 << 20;
constexpr int kMinBatchRows = 50;
constexpr int kMaxBatchRows = 10000;

// One node's rows and, in an ordered scan, its current row.
struct NodeStream {
    NodeRows rows;
    Datum *values;
    bool *isnull;
    bool done;
};

struct DistributedScanState {
    CustomScanState css;
    ScanPlan *plan;
    const DistributedTable *table;

    ParamEvaluator *params;
    RemoteParams *remote_params; // of this execution
    PruneEvaluator *prune;
    ExprState *limit_count;
    ExprState *limit_offset;

    RowDecoder *decoder;
    int remote_columns;

    bool started;
    MemoryContext run_context; // one execution; reset by a rescan
    int stream_count;
    NodeStream *streams;

    bool in_turn;  // one stream after the other, each for what is left of the limit
    List *waiting; // NodeShards *: not started yet
    int64 rows_left;

    int sort_key_count;
    SortSupport sort_keys;
    int *sort_columns; // index among the remote columns
    binaryheap *merge; // indexes into streams, the stream with the first row on top
    int last_stream;   // whose row was handed out last, to be advanced; -1 none

    List *reports; // of NodeReport *
    ItemPointerData row_identifier;
};

DistributedScanState *state_of(CustomScanState *node) {
    return reinterpret_cast<DistributedScanState *>(node);
}

bool locks_rows(const DistributedScanState *state) {
    return state->plan->lock[0] != '\0';
}

// ------------------------------------------------------------------------- statements

// The SELECT of a join for one shard.
void append_join(StringInfo sql, DistributedScanState *state, const Shard *shard) {
    ListCell *cell;
    foreach (cell, state->plan->join)
        appendStringInfo(sql, "%s%s", foreach_current_index(cell) > 0 ? shard->schema : "",
                         strVal(lfirst(cell)));
}

// "(SELECT columns FROM shard UNION ALL ...) t", or the shard's table itself when it is one.
void append_source(StringInfo sql, DistributedScanState *state, Bitmapset *shards) {
    const DistributedTable *table = state->table;
    int shard = -1;
    if (state->plan->join == NIL && bms_membership(shards) == BMS_SINGLETON) {
        shard = bms_singleton_member(shards);
        appendStringInfo(sql, "%s t", shard_relation_name(table, &table->shards[shard]));
        return;
    }
    const char *separator = "(";
    while ((shard = bms_next_member(shards, shard)) >= 0) {
        appendStringInfoString(sql, separator);
        if (state->plan->join != NIL)
            append_join(sql, state, &table->shards[shard]);
        else
            appendStringInfo(sql, "SELECT %s FROM %s", state->plan->columns,
                             shard_relation_name(table, &table->shards[shard]));
        separator = " UNION ALL ";
    }
    appendStringInfoString(sql, ") t");
}

// `limit` < 0: none.
char *make_sql(DistributedScanState *state, Bitmapset *shards, int64 limit) {
    const ScanPlan *plan = state->plan;
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, "SELECT %s FROM ", plan->select_list);
    append_source(&sql, state, shards);
    if (plan->where[0] != '\0')
        appendStringInfo(&sql, " WHERE %s", plan->where);
    if (plan->group_by[0] != '\0')
        appendStringInfo(&sql, " GROUP BY %s", plan->group_by);
    if (plan->order_by[0] != '\0')
        appendStringInfo(&sql, " ORDER BY %s", plan->order_by);
    if (limit >= 0)
        appendStringInfo(&sql, " LIMIT " INT64_FORMAT, limit);
    if (plan->lock[0] != '\0')
        appendStringInfo(&sql, " %s", plan->lock);
    return sql.data;
}

// LIMIT + OFFSET, or -1 for no limit. What is wrong with them the Limit node above reports.
int64 evaluate_limit(DistributedScanState *state, ExprContext *context) {
    if (state->limit_count == nullptr)
        return -1;
    bool isnull;
    int64 count = DatumGetInt64(ExecEvalExpr(state->limit_count, context, &isnull));
    if (isnull || count < 0)
        return -1;
    int64 offset = 0;
    if (state->limit_offset != nullptr) {
        offset = DatumGetInt64(ExecEvalExpr(state->limit_offset, context, &isnull));
        if (isnull || offset < 0)
            offset = 0;
    }
    int64 sum;
    return pg_add_s64_overflow(count, offset, &sum) ? -1 : sum;
}

// Shards by the node that answers for them: List of the node's id and Bitmapset of its shards.
struct NodeShards {
    int32 node_id;
    Bitmapset *shards;
};

// Rows of a UNION cannot be locked, and are locked where they are written: then one group a shard.
List *group_by_node(DistributedScanState *state, Bitmapset *shards) {
    List *groups = NIL;
    int shard = -1;
    while ((shard = bms_next_member(shards, shard)) >= 0) {
        const Shard *read = &state->table->shards[shard];
        int32 node_id = locks_rows(state) ? write_node(read) : read_node(read);
        NodeShards *group = nullptr;
        ListCell *cell;
        foreach (cell, locks_rows(state) ? NIL : groups)
            if (static_cast<NodeShards *>(lfirst(cell))->node_id == node_id)
                group = static_cast<NodeShards *>(lfirst(cell));
        if (group == nullptr) {
            group = static_cast<NodeShards *>(palloc(sizeof(NodeShards)));
            *group = {node_id, nullptr};
            groups = lappend(groups, group);
        }
        group->shards = bms_add_member(group->shards, shard);
    }
    return groups;
}

// ------------------------------------------------------------------------- reports

NodeReport *report_of(DistributedScanState *state, int32 node_id) {
    ListCell *cell;
    foreach (cell, state->reports) {
        auto *report = static_cast<NodeReport *>(lfirst(cell));
        if (report->node_id == node_id)
            return report;
    }
    MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);
    auto *report = static_cast<NodeReport *>(palloc0(sizeof(NodeReport)));
    report->node_id = node_id;
    state->reports = lappend(state->reports, report);
    MemoryContextSwitchTo(old);
    return report;
}

void report_statement(DistributedScanState *state, int32 node_id, Bitmapset *shards,
                      const char *sql) {
    NodeReport *report = report_of(state, node_id);
    MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);
    if (locks_rows(state)) {
        report->shards = bms_add_members(report->shards, shards);
        shards = report->shards;
    }
    report->shard_count = std::max(report->shard_count, bms_num_members(shards));
    if (report->sql == nullptr)
        report->sql = pstrdup(sql);
    MemoryContextSwitchTo(old);
}

void collect_reports(DistributedScanState *state) {
    for (int i = 0; i < state->stream_count; i++) {
        NodeRows *rows = &state->streams[i].rows;
        NodeReport *report = report_of(state, rows->node_id);
        report->rows += rows->rows_received;
        report->microseconds += rows->microseconds;
        bool counted = false; // another shard of the node
        for (int j = 0; j < i; j++)
            counted |= state->streams[j].rows.node_id == rows->node_id;
        report->executions += !counted;
        rows->rows_received = rows->microseconds = 0;
    }
}

// ------------------------------------------------------------------------- start and stop

int batch_rows(DistributedScanState *state) {
    double width = std::max(16, state->css.ss.ps.plan->plan_width);
    return static_cast<int>(
        std::clamp(kBatchBytes / width, double{kMinBatchRows}, double{kMaxBatchRows}));
}

void init_stream(DistributedScanState *state, NodeStream *stream, const NodeShards *group,
                 const RemoteParams *params, int64 limit) {
    NodeRows *rows = &stream->rows;
    rows->node_id = group->node_id;
    rows->sql = make_sql(state, group->shards, limit);
    int only;
    if (bms_get_singleton_member(group->shards, &only))
        rows->shard_id = state->table->shards[only].shard_id;
    rows->params = params;
    rows->decoder = state->decoder;
    rows->locks = locks_rows(state);
    rows->bounded = state->plan->small_result || (limit >= 0 && limit <= kMaxBoundedRows);
    rows->batch_rows = batch_rows(state);
    rows->context = state->run_context;
    rows->row_context =
        AllocSetContextCreate(state->run_context, "panvel row", ALLOCSET_SMALL_SIZES);
    int columns = std::max(1, state->remote_columns);
    stream->values = static_cast<Datum *>(palloc0(sizeof(Datum) * columns));
    stream->isnull = static_cast<bool *>(palloc0(sizeof(bool) * columns));
    report_statement(state, group->node_id, group->shards, rows->sql);
}

void start_stream(DistributedScanState *state, const NodeShards *group, int64 limit) {
    NodeStream *stream = &state->streams[state->stream_count];
    init_stream(state, stream, group, state->remote_params, limit);
    start_node_rows(&stream->rows);
    state->stream_count++;
}

// A LIMIT without an order is taken from one shard after the other, so that no shard locks rows
// that are not returned.
bool locks_in_turn(const DistributedScanState *state, int64 limit) {
    return locks_rows(state) && limit >= 0 && state->sort_key_count == 0;
}

void start_streams(DistributedScanState *state) {
    ExprContext *context = state->css.ss.ps.ps_ExprContext;
    MemoryContext old = MemoryContextSwitchTo(state->run_context);
    Bitmapset *shards = evaluate_prune(state->prune, state->table, context);
    List *groups = group_by_node(state, shards);
    state->remote_params = groups != NIL ? evaluate_params(state->params, context) : nullptr;
    int64 limit = evaluate_limit(state, context);
    state->waiting = NIL;
    state->in_turn = locks_in_turn(state, limit);
    if (state->in_turn) {
        state->waiting = groups;
        state->rows_left = limit;
        groups = NIL;
    }

    state->streams =
        palloc0_array(NodeStream, 1 + list_length(groups) + list_length(state->waiting));
    state->stream_count = 0;
    ListCell *cell;
    foreach (cell, groups)
        start_stream(state, static_cast<NodeShards *>(lfirst(cell)), limit);
    state->merge = nullptr;
    state->last_stream = -1;
    state->started = true;
    MemoryContextSwitchTo(old);
}

void stop_streams(DistributedScanState *state) {
    if (!state->started)
        return;
    collect_reports(state);
    for (int i = 0; i < state->stream_count; i++)
        stop_node_rows(&state->streams[i].rows);
    state->started = false;
    state->stream_count = 0;
    state->waiting = NIL;
    MemoryContextReset(state->run_context);
}

bool advance(NodeStream *stream) {
    stream->done = !next_node_row(&stream->rows, stream->values, stream->isnull);
    return !stream->done;
}

// ------------------------------------------------------------------------- unordered

// The next stream with a row, whichever node was first; null at the end.
NodeStream *next_unordered(DistributedScanState *state) {
    if (state->stream_count == 1) { // there is nobody else to look at: wait, without a look before
        NodeStream *stream = &state->streams[0];
        CHECK_FOR_INTERRUPTS();
        return !stream->done && advance(stream) ? stream : nullptr;
    }
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        int open = 0;
        // Stay with one node while its rows are here.
        int first = std::max(0, state->last_stream);
        for (int i = 0; i < state->stream_count; i++) {
            int index = (first + i) % state->stream_count;
            NodeStream *stream = &state->streams[index];
            if (stream->done)
                continue;
            if (node_row_ready(&stream->rows)) {
                state->last_stream = index;
                if (advance(stream))
                    return stream;
                continue;
            }
            open++;
        }
        if (open == 0)
            return nullptr;
        auto **requests =
            static_cast<RemoteRequest **>(palloc(sizeof(RemoteRequest *) * state->stream_count));
        for (int i = 0; i < state->stream_count; i++)
            requests[i] =
                state->streams[i].done ? nullptr : awaited_request(&state->streams[i].rows);
        remote_wait_any(requests, state->stream_count);
        pfree(requests);
    }
}

// The next row of the shards in turn; null at the end.
NodeStream *next_in_turn(DistributedScanState *state) {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        if (state->rows_left == 0)
            return nullptr;
        if (state->stream_count > 0) {
            NodeStream *stream = &state->streams[state->stream_count - 1];
            if (!stream->done && advance(stream)) {
                state->rows_left--;
                return stream;
            }
        }
        if (state->waiting == NIL)
            return nullptr;
        MemoryContext old = MemoryContextSwitchTo(state->run_context);
        start_stream(state, static_cast<NodeShards *>(linitial(state->waiting)), state->rows_left);
        state->waiting = list_delete_first(state->waiting);
        MemoryContextSwitchTo(old);
    }
}

// ------------------------------------------------------------------------- ordered

int compare_streams(Datum left, Datum right, void *argument) {
    auto *state = static_cast<DistributedScanState *>(argument);
    const NodeStream *a = &state->streams[DatumGetInt32(left)];
    const NodeStream *b = &state->streams[DatumGetInt32(right)];
    for (int i = 0; i < state->sort_key_count; i++) {
        int column = state->sort_columns[i];
        int order = ApplySortComparator(a->values[column], a->isnull[column], b->values[column],
                                        b->isnull[column], &state->sort_keys[i]);
        if (order != 0)
            return order < 0 ? 1 : -1; // the heap has its largest on top
    }
    return 0;
}

NodeStream *next_ordered(DistributedScanState *state) {
    if (state->merge == nullptr) {
        MemoryContext old = MemoryContextSwitchTo(state->run_context);
        state->merge =
            binaryheap_allocate(std::max(1, state->stream_count), compare_streams, state);
        MemoryContextSwitchTo(old);
        for (int i = 0; i < state->stream_count; i++)
            if (advance(&state->streams[i]))
                binaryheap_add_unordered(state->merge, Int32GetDatum(i));
        binaryheap_build(state->merge);
    } else if (state->last_stream >= 0) {
        // Only now is the row that was handed out last no longer needed.
        if (advance(&state->streams[state->last_stream]))
            binaryheap_replace_first(state->merge, Int32GetDatum(state->last_stream));
        else
            binaryheap_remove_first(state->merge);
    }
    CHECK_FOR_INTERRUPTS();
    if (binaryheap_empty(state->merge)) {
        state->last_stream = -1;
        return nullptr;
    }
    state->last_stream = DatumGetInt32(binaryheap_first(state->merge));
    return &state->streams[state->last_stream];
}

// ------------------------------------------------------------------------- tuples

// The whole row as a value of the table's row type, from the columns in the slot.
Datum make_whole_row(DistributedScanState *state, TupleTableSlot *slot) {
    Relation relation = state->css.ss.ss_currentRelation;
    TupleDesc columns = RelationGetDescr(relation);
    auto *values = static_cast<Datum *>(palloc0(sizeof(Datum) * columns->natts));
    auto *isnull = static_cast<bool *>(palloc(sizeof(bool) * columns->natts));
    memset(isnull, true, columns->natts);
    int position = 0;
    ListCell *cell;
    foreach (cell, castNode(CustomScan, state->css.ss.ps.plan)->custom_scan_tlist) {
        Expr *expr = lfirst_node(TargetEntry, cell)->expr;
        if (IsA(expr, Var) && reinterpret_cast<Var *>(expr)->varattno > 0) {
            int column = reinterpret_cast<Var *>(expr)->varattno - 1;
            values[column] = slot->tts_values[position];
            isnull[column] = slot->tts_isnull[position];
        }
        position++;
    }
    return heap_copy_tuple_as_datum(heap_form_tuple(columns, values, isnull), columns);
}

TupleTableSlot *fill_slot(DistributedScanState *state, const NodeStream *stream) {
    TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
    ExecClearTuple(slot);
    int remote = 0;
    int position = 0;
    bool whole_row = false;
    ListCell *cell;
    foreach (cell, state->plan->sources) {
        slot->tts_isnull[position] = false;
        switch (static_cast<ColumnSource>(lfirst_int(cell))) {
        case ColumnSource::kRemote:
            slot->tts_values[position] = stream->values[remote];
            slot->tts_isnull[position] = stream->isnull[remote];
            remote++;
            break;
        case ColumnSource::kTableOid:
            slot->tts_values[position] = ObjectIdGetDatum(state->table->relid);
            break;
        case ColumnSource::kRowIdentifier:
            slot->tts_values[position] = PointerGetDatum(&state->row_identifier);
            break;
        case ColumnSource::kWholeRow:
            whole_row = true;
            break;
        }
        position++;
    }
    if (whole_row) {
        MemoryContext old =
            MemoryContextSwitchTo(state->css.ss.ps.ps_ExprContext->ecxt_per_tuple_memory);
        Datum row = make_whole_row(state, slot);
        MemoryContextSwitchTo(old);
        position = 0;
        foreach (cell, state->plan->sources) {
            if (static_cast<ColumnSource>(lfirst_int(cell)) == ColumnSource::kWholeRow)
                slot->tts_values[position] = row;
            position++;
        }
    }
    return ExecStoreVirtualTuple(slot);
}

TupleTableSlot *access_next(ScanState *scan) {
    auto *state = reinterpret_cast<DistributedScanState *>(scan);
    if (!state->started)
        start_streams(state);
    NodeStream *stream = state->in_turn              ? next_in_turn(state)
                         : state->sort_key_count > 0 ? next_ordered(state)
                                                     : next_unordered(state);
    return stream != nullptr ? fill_slot(state, stream) : ExecClearTuple(scan->ss_ScanTupleSlot);
}

bool recheck(ScanState *, TupleTableSlot *) {
    return true;
}

// ------------------------------------------------------------------------- callbacks

// The types of the columns that come from the nodes, in order.
RowDecoder *make_decoder(DistributedScanState *state) {
    TupleDesc scan = state->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor;
    int count = 0;
    ListCell *cell;
    foreach (cell, state->plan->sources)
        count += static_cast<ColumnSource>(lfirst_int(cell)) == ColumnSource::kRemote;
    TupleDesc remote = CreateTemplateTupleDesc(count);
    int position = 0;
    count = 0;
    foreach (cell, state->plan->sources) {
        Form_pg_attribute attribute = TupleDescAttr(scan, position++);
        if (static_cast<ColumnSource>(lfirst_int(cell)) == ColumnSource::kRemote)
            TupleDescInitEntry(remote, static_cast<AttrNumber>(++count), nullptr,
                               attribute->atttypid, attribute->atttypmod, 0);
    }
    state->remote_columns = count;
    return make_row_decoder(remote);
}

// Sort keys name entries of the scan tuple; the merge compares remote columns.
void init_merge(DistributedScanState *state) {
    const ScanPlan *plan = state->plan;
    int count = list_length(plan->sort_columns);
    state->sort_key_count = count;
    if (count == 0)
        return;
    state->sort_keys = static_cast<SortSupport>(palloc0(sizeof(SortSupportData) * count));
    state->sort_columns = static_cast<int *>(palloc(sizeof(int) * count));
    for (int i = 0; i < count; i++) {
        int entry = list_nth_int(plan->sort_columns, i) - 1;
        int remote = 0;
        for (int j = 0; j < entry; j++)
            remote +=
                static_cast<ColumnSource>(list_nth_int(plan->sources, j)) == ColumnSource::kRemote;
        state->sort_columns[i] = remote;
        SortSupport key = &state->sort_keys[i];
        key->ssup_cxt = CurrentMemoryContext;
        key->ssup_collation = list_nth_oid(plan->sort_collations, i);
        key->ssup_nulls_first = list_nth_int(plan->sort_nulls_first, i) != 0;
        key->ssup_attno = static_cast<AttrNumber>(entry + 1);
        PrepareSortSupportFromOrderingOp(list_nth_oid(plan->sort_operators, i), key);
    }
}

void begin_scan(CustomScanState *node, EState *estate, int) {
    auto *state = state_of(node);
    PlanState *parent = &node->ss.ps;
    ScanPlan *plan = state->plan;
    state->table = get_distributed_table(plan->relid);
    state->params = make_param_evaluator(plan->params, parent);
    state->prune = make_prune_evaluator(plan->prune_key, parent);
    state->limit_count = ExecInitExpr(reinterpret_cast<Expr *>(plan->limit_count), parent);
    state->limit_offset = ExecInitExpr(reinterpret_cast<Expr *>(plan->limit_offset), parent);
    state->decoder = make_decoder(state);
    state->run_context =
        AllocSetContextCreate(estate->es_query_cxt, "panvel scan", ALLOCSET_DEFAULT_SIZES);
    state->last_stream = -1;
    ItemPointerSet(&state->row_identifier, 0, 1);
    init_merge(state);
}

// A join is no scan of a relation: ExecScan() would take it for one to be rechecked where it is
// executed in a subquery of a recheck (EvalPlanQual). It has no conditions of its own.
TupleTableSlot *exec_join(DistributedScanState *state) {
    ScanState *scan = &state->css.ss;
    ExprContext *context = scan->ps.ps_ExprContext;
    ResetExprContext(context);
    TupleTableSlot *slot = access_next(scan);
    if (TupIsNull(slot) || scan->ps.ps_ProjInfo == nullptr)
        return slot;
    context->ecxt_scantuple = slot;
    return ExecProject(scan->ps.ps_ProjInfo);
}

TupleTableSlot *exec_scan(CustomScanState *node) {
    if (state_of(node)->plan->join != NIL)
        return exec_join(state_of(node));
    return ExecScan(&node->ss, access_next, recheck);
}

void rescan(CustomScanState *node) {
    stop_streams(state_of(node));
    ExecScanReScan(&node->ss);
}

// Before execution: the statements as far as they are known without evaluating parameters of the
// plan itself.
void report_planned(DistributedScanState *state, ExprContext *context) {
    auto is_known = [](Node *expr) {
        return expr != nullptr &&
               (IsA(expr, Const) ||
                (IsA(expr, Param) && castNode(Param, expr)->paramkind == PARAM_EXTERN));
    };
    const ScanPlan *plan = state->plan;
    bool known = plan->prune_key && is_known(reinterpret_cast<Node *>(plan->prune_key->value));
    Bitmapset *shards = evaluate_prune(known ? state->prune : nullptr, state->table, context);
    bool limit_known = is_known(plan->limit_count) &&
                       (plan->limit_offset == nullptr || is_known(plan->limit_offset));
    int64 limit = limit_known ? evaluate_limit(state, context) : -1;
    ListCell *cell;
    foreach (cell, group_by_node(state, shards)) {
        auto *group = static_cast<NodeShards *>(lfirst(cell));
        char *sql = make_sql(state, group->shards, limit);
        if (plan->limit_count != nullptr && !limit_known)
            sql = psprintf("%s LIMIT ...", sql);
        report_statement(state, group->node_id, group->shards, sql);
    }
}

void explain_merge_key(DistributedScanState *state, List *ancestors, ExplainState *es) {
    if (state->sort_key_count == 0)
        return;
    auto *scan = castNode(CustomScan, state->css.ss.ps.plan);
    List *context = set_deparse_context_plan(es->deparse_cxt, &scan->scan.plan, ancestors);
    List *keys = NIL;
    for (int i = 0; i < state->sort_key_count; i++) {
        int entry = list_nth_int(state->plan->sort_columns, i) - 1;
        auto *expr = list_nth_node(TargetEntry, scan->custom_scan_tlist, entry)->expr;
        char *text = deparse_expression(reinterpret_cast<Node *>(expr), context,
                                        list_length(es->rtable) > 1 || es->verbose, false);
        keys =
            lappend(keys, psprintf("%s%s", text, state->sort_keys[i].ssup_reverse ? " DESC" : ""));
    }
    ExplainPropertyList("Merge Key", keys, es);
}

void explain_scan(CustomScanState *node, List *ancestors, ExplainState *es) {
    auto *state = state_of(node);
    if (state->started)
        collect_reports(state);
    if (state->reports == NIL)
        report_planned(state, node->ss.ps.ps_ExprContext);
    if (state->plan->join != NIL)
        ExplainPropertyText("Join", state->plan->description, es);
    explain_merge_key(state, ancestors, es);
    int count = list_length(state->reports);
    auto *reports = static_cast<NodeReport *>(palloc(sizeof(NodeReport) * std::max(1, count)));
    for (int i = 0; i < count; i++)
        reports[i] = *static_cast<NodeReport *>(list_nth(state->reports, i));
    explain_nodes(es, reports, count, state->table->shard_count);
}

const CustomExecMethods kScanExecMethods = {
    .CustomName = "Panvel Scan",
    .BeginCustomScan = [](CustomScanState *node, EState *estate,
                          int flags) { pg::entry([&] { begin_scan(node, estate, flags); }); },
    .ExecCustomScan =
        [](CustomScanState *node) { return pg::entry([&] { return exec_scan(node); }); },
    .EndCustomScan =
        [](CustomScanState *node) { pg::entry([&] { stop_streams(state_of(node)); }); },
    .ReScanCustomScan = [](CustomScanState *node) { pg::entry([&] { rescan(node); }); },
    .MarkPosCustomScan = nullptr,
    .RestrPosCustomScan = nullptr,
    .EstimateDSMCustomScan = nullptr,
    .InitializeDSMCustomScan = nullptr,
    .ReInitializeDSMCustomScan = nullptr,
    .InitializeWorkerCustomScan = nullptr,
    .ShutdownCustomScan = nullptr,
    .ExplainCustomScan =
        [](CustomScanState *node, List *ancestors, ExplainState *es) {
            pg::entry([&] { explain_scan(node, ancestors, es); });
        },
};

Node *create_state(CustomScan *scan) {
    auto *state = reinterpret_cast<DistributedScanState *>(
        newNode(sizeof(DistributedScanState), T_CustomScanState));
    state->plan = load_scan_plan(scan);
    state->css.methods = &kScanExecMethods;
    return reinterpret_cast<Node *>(state);
}

} // namespace

const CustomScanMethods kScanMethods = {
    .CustomName = "Panvel Scan",
    .CreateCustomScanState = create_state,
};

void register_scan_methods() {
    RegisterCustomScanMethods(&kScanMethods);
}

} // namespace panvel
