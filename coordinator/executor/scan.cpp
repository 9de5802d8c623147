// The executor of a distributed scan: rows come back as they arrive, or merged in order.
#include "coordinator/executor/scan_state.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/htup_details.h"
#include "executor/executor.h"
#include "nodes/extensible.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

// Decodes the stream's next row; false at its end. Before the first row others may have to answer.
bool advance(DistributedScanState *state, ScanRun *run, NodeStream *stream) {
    while (!next_node_row(&stream->rows, stream->values, stream->isnull)) {
        if (!stream->rows.lost) {
            stream->done = true;
            return false;
        }
        replace_stream(state, run, stream);
    }
    return true;
}

// ------------------------------------------------------------------------- unordered

// The next stream with a row, whichever node was first; null at the end.
NodeStream *next_unordered(DistributedScanState *state, ScanRun *run) {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        int open = 0;
        // Stay with one node while its rows are here.
        int first = std::max(0, run->last_stream);
        for (int i = 0; i < run->stream_count; i++) {
            int index = (first + i) % run->stream_count;
            NodeStream *stream = &run->streams[index];
            if (stream->done || stream->is_hedge)
                continue;
            if (settle_stream(state, run, stream)) {
                run->last_stream = index;
                if (stream->done) { // others have taken its place
                    open++;
                } else if (stream->rows.lost) {
                    replace_stream(state, run, stream);
                    open++;
                } else if (advance(state, run, stream)) {
                    return stream;
                }
                continue;
            }
            open++;
        }
        if (open == 0)
            return nullptr;
        wait_for_streams(run, nullptr);
    }
}

// The next row of the shards in turn; null at the end.
NodeStream *next_in_turn(DistributedScanState *state, ScanRun *run) {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        if (run->rows_left == 0)
            return nullptr;
        if (run->stream_count > 0) {
            NodeStream *stream = &run->streams[run->stream_count - 1];
            if (!stream->done && advance(state, run, stream)) {
                run->rows_left--;
                return stream;
            }
        }
        if (run->waiting == NIL)
            return nullptr;
        MemoryContext old = MemoryContextSwitchTo(run->context);
        start_stream(state, run, static_cast<NodeShards *>(linitial(run->waiting)), run->rows_left);
        run->waiting = list_delete_first(run->waiting);
        MemoryContextSwitchTo(old);
    }
}

// ------------------------------------------------------------------------- ordered

int compare_streams(Datum left, Datum right, void *argument) {
    auto *state = static_cast<DistributedScanState *>(argument);
    const ScanRun *run = state->run;
    const NodeStream *a = &run->streams[DatumGetInt32(left)];
    const NodeStream *b = &run->streams[DatumGetInt32(right)];
    for (int i = 0; i < state->sort_key_count; i++) {
        int column = state->sort_columns[i];
        int order = ApplySortComparator(a->values[column], a->isnull[column], b->values[column],
                                        b->isnull[column], &state->sort_keys[i]);
        if (order != 0)
            return order < 0 ? 1 : -1; // the heap has its largest on top
    }
    return 0;
}

// Waits until it is known whether the stream's rows are, or those of others that were asked as
// well.
bool is_wanted(DistributedScanState *state, ScanRun *run, int index) {
    NodeStream *stream = &run->streams[index];
    while (!stream->done && !stream->is_hedge && !settle_stream(state, run, stream)) {
        CHECK_FOR_INTERRUPTS();
        wait_for_streams(run, stream);
    }
    return !stream->done && !stream->is_hedge;
}

