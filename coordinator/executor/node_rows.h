// The rows of one remote query on one node, in the order the node sends them.
//
// A query whose result is known to be small is one statement. Any other is read through a
// cursor, batch by batch; the next batch is asked for when the reader begins with the one before,
// so that the node works while the coordinator does.
//
// Where another placement could answer instead, no row is handed out before all rows are here, or
// kHeldBytes of them: a node that fails before that has only lost what nobody has seen.
#pragma once

#include "coordinator/executor/codec.h"
#include "coordinator/remote/remote.h"

namespace panvel {

// The answer to one statement that stands for several queries: the rows of one after those of the
// other, and behind their columns the query's number, from 1.
struct SharedAnswer {
    RemoteRequest *request;
    int count;
    int *ends; // by query, the row after its last; null until the answer is there
    MemoryContext context;
};

struct NodeRows {
    int32 node_id;
    int64 shard_id; // 0: several
    const char *sql;
    const RemoteParams *params;
    RowDecoder *decoder;
    bool bounded;      // one statement gives all rows
    bool locks;        // rows, which stay so until the end of the transaction
    int batch_rows;    // rows per FETCH
    bool replaceable;  // another placement could answer
    bool may_be_stale; // the placement may lack acknowledged writes
    bool guarded;      // its failure must not end the transaction on the node
    bool optional;     // and is no more than a loss

    SharedAnswer *shared; // where the rows are; null: this query is sent by itself
    int shared_number;    // which of its queries this is, from 0
    bool shared_taken;    // the answer is there: rows from `row` to `row_end` of it
    int row_end;

    char *cursor;            // null before the cursor is declared
    RemoteRequest *declared; // the cursor's declaration, until it is known to have succeeded
    List *batches; // RemoteRequest *: the one being read, others that are here, one under way
    int arrived;   // how many of them are here
    bool finished; // nothing comes after `batches`
    size_t held_bytes;
    bool started; // rows may be handed out
    bool lost;    // the node failed before that
    int row;      // next row to hand out of the first batch or the shared answer

    // What EXPLAIN ANALYZE shows.
    int64 rows_received;
    int64 microseconds;

    MemoryContext context;     // requests, decoded values
    MemoryContext row_context; // the last row handed out
};

// Sends the query; does not wait.
void start_node_rows(NodeRows *rows);

// The next row, decoded into `values` and `isnull`, which stay valid until the call after.
// Waits for the node. False at the end, and where the node was lost (rows->lost).
bool next_node_row(NodeRows *rows, Datum *values, bool *isnull);

// Whether next_node_row() would not have to wait, by what has been read so far (remote_done()). One
// wait tells of all nodes; to read from each before it would be a call in vain for each that works.
bool node_row_ready(NodeRows *rows);

// The error by which the node was lost.
ErrorData *lost_error(NodeRows *rows);

// The request that next_node_row() would wait for, for remote_wait_any(); null when none.
RemoteRequest *awaited_request(NodeRows *rows);

// Ends the query, read to its end or not, and closes its cursor.
void stop_node_rows(NodeRows *rows);

} // namespace panvel
