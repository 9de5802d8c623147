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
    int *numbers; // the caller's, of each row; null unless it gives them
    size_t bytes;
    MemoryContext params; // of the batch, until followers have got them too; else null
};

struct RowWriter {
    ModifyState *modify;
    const char *command;      // the statement is command || the shard's table || tail
    const char *tail;         // takes an array per column
    const char *tail_one;     // takes the values of one row; null: `tail` for one row as well
    const RemoteParams *more; // parameters after the columns'; may be null
    SentColumns *columns;
    bool locks;        // a query that answers with the number of rows it has locked
    bool undivided;    // all rows of a shard go in one statement
    bool numbered;     // rows have numbers of the caller's
    bool keep_results; // in `done`, for the caller to release; then all may be under way at once
    RowBatch *batches; // per shard
    int **numbers;     // per shard, of the batch's rows
    List *sent;        // RowStatement *, in the order sent
    List *done;        // RowStatement *, of a shard in the order sent
    size_t bytes_under_way;
    int64 written;         // rows handed to write_row()
    int64 affected;        // rows that the shards say they have changed or locked
    Bitmapset *shards;     // that got rows
    const char *last_tail; // that was sent; null: none
};

// `row`: of the slots to come; `positions`: their columns in the order of the statement's
// parameters (integer List). In CurrentMemoryContext. The caller sets what is not the default.
RowWriter *make_row_writer(ModifyState *modify, const char *command, const char *tail,
                           TupleDesc row, List *positions);

// Adds a row; sends the shard's batch when it is full. `number`, where rows are numbered, comes
// back in the statement's. 54000 where rows that must go in one statement are too many for one.
void write_row(RowWriter *writer, int shard, TupleTableSlot *slot, int number = 0);

// Sends what is left and waits for everything; an error of any shard is raised.
void flush_rows(RowWriter *writer);

// Frees one of `done`.
void release_statement(RowStatement *statement);

} // namespace panvel