NodeStream *next_ordered(DistributedScanState *state, ScanRun *run) {
    if (run->merge == nullptr) {
        MemoryContext old = MemoryContextSwitchTo(run->context);
        run->merge = binaryheap_allocate(1 + bms_num_members(run->shards), compare_streams, state);
        MemoryContextSwitchTo(old);
        for (int i = 0; i < run->stream_count; i++)
            if (is_wanted(state, run, i) && advance(state, run, &run->streams[i]))
                binaryheap_add_unordered(run->merge, Int32GetDatum(i));
        binaryheap_build(run->merge);
    } else if (run->last_stream >= 0) {
        // Only now is the row that was handed out last no longer needed.
        if (advance(state, run, &run->streams[run->last_stream]))
            binaryheap_replace_first(run->merge, Int32GetDatum(run->last_stream));
        else
            binaryheap_remove_first(run->merge);
    }
    CHECK_FOR_INTERRUPTS();
    if (binaryheap_empty(run->merge)) {
        run->last_stream = -1;
        return nullptr;
    }
    run->last_stream = DatumGetInt32(binaryheap_first(run->merge));
    return &run->streams[run->last_stream];
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

// No further row is wanted, of this execution at least. One that is read ahead for has others under
// way then: its nodes are asked when all is done (lookahead.cpp).
void shutdown_scan(DistributedScanState *state) {
    if (!state->is_led)
        report_buffers(state);
}

TupleTableSlot *access_next(ScanState *scan) {
    auto *state = reinterpret_cast<DistributedScanState *>(scan);
    if (state->run == nullptr)
        state->run = start_run(state);
    ScanRun *run = state->run;
    NodeStream *stream = run->in_turn                ? next_in_turn(state, run)
                         : state->sort_key_count > 0 ? next_ordered(state, run)
                                                     : next_unordered(state, run);
    if (stream != nullptr)
        return fill_slot(state, stream);
    shutdown_scan(state);
    return ExecClearTuple(scan->ss_ScanTupleSlot);
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

void end_current_run(DistributedScanState *state) {
    if (state->run == nullptr)
        return;
    ScanRun *run = state->run;
    state->run = nullptr;
    end_run(state, run);
}

void end_scan(DistributedScanState *state) {
    end_current_run(state);
    drop_runs_ahead(state);
}

void begin_scan(CustomScanState *node, EState *estate, int) {
    auto *state = state_of(node);
    PlanState *parent = &node->ss.ps;
    ScanPlan *plan = state->plan;
    state->table = get_distributed_table(plan->relid);
    state->table_name = quote_identifier(get_rel_name(plan->relid));
    state->params = make_param_evaluator(plan->params, parent);
    state->prune = make_prune_evaluator(plan->prune_key, parent);
    state->limit_count = ExecInitExpr(reinterpret_cast<Expr *>(plan->limit_count), parent);
    state->limit_offset = ExecInitExpr(reinterpret_cast<Expr *>(plan->limit_offset), parent);
    state->decoder = make_decoder(state);
    state->context =
        AllocSetContextCreate(estate->es_query_cxt, "panvel scan", ALLOCSET_DEFAULT_SIZES);
    ItemPointerSet(&state->row_identifier, 0, 1);
    init_merge(state);
    if (plan->correlated)
        register_open_scan(state);
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
    end_current_run(state_of(node));
    ExecScanReScan(&node->ss);
}

const CustomExecMethods kScanExecMethods = {
    .CustomName = "Panvel Scan",
    .BeginCustomScan = [](CustomScanState *node, EState *estate,
                          int flags) { pg::entry([&] { begin_scan(node, estate, flags); }); },
    .ExecCustomScan =
        [](CustomScanState *node) { return pg::entry([&] { return exec_scan(node); }); },
    .EndCustomScan = [](CustomScanState *node) { pg::entry([&] { end_scan(state_of(node)); }); },
    .ReScanCustomScan = [](CustomScanState *node) { pg::entry([&] { rescan(node); }); },
    .MarkPosCustomScan = nullptr,
    .RestrPosCustomScan = nullptr,
    .EstimateDSMCustomScan = nullptr,
    .InitializeDSMCustomScan = nullptr,
    .ReInitializeDSMCustomScan = nullptr,
    .InitializeWorkerCustomScan = nullptr,
    .ShutdownCustomScan =
        [](CustomScanState *node) { pg::entry([&] { shutdown_scan(state_of(node)); }); },
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
