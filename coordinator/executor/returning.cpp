#include "coordinator/executor/returning.h"

#include "coordinator/planner/modify_sql.h"

extern "C" {
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "executor/executor.h"
#include "nodes/plannodes.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

constexpr int kWholeRow = -1;
constexpr int kTableOid = -2;

int position_of(List *attributes, AttrNumber attribute) {
    int position = 0;
    ListCell *cell;
    foreach (cell, attributes) {
        if (lfirst_int(cell) == attribute)
            return position;
        position++;
    }
    elog(ERROR, "column %d is not among the returned ones", attribute);
    pg_unreachable();
}

TupleDesc fetched_columns(Relation relation, List *attributes) {
    TupleDesc columns = CreateTemplateTupleDesc(list_length(attributes));
    AttrNumber position = 0;
    ListCell *cell;
    foreach (cell, attributes)
        TupleDescCopyEntry(columns, ++position, RelationGetDescr(relation), lfirst_int(cell));
    return columns;
}

Datum whole_row(Returning *returning) {
    TupleDesc columns = RelationGetDescr(returning->relation);
    for (int i = 0; i < columns->natts; i++)
        returning->row_nulls[i] = true;
    int position = 0;
    ListCell *cell;
    foreach (cell, returning->attributes) {
        returning->row_values[lfirst_int(cell) - 1] = returning->values[position];
        returning->row_nulls[lfirst_int(cell) - 1] = returning->nulls[position];
        position++;
    }
    HeapTuple tuple = heap_form_tuple(columns, returning->row_values, returning->row_nulls);
    return heap_copy_tuple_as_datum(tuple, columns);
}

} // namespace

Returning *make_returning(CustomScanState *node, Relation relation, const ModifyPlan *plan) {
    List *attributes = plan->returned;
    if (attributes == NIL)
        return nullptr;
    List *scan_columns = castNode(CustomScan, node->ss.ps.plan)->custom_scan_tlist;
    Returning *returning = palloc0_object(Returning);
    returning->relation = relation;
    returning->attributes = attributes;
    returning->column_count = list_length(scan_columns);
    returning->sources = palloc0_array(int, returning->column_count);
    int column = 0;
    ListCell *cell;
    foreach (cell, scan_columns) {
        Var *var = castNode(Var, lfirst_node(TargetEntry, cell)->expr);
        if (var->varattno == 0)
            returning->sources[column++] = kWholeRow;
        else if (var->varattno == TableOidAttributeNumber)
            returning->sources[column++] = kTableOid;
        else
            returning->sources[column++] = position_of(attributes, var->varattno);
    }
    returning->values = palloc0_array(Datum, list_length(attributes));
    returning->nulls = palloc0_array(bool, list_length(attributes));
    returning->row_values = palloc0_array(Datum, RelationGetDescr(relation)->natts);
    returning->row_nulls = palloc0_array(bool, RelationGetDescr(relation)->natts);
    // The images for followers come after them, in the same format.
    returning->decoder = make_row_decoder(fetched_columns(relation, attributes),
                                          plan->images == NIL || images_are_binary(relation, plan));
    returning->decoder->passed_over = list_length(plan->images);
    return returning;
}

TupleTableSlot *returned_row(Returning *returning, CustomScanState *node, PGresult *result,
                             int row) {
    ExprContext *context = node->ss.ps.ps_ExprContext;
    TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
    ResetExprContext(context);
    MemoryContext previous = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
    decode_row(returning->decoder, result, row, returning->values, returning->nulls);
    ExecClearTuple(slot);
    for (int i = 0; i < returning->column_count; i++) {
        int source = returning->sources[i];
        slot->tts_isnull[i] = source >= 0 && returning->nulls[source];
        if (source == kWholeRow)
            slot->tts_values[i] = whole_row(returning);
        else if (source == kTableOid)
            slot->tts_values[i] = ObjectIdGetDatum(RelationGetRelid(returning->relation));
        else
            slot->tts_values[i] = returning->values[source];
    }
    ExecStoreVirtualTuple(slot);
    MemoryContextSwitchTo(previous);
    context->ecxt_scantuple = slot;
    return node->ss.ps.ps_ProjInfo != nullptr ? ExecProject(node->ss.ps.ps_ProjInfo) : slot;
}

} // namespace panvel
