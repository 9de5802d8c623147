#include "coordinator/executor/returning.h"

#include "coordinator/planner/modify_sql.h"

extern "C" {
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/plannodes.h"
#include "port/pg_bswap.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

constexpr int kWholeRow = -1;
constexpr int kTableOid = -2;
constexpr int kNothing = -3;   // not asked for
constexpr int kFromChild = -4; // column n of the child's row is this minus n

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

TupleDesc fetched_columns(Relation relation, List *attributes, bool numbered, bool finds) {
    TupleDesc columns =
        CreateTemplateTupleDesc(list_length(attributes) + (numbered ? 1 : 0) + (finds ? 2 : 0));
    AttrNumber position = 0;
    ListCell *cell;
    foreach (cell, attributes)
        TupleDescCopyEntry(columns, ++position, RelationGetDescr(relation), lfirst_int(cell));
    if (numbered)
        TupleDescInitEntry(columns, ++position, "n", INT8OID, -1, 0);
    if (finds) {
        TupleDescInitEntry(columns, ++position, "ctid", TIDOID, -1, 0);
        TupleDescInitEntry(columns, ++position, "xmax", XIDOID, -1, 0);
    }
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

int source_of(List *attributes, const Var *var, bool finds) {
    if (var->varattno == 0)
        return kWholeRow;
    if (var->varattno == TableOidAttributeNumber)
        return kTableOid;
    if (var->varattno == SelfItemPointerAttributeNumber)
        return finds ? list_length(attributes) : kNothing;
    return position_of(attributes, var->varattno);
}

void fill_column(Returning *returning, TupleTableSlot *slot, int column, TupleTableSlot *child) {
    int source = returning->sources[column];
    bool *isnull = &slot->tts_isnull[column];
    Datum *value = &slot->tts_values[column];
    *isnull = false;
    if (source == kWholeRow) {
        *value = whole_row(returning);
    } else if (source == kTableOid) {
        *value = ObjectIdGetDatum(RelationGetRelid(returning->relation));
    } else if (source == kNothing || (source < kFromChild && child == nullptr)) {
        *isnull = true;
    } else if (source < kFromChild) {
        *value = slot_getattr(child, kFromChild - source, isnull);
    } else {
        *isnull = returning->nulls[source];
        *value = returning->values[source];
    }
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
    returning->finds = finds_conflicts(plan);
    returning->column_count = list_length(scan_columns);
    returning->sources = palloc0_array(int, returning->column_count);
    ListCell *cell;
    foreach (cell, scan_columns) {
        int column = foreach_current_index(cell);
        int child = plan->from_child != NIL ? list_nth_int(plan->from_child, column) : 0;
        returning->sources[column] =
            child != 0 ? kFromChild - child
                       : source_of(attributes, castNode(Var, lfirst_node(TargetEntry, cell)->expr),
                                   returning->finds);
    }
    int fetched = list_length(attributes) + 2;
    returning->values = palloc0_array(Datum, fetched);
    returning->nulls = palloc0_array(bool, fetched);
    returning->row_values = palloc0_array(Datum, RelationGetDescr(relation)->natts);
    returning->row_nulls = palloc0_array(bool, RelationGetDescr(relation)->natts);
    // The images for followers come after them, in the same format.
    returning->decoder =
        make_row_decoder(fetched_columns(relation, attributes, plan->by_rows, returning->finds),
                         plan->images == NIL || images_are_binary(relation, plan));
    returning->decoder->passed_over = list_length(plan->images);
    return returning;
}

Returning *make_answer_reader(CustomScanState *node) {
    if (castNode(CustomScan, node->ss.ps.plan)->custom_scan_tlist == NIL)
        return nullptr;
    TupleDesc columns = node->ss.ss_ScanTupleSlot->tts_tupleDescriptor;
    Returning *returning = palloc0_object(Returning);
    returning->relation = node->ss.ss_currentRelation;
    returning->column_count = columns->natts;
    returning->sources = palloc_array(int, columns->natts);
    for (int i = 0; i < columns->natts; i++)
        returning->sources[i] = i;
    returning->values = palloc0_array(Datum, columns->natts);
    returning->nulls = palloc0_array(bool, columns->natts);
    returning->decoder = make_row_decoder(columns);
    return returning;
}

TupleTableSlot *read_row(Returning *returning, CustomScanState *node, PGresult *result, int row,
                         TupleTableSlot *child) {
    ExprContext *context = node->ss.ps.ps_ExprContext;
    TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
    ResetExprContext(context);
    MemoryContext previous = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);
    decode_row(returning->decoder, result, row, returning->values, returning->nulls);
    ExecClearTuple(slot);
    for (int i = 0; i < returning->column_count; i++)
        fill_column(returning, slot, i, child);
    ExecStoreVirtualTuple(slot);
    MemoryContextSwitchTo(previous);
    context->ecxt_scantuple = slot;
    return slot;
}

TupleTableSlot *returned_row(Returning *returning, CustomScanState *node, PGresult *result, int row,
                             TupleTableSlot *child) {
    TupleTableSlot *slot = read_row(returning, node, result, row, child);
    return node->ss.ps.ps_ProjInfo != nullptr ? ExecProject(node->ss.ps.ps_ProjInfo) : slot;
}

bool was_found(const Returning *returning) {
    Datum xmax = returning->values[list_length(returning->attributes) + 1];
    return TransactionIdIsValid(DatumGetTransactionId(xmax));
}

int64 returned_number(const Returning *returning, PGresult *result, int row) {
    int column = list_length(returning->attributes);
    const char *value = PQgetvalue(result, row, column);
    if (PQfformat(result, column) == 0)
        return strtoll(value, nullptr, 10);
    uint64 number;
    memcpy(&number, value, sizeof(number));
    return static_cast<int64>(pg_ntoh64(number));
}

} // namespace panvel
