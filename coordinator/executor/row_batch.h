// Rows on their way to one shard, encoded for the wire.
#pragma once

#include "coordinator/executor/codec.h"

namespace panvel {

// The columns that are sent. Made once per execution.
struct SentColumns {
    int count;
    AttrNumber *attributes;
    ParamEncoder *encoders;
    Oid *element_types; // of the arrays that carry many rows
    // Of the row that is being encoded.
    MemoryContext scratch;
    Datum *values;
    bool *nulls;
    StringInfo *outs;
};
// `attributes`: of the row type `relation`, in the order of the statement's parameters (integer
// List). In CurrentMemoryContext.
SentColumns *make_sent_columns(TupleDesc relation, List *attributes);

// A growing array per column, as array_recv() reads it.
struct RowBatch {
    MemoryContext context;  // everything of the batch
    StringInfoData *arrays; // null until the first row
    bool *has_null;
    int row_count;
    size_t bytes; // on the wire, about
};
void init_row_batch(RowBatch *batch, MemoryContext parent);

// Encodes the row in `slot` (of the relation's row type, all columns there) and appends it.
void add_row(RowBatch *batch, SentColumns *columns, TupleTableSlot *slot);

// The parameters of a statement for the batch's rows: an array of values per column, or with
// `one_row` the values of its only one; then `more` (may be null). Lives as long as the batch's
// rows, to which none can be added after.
RemoteParams *batch_params(RowBatch *batch, const SentColumns *columns, const RemoteParams *more,
                           bool one_row);

// Appends the binary form of a one-dimensional array of the values of column `column`, as
// array_recv() reads it. The values of the `count` rows are binary.
void append_value_array(StringInfo out, RemoteParams *const *rows, int count, int column,
                        Oid element_type);

// Drops the rows and everything encoded.
void clear_row_batch(RowBatch *batch);

} // namespace panvel
