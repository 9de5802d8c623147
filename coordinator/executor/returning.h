// RETURNING: rows that shards return, as scan tuples of the node that wrote them.
#pragma once

#include "coordinator/executor/codec.h"
#include "coordinator/planner/modify.h"

extern "C" {
#include "nodes/execnodes.h"
}

namespace panvel {

struct Returning {
    RowDecoder *decoder;
    bool finds; // ctid and xmax come after the columns: of an upsert by rows
    Relation relation;
    List *attributes; // fetched, in the order of the result's columns (integer List)
    int column_count; // of the scan tuple
    int *sources;     // per scan column: index into `attributes`, or what it is otherwise
    Datum *values;    // of one fetched row
    bool *nulls;
    Datum *row_values; // of one row of the relation, for whole-row references
    bool *row_nulls;
};

// For a node whose custom_scan_tlist has columns of `relation`, of which plan->returned are
// fetched. Null when that list is empty. By rows, other columns are those of the child plan's row
// that plan->from_child names, and the shards return the row's number in the statement as one more
// column.
Returning *make_returning(CustomScanState *node, Relation relation, const ModifyPlan *plan);

// For a node whose shards evaluate RETURNING: all columns of its scan tuple. Null without any.
Returning *make_answer_reader(CustomScanState *node);

// Decodes a row and returns it projected, valid until the next call. `child`: the child plan's row,
// where there is one.
TupleTableSlot *returned_row(Returning *returning, CustomScanState *node, PGresult *result, int row,
                             TupleTableSlot *child = nullptr);

// The first half of it: the row is node's scan tuple, and nothing is projected.
TupleTableSlot *read_row(Returning *returning, CustomScanState *node, PGresult *result, int row,
                         TupleTableSlot *child);

// Of the row last read, with `finds`: it was there, and has not been inserted. Only a row that had
// been locked before it got this version has an xmax.
bool was_found(const Returning *returning);

// The number of the child's row in its statement, from 1.
int64 returned_number(const Returning *returning, PGresult *result, int row);

} // namespace panvel
