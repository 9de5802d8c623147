// Rows on their way to their shards as arguments of one kind of statement, in batches to all shards
// at once.
#pragma once

#include "coordinator/executor/modify.h"
#include "coordinator/executor/row_batch.h"

namespace panvel {

// A batch under way or, where results are kept, whose result has not been used up.
struct RowStatement {
    WriteRequest write;
    int shard;
    int rows;
    int *numbers; // the caller's, of each row
    size_t bytes;
};

struct RowWriter {
    ModifyState *modify;
    const char *command; // the statement is command || the shard's table || tail
    const char *tail;    // takes an array per column
    SentColumns *columns;
    bool locks;        // a query that answers with the number of rows it has locked
    bool keep_results; // in `done`, for the caller to release
    RowBatch *batches; // per shard
    int **numbers;     // per shard, of the batch's rows
    List *sent;        // RowStatement *
    List *done;        // RowStatement *
    size_t bytes_under_way;
    int64 written;     // rows handed to write_row()
    int64 affected;    // rows that the shards say they have changed or locked
    Bitmapset *shards; // that got rows
};

// `row`: of the slots to come; `positions`: their columns in the order of the statement's
// parameters (integer List). In CurrentMemoryContext.
RowWriter *make_row_writer(ModifyState *modify, const char *command, const char *tail,
                           TupleDesc row, List *positions);

// Adds a row; sends the shard's batch when it is full. `number` comes back in the statement's.
void write_row(RowWriter *writer, int shard, TupleTableSlot *slot, int number);

// Sends what is left and waits for everything; an error of any shard is raised.
void flush_rows(RowWriter *writer);

} // namespace panvel
