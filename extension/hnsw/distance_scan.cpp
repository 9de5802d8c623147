#include "extension/hnsw/distance_scan.h"

#include "extension/pg/boundary.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#endif
}

namespace vec {
namespace {

constexpr AttrNumber kDistance = InvalidAttrNumber; // no column of the table has this number
constexpr AttrNumber kNotNeeded = FirstLowInvalidHeapAttributeNumber;

struct DistanceScan {
    CustomScanState custom; // first
    Relation index;         // NULL in a plain EXPLAIN
    IndexScanDesc scan;     // NULL before the first row
    TupleTableSlot *row;    // of the table
    AttrNumber *columns;    // of the scan tuple: a number of the table's, or one of the above
    int last_column;        // of the table, that is needed
    ExprState *query;
    ExprContext *query_context;
    ScanKeyData key;
    bool key_ready;
};

CustomScan *plan_of(DistanceScan *state) {
    return reinterpret_cast<CustomScan *>(state->custom.ss.ps.plan);
}

// The scan tuple's columns that the plan's targets and filter mention.
Bitmapset *mentioned_columns(const CustomScan *plan) {
    Bitmapset *columns = nullptr;
    pull_varattnos(reinterpret_cast<Node *>(plan->scan.plan.targetlist), INDEX_VAR, &columns);
    pull_varattnos(reinterpret_cast<Node *>(plan->scan.plan.qual), INDEX_VAR, &columns);
    return columns;
}

void map_columns(DistanceScan *state) {
    const CustomScan *plan = plan_of(state);
    Bitmapset *mentioned = mentioned_columns(plan);
    int count = list_length(plan->custom_scan_tlist);
    state->columns = static_cast<AttrNumber *>(palloc(count * sizeof(AttrNumber)));
    for (int i = 0; i < count; i++) {
        Expr *expression = list_nth_node(TargetEntry, plan->custom_scan_tlist, i)->expr;
        AttrNumber *column = &state->columns[i];
        *column = kDistance;
        if (IsA(expression, Var))
            *column = reinterpret_cast<Var *>(expression)->varattno;
        if (!bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, mentioned))
            *column = kNotNeeded;
        state->last_column = Max(state->last_column, *column);
    }
}

// The ORDER BY expression. In custom_exprs it has become a reference to the scan tuple.
OpExpr *order_by(const CustomScan *plan) {
    auto *reference = linitial_node(Var, plan->custom_exprs);
    Expr *expression =
        list_nth_node(TargetEntry, plan->custom_scan_tlist, reference->varattno - 1)->expr;
    return castNode(OpExpr, expression);
}

// The scan key as ExecIndexBuildScanKeys() makes it, its value still to come.
void make_key(DistanceScan *state) {
    int column = distance_scan_column(plan_of(state));
    OpExpr *distance = order_by(plan_of(state));
    int strategy;
    Oid left, right;
    get_op_opfamily_properties(distance->opno, state->index->rd_opfamily[column], true, &strategy,
                               &left, &right);
    ScanKeyEntryInitialize(&state->key, SK_ORDER_BY, static_cast<AttrNumber>(column + 1),
                           static_cast<StrategyNumber>(strategy), right, distance->inputcollid,
                           distance->opfuncid, 0);
}

void begin(CustomScanState *node, EState *estate, int flags) {
    auto *state = reinterpret_cast<DistanceScan *>(node);
    Relation table = node->ss.ss_currentRelation;
    state->row = table_slot_create(table, &estate->es_tupleTable);
    map_columns(state);
    state->query =
        ExecInitExpr(static_cast<Expr *>(lsecond(plan_of(state)->custom_exprs)), &node->ss.ps);
    state->query_context = CreateExprContext(estate);
    if (flags & EXEC_FLAG_EXPLAIN_ONLY)
        return;
    LOCKMODE lock = exec_rt_fetch(plan_of(state)->scan.scanrelid, estate)->rellockmode;
    state->index = index_open(distance_scan_index(plan_of(state)), lock);
    make_key(state);
}

void set_query(DistanceScan *state) {
    ResetExprContext(state->query_context);
    bool is_null;
    state->key.sk_argument =
        ExecEvalExprSwitchContext(state->query, state->query_context, &is_null);
    state->key.sk_flags = SK_ORDER_BY | (is_null ? SK_ISNULL : 0);
    state->key_ready = true;
}

void start(DistanceScan *state) {
    if (state->scan == nullptr)
        state->scan = pg::begin_index_scan(state->custom.ss.ss_currentRelation, state->index,
                                           state->custom.ss.ps.state->es_snapshot, 0, 1);
    set_query(state);
    index_rescan(state->scan, nullptr, 0, &state->key, 1);
}

Datum column_value(DistanceScan *state, AttrNumber column, bool *is_null) {
    if (column == kNotNeeded) {
        *is_null = true;
        return 0;
    }
    if (column == kDistance) {
        *is_null = state->scan->xs_orderbynulls[0];
        return state->scan->xs_orderbyvals[0];
    }
    if (column < 0)
        return slot_getsysattr(state->row, column, is_null);
    *is_null = state->row->tts_isnull[column - 1];
    return state->row->tts_values[column - 1];
}

// The scan tuple of the row. What is not passed by value lies in the row's slot, which stays as it
// is until the next row.
void fill_slot(DistanceScan *state, TupleTableSlot *slot) {
    if (state->last_column > 0)
        slot_getsomeattrs(state->row, state->last_column);
    ExecClearTuple(slot);
    for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
        slot->tts_values[i] = column_value(state, state->columns[i], &slot->tts_isnull[i]);
    ExecStoreVirtualTuple(slot);
    slot->tts_tid = state->row->tts_tid; // for WHERE CURRENT OF
    slot->tts_tableOid = state->row->tts_tableOid;
}

TupleTableSlot *next(ScanState *node) {
    auto *state = reinterpret_cast<DistanceScan *>(node);
    TupleTableSlot *slot = node->ss_ScanTupleSlot;
    if (!state->key_ready)
        start(state);
    if (!index_getnext_slot(state->scan, ForwardScanDirection, state->row))
        return ExecClearTuple(slot);
    if (state->scan->xs_recheck || state->scan->xs_recheckorderby)
        elog(ERROR, "index \"%s\" is not sure of its distances",
             RelationGetRelationName(state->index));
    fill_slot(state, slot);
    return slot;
}

bool recheck(ScanState *, TupleTableSlot *) {
    return true; // the filter is all there is
}

TupleTableSlot *execute(CustomScanState *node) {
    return ExecScan(&node->ss, next, recheck);
}

void rescan(CustomScanState *node) {
    auto *state = reinterpret_cast<DistanceScan *>(node);
    ExecClearTuple(state->row);
    state->key_ready = false; // the next row needs another query vector, and the scan anew
    ExecScanReScan(&node->ss);
}

void end(CustomScanState *node) {
    auto *state = reinterpret_cast<DistanceScan *>(node);
    if (state->scan != nullptr)
        index_endscan(state->scan);
    if (state->index != nullptr)
        index_close(state->index, NoLock);
}

void explain(CustomScanState *node, List *ancestors, ExplainState *es) {
    CustomScan *plan = plan_of(reinterpret_cast<DistanceScan *>(node));
    const char *name = get_rel_name(distance_scan_index(plan));
    ExplainPropertyText(es->format == EXPLAIN_FORMAT_TEXT ? "Index" : "Index Name",
                        es->format == EXPLAIN_FORMAT_TEXT ? quote_identifier(name) : name, es);
    List *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, ancestors);
    bool prefix = list_length(es->rtable) > 1 || es->verbose;
    ExplainPropertyText(
        "Order By",
        deparse_expression(reinterpret_cast<Node *>(order_by(plan)), context, prefix, false), es);
}

