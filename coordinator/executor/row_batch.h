// Rows of an INSERT on their way to one shard, encoded for the wire.
#pragma once

#include "coordinator/executor/codec.h"

namespace panvel {

// The columns that an INSERT sends. Made once per execution.
struct SentColumns {
    int count;
    AttrNumber *attributes;
    ParamEncoder *encoders;
    Oid *element_types; // of the arrays that carry many rows
};
// `attributes`: of the row type `relation`, in the order of the statement's parameters (integer
// List).
SentColumns *make_sent_columns(TupleDesc relation, List *attributes);

struct RowBatch {
    MemoryContext context; // everything of the batch
    RemoteParams **rows;
    int row_count;
    int capacity;
    size_t bytes; // on the wire, about
};
void init_row_batch(RowBatch *batch, MemoryContext parent);

// Encodes the row in `slot` (of the relation's row type) and appends it.
void add_row(RowBatch *batch, SentColumns *columns, TupleTableSlot *slot);

// The parameters of a statement for the batch's rows: one row's values when it has one, else an
// array of values per column (always_arrays: also for one row); then `more` (may be null). Lives as
// long as the batch's rows.
RemoteParams *batch_params(RowBatch *batch, const SentColumns *columns, const RemoteParams *more,
                           bool always_arrays = false);

// Appends the binary form of a one-dimensional array of the values of column `column`, as
// array_recv() reads it. The values of the `count` rows are binary.
void append_value_array(StringInfo out, RemoteParams *const *rows, int count, int column,
                        Oid element_type);

// Drops the rows and everything encoded.
void clear_row_batch(RowBatch *batch);

} // namespace panvel
