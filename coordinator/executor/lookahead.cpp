// Reading ahead for a nested loop whose inner side asks the nodes for a few rows each time.
//
// The rows pass through; on their way the parameters that the loop will set for each are set
// already here, and the inner scan sends its statements for them (send_runs_ahead()). When the loop
// comes to the row it sets the parameters again, and the scan finds its statement under way or
// answered. Should the scan be asked for something else then, it sends anew: what is ahead is
// compared, not trusted.
#include "coordinator/planner/lookahead.h"

#include "coordinator/executor/scan_state.h"
#include "extension/pg/boundary.h"
#include "extension/pg/compat.h"

extern "C" {
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/memutils.h"
}

namespace panvel {
namespace {

// Rows read ahead at most. It begins with few, so that who stops early has asked for little. The
// next are read when half of them are left: those are under way meanwhile.
constexpr int kMaxAhead = 64;

struct LookaheadState {
    CustomScanState css;
    bool prepared;
    const NestLoop *loop;
    DistributedScanState *scan; // null: nothing can be sent ahead
    int ahead;                  // rows to read ahead now
    bool exhausted;
    List *rows;             // MinimalTuple, not handed out yet
    MemoryContext context;  // theirs
    MinimalTuple current;   // handed out last
    TupleTableSlot *stored; // holds `current`
    TupleTableSlot *result; // the same, of the kind that plans above expect
};

LookaheadState *lookahead_of(CustomScanState *node) {
    return reinterpret_cast<LookaheadState *>(node);
}

PlanState *child_of(LookaheadState *state) {
    return static_cast<PlanState *>(linitial(state->css.custom_ps));
}

// ------------------------------------------------------------------------- loop and scan

// Calls visit(plan) for the plan and all below it, until it returns true.
template <typename Visit> bool visit_plans(Plan *plan, Visit &&visit) {
    if (plan == nullptr)
        return false;
    check_stack_depth();
    if (visit(plan))
        return true;
    List *children = NIL;
    switch (nodeTag(plan)) {
    case T_Append:
        children = reinterpret_cast<Append *>(plan)->appendplans;
        break;
    case T_MergeAppend:
        children = reinterpret_cast<MergeAppend *>(plan)->mergeplans;
        break;
    case T_CustomScan:
        children = reinterpret_cast<CustomScan *>(plan)->custom_plans;
        break;
    case T_SubqueryScan:
        children = list_make1(reinterpret_cast<SubqueryScan *>(plan)->subplan);
        break;
    default:
        break;
    }
    ListCell *cell;
    foreach (cell, children)
        if (visit_plans(static_cast<Plan *>(lfirst(cell)), visit))
            return true;
    return visit_plans(plan->lefttree, visit) || visit_plans(plan->righttree, visit);
}

const NestLoop *find_loop(EState *estate, const Plan *outer) {
    const NestLoop *found = nullptr;
    auto visit = [&](Plan *plan) {
        if (IsA(plan, NestLoop) && outerPlan(plan) == outer)
            found = castNode(NestLoop, plan);
        return found != nullptr;
    };
    if (visit_plans(estate->es_plannedstmt->planTree, visit))
        return found;
    ListCell *cell;
    foreach (cell, estate->es_plannedstmt->subplans)
        if (visit_plans(static_cast<Plan *>(lfirst(cell)), visit))
            return found;
    return nullptr;
}

bool other_param_walker(Node *node, Bitmapset *known) {
    if (node == nullptr)
        return false;
    if (IsA(node, Param)) {
        Param *param = castNode(Param, node);
        return param->paramkind == PARAM_EXEC && !bms_is_member(param->paramid, known);
    }
    return expression_tree_walker(node, pg::walker(other_param_walker), known);
}

// Whether the scan's statement depends on nothing that changes but the loop's parameters.
bool depends_on_loop_only(const CustomScan *scan, const NestLoop *loop) {
    Bitmapset *known = nullptr;
    ListCell *cell;
    foreach (cell, loop->nestParams)
        known = bms_add_member(known, lfirst_node(NestLoopParam, cell)->paramno);
    return !other_param_walker(reinterpret_cast<Node *>(scan->custom_exprs), known);
}

void prepare(LookaheadState *state) {
    state->prepared = true;
    EState *estate = state->css.ss.ps.state;
    state->loop = find_loop(estate, state->css.ss.ps.plan);
    if (state->loop == nullptr)
        return;
    const CustomScan *scan = nullptr;
    visit_plans(state->loop->join.plan.righttree, [&](Plan *plan) {
        if (IsA(plan, CustomScan) && castNode(CustomScan, plan)->methods == &kScanMethods)
            scan = castNode(CustomScan, plan);
        return scan != nullptr;
    });
    if (scan != nullptr && depends_on_loop_only(scan, state->loop))
        state->scan = find_open_scan(estate, &scan->scan.plan);
    if (state->scan != nullptr)
        state->scan->is_led = true;
}

// ------------------------------------------------------------------------- rows

// The row as this node hands it out.
TupleTableSlot *project(LookaheadState *state, TupleTableSlot *row) {
    ScanState *scan = &state->css.ss;
    TupleTableSlot *slot = scan->ss_ScanTupleSlot;
    int columns = slot->tts_tupleDescriptor->natts;
    slot_getallattrs(row);
    ExecClearTuple(slot);
    memcpy(slot->tts_values, row->tts_values, sizeof(Datum) * columns);
    memcpy(slot->tts_isnull, row->tts_isnull, sizeof(bool) * columns);
    ExecStoreVirtualTuple(slot);
    if (scan->ps.ps_ProjInfo == nullptr)
        return slot;
    ResetExprContext(scan->ps.ps_ExprContext);
    scan->ps.ps_ExprContext->ecxt_scantuple = slot;
    return ExecProject(scan->ps.ps_ProjInfo);
}

void send_ahead(LookaheadState *state, TupleTableSlot *row) {
    ListCell *cell;
    foreach (cell, state->loop->nestParams) {
        auto *param = lfirst_node(NestLoopParam, cell);
        ParamExecData *value = &state->css.ss.ps.state->es_param_exec_vals[param->paramno];
        value->execPlan = nullptr;
        value->value = slot_getattr(row, param->paramval->varattno, &value->isnull);
    }
    if (!prepare_run_ahead(state->scan)) {
        state->scan->is_led = false;
        state->scan = nullptr;
    }
}

void read_rows(LookaheadState *state) {
    while (!state->exhausted && list_length(state->rows) < std::max(1, state->ahead)) {
        TupleTableSlot *row = ExecProcNode(child_of(state));
        if (TupIsNull(row)) {
            state->exhausted = true;
            return;
        }
        row = project(state, row);
        MemoryContext old = MemoryContextSwitchTo(state->context);
        state->rows = lappend(state->rows, ExecCopySlotMinimalTuple(row));
        MemoryContextSwitchTo(old);
        if (state->scan != nullptr)
            send_ahead(state, row);
    }
}

void read_ahead(LookaheadState *state) {
    if (list_length(state->rows) > state->ahead / 2)
        return;
    read_rows(state);
    if (state->scan != nullptr)
        send_runs_ahead(state->scan);
}

TupleTableSlot *hand_out(LookaheadState *state, MinimalTuple row) {
    if (state->current != nullptr)
        pfree(state->current);
    state->current = row;
    ExecStoreMinimalTuple(row, state->stored, false);
    slot_getallattrs(state->stored);
    TupleTableSlot *result = state->result;
    int columns = result->tts_tupleDescriptor->natts;
    ExecClearTuple(result);
    memcpy(result->tts_values, state->stored->tts_values, sizeof(Datum) * columns);
    memcpy(result->tts_isnull, state->stored->tts_isnull, sizeof(bool) * columns);
    return ExecStoreVirtualTuple(result);
}

TupleTableSlot *next_row(LookaheadState *state) {
    if (!state->prepared)
        prepare(state);
    CHECK_FOR_INTERRUPTS();
    read_ahead(state);
    if (state->rows == NIL)
        return nullptr;
    state->ahead = state->scan != nullptr ? std::min(kMaxAhead, state->ahead * 2) : 1;
    auto *row = static_cast<MinimalTuple>(linitial(state->rows));
    state->rows = list_delete_first(state->rows);
    return hand_out(state, row);
}

// ------------------------------------------------------------------------- callbacks

void begin_lookahead(CustomScanState *node, EState *estate, int eflags) {
    LookaheadState *state = lookahead_of(node);
    Plan *child =
        static_cast<Plan *>(linitial(castNode(CustomScan, node->ss.ps.plan)->custom_plans));
    node->custom_ps = list_make1(ExecInitNode(child, estate, eflags));
    TupleDesc columns = ExecGetResultType(&node->ss.ps);
    state->stored = ExecInitExtraTupleSlot(estate, columns, &TTSOpsMinimalTuple);
    state->result = ExecInitExtraTupleSlot(estate, columns, &TTSOpsVirtual);
    state->context = AllocSetContextCreate(estate->es_query_cxt, "panvel rows read ahead",
                                           ALLOCSET_DEFAULT_SIZES);
    state->ahead = 2;
}

void rescan_lookahead(CustomScanState *node) {
    LookaheadState *state = lookahead_of(node);
    ExecClearTuple(state->stored);
    ExecClearTuple(state->result);
    MemoryContextReset(state->context);
    state->rows = NIL;
    state->current = nullptr;
    state->exhausted = false;
    state->ahead = 2;
    if (state->scan != nullptr)
        drop_runs_ahead(state->scan);
    PlanState *child = child_of(state);
    if (node->ss.ps.chgParam != nullptr)
        UpdateChangedParamSet(child, node->ss.ps.chgParam);
    if (child->chgParam == nullptr)
        ExecReScan(child);
}

const CustomExecMethods kLookaheadExecMethods = {
    .CustomName = "Panvel Lookahead",
    .BeginCustomScan = [](CustomScanState *node, EState *estate,
                          int flags) { pg::entry([&] { begin_lookahead(node, estate, flags); }); },
    .ExecCustomScan =
        [](CustomScanState *node) {
            return pg::entry([&] { return next_row(lookahead_of(node)); });
        },
    .EndCustomScan =
        [](CustomScanState *node) {
            pg::entry([&] { ExecEndNode(child_of(lookahead_of(node))); });
        },
    .ReScanCustomScan = [](CustomScanState *node) { pg::entry([&] { rescan_lookahead(node); }); },
    .MarkPosCustomScan = nullptr,
    .RestrPosCustomScan = nullptr,
    .EstimateDSMCustomScan = nullptr,
    .InitializeDSMCustomScan = nullptr,
    .ReInitializeDSMCustomScan = nullptr,
    .InitializeWorkerCustomScan = nullptr,
    .ShutdownCustomScan =
        [](CustomScanState *node) {
            // Of all that the loop had the scan do: it ends itself each time.
            if (DistributedScanState *scan = lookahead_of(node)->scan)
                pg::entry([&] { report_buffers(scan); });
        },
    .ExplainCustomScan = nullptr,
};

Node *create_lookahead_state(CustomScan *) {
    auto *state =
        reinterpret_cast<LookaheadState *>(newNode(sizeof(LookaheadState), T_CustomScanState));
    state->css.methods = &kLookaheadExecMethods;
    return reinterpret_cast<Node *>(state);
}

// Scans by executor state; an entry goes with the memory of its query, however that ends.
struct OpenScan {
    DistributedScanState *state;
    OpenScan *next;
};
OpenScan *open_scans = nullptr;

void forget_open_scan(void *argument) {
    OpenScan **link = &open_scans;
    while (*link != nullptr && *link != argument)
        link = &(*link)->next;
    if (*link != nullptr)
        *link = (*link)->next;
}

} // namespace

void register_open_scan(DistributedScanState *state) {
    MemoryContext context = state->css.ss.ps.state->es_query_cxt;
    auto *scan = static_cast<OpenScan *>(MemoryContextAlloc(context, sizeof(OpenScan)));
    auto *callback = static_cast<MemoryContextCallback *>(
        MemoryContextAllocZero(context, sizeof(MemoryContextCallback)));
    callback->func = forget_open_scan;
    callback->arg = scan;
    MemoryContextRegisterResetCallback(context, callback);
    *scan = {state, open_scans};
    open_scans = scan;
}

DistributedScanState *find_open_scan(EState *estate, const Plan *plan) {
    for (OpenScan *scan = open_scans; scan != nullptr; scan = scan->next)
        if (scan->state->css.ss.ps.state == estate && scan->state->css.ss.ps.plan == plan)
            return scan->state;
    return nullptr;
}

const CustomScanMethods kLookaheadMethods = {
    .CustomName = "Panvel Lookahead",
    .CreateCustomScanState = create_lookahead_state,
};

void register_lookahead_methods() {
    RegisterCustomScanMethods(&kLookaheadMethods);
}

} // namespace panvel
