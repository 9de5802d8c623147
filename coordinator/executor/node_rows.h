// The rows of one remote query on one node, in the order the node sends them.
//
// A query whose result is known to be small is one statement. Any other is read through a
// cursor, batch by batch; the next batch is asked for when the reader begins with the one before,
// so that the node works while the coordinator does.
#pragma once

#include "coordinator/executor/codec.h"
#include "coordinator/remote/remote.h"

namespace panvel {

struct NodeRows {
    int32 node_id;
    int64 shard_id; // 0: several
    const char *sql;
    const RemoteParams *params;
    RowDecoder *decoder;
    bool bounded;   // one statement gives all rows
    bool locks;     // rows, which stay so until the end of the transaction
    int batch_rows; // rows per FETCH

    char *cursor;            // null before the cursor is declared
    RemoteRequest *declared; // the cursor's declaration, until it is known to have succeeded
    RemoteRequest *request;  // the batch being read or waited for
    RemoteRequest *next;     // the batch after it, or null
    PGresult *result;        // of `request`, once it is there
    int row;                 // next row to hand out of `result`
    bool finished;           // no batch after `request`

    // What EXPLAIN ANALYZE shows.
    int64 rows_received;
    int64 microseconds;

    MemoryContext context;     // requests, decoded values
    MemoryContext row_context; // the last row handed out
};

// Sends the query; does not wait.
void start_node_rows(NodeRows *rows);

// The next row, decoded into `values` and `isnull`, which stay valid until the call after.
// Waits for the node. False at the end.
bool next_node_row(NodeRows *rows, Datum *values, bool *isnull);

// Whether next_node_row() would not have to wait.
bool node_row_ready(NodeRows *rows);

// The request that next_node_row() would wait for, for remote_wait_any(); null when none.
RemoteRequest *awaited_request(NodeRows *rows);

// Ends the query, read to its end or not, and closes its cursor.
void stop_node_rows(NodeRows *rows);

} // namespace panvel