// A callback with pg::entry around it.
template <auto function> struct Callback;
template <typename R, typename... A, R (*function)(A...)> struct Callback<function> {
    static R call(A... arguments) {
        return pg::entry([&] { return function(arguments...); });
    }
};

const CustomExecMethods kExecMethods = {
    .CustomName = "Vector Index Scan",
    .BeginCustomScan = Callback<begin>::call,
    .ExecCustomScan = Callback<execute>::call,
    .EndCustomScan = Callback<end>::call,
    .ReScanCustomScan = Callback<rescan>::call,
    .MarkPosCustomScan = nullptr,
    .RestrPosCustomScan = nullptr,
    .EstimateDSMCustomScan = nullptr,
    .InitializeDSMCustomScan = nullptr,
    .ReInitializeDSMCustomScan = nullptr,
    .InitializeWorkerCustomScan = nullptr,
    .ShutdownCustomScan = nullptr,
    .ExplainCustomScan = Callback<explain>::call,
};

Node *make_state(CustomScan *) {
    auto *state = static_cast<DistanceScan *>(palloc0(sizeof(DistanceScan)));
    NodeSetTag(state, T_CustomScanState);
    state->custom.methods = &kExecMethods;
    return reinterpret_cast<Node *>(state);
}

} // namespace

const CustomScanMethods kDistanceScanMethods = {
    .CustomName = "Vector Index Scan",
    .CreateCustomScanState = Callback<make_state>::call,
};

} // namespace vec
