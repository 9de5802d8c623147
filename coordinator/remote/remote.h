// Statements on other nodes, asynchronously.
//
// A backend keeps one connection to each node it talks to. On it requests are queued in order
// and sent in libpq's pipeline mode; results are handed to their requests as they arrive, so
// that any number of scans and writes share a connection without waiting for each other's
// consumer. Each request's result is complete when it is done: what may be large is read through
// a cursor, FETCH by FETCH.
//
// Nothing here blocks but remote_wait*() and they wait on the backend's latch as well: query
// cancel, statement_timeout, a lost client and postmaster death end a wait at once. A failed
// transaction cancels what is still under way on its connections.
//
// Remote transactions follow the local one (coordinator/transaction): a request joins the
// transaction on its node, which is begun with the first one, in the same message. Settings that
// change answers (TimeZone, hnsw.*, ...) are brought up to date the same way.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "libpq-fe.h"
#include "nodes/pg_list.h"
}

namespace panvel {

// What a statement does to the remote transaction.
enum class Effect {
    // Complete in itself: runs without a remote transaction where none is open on the node and
    // the local isolation level is READ COMMITTED.
    kReadOnce,
    // Needs the remote transaction to stay open (cursors).
    kRead,
    // Takes row locks that the transaction counts on: it fails when they are lost with their
    // connection. The node has no part in the decision of the commit.
    kLock,
    // Writes: the node takes part in the commit.
    kWrite,
    // Runs outside any transaction (VACUUM, CREATE DATABASE ...). An error when a remote
    // transaction is open on the node.
    kNoTransaction,
};

// Parameters of a statement. Arrays of `count`, in the caller's memory until remote_send()
// returns. A type of 0 lets the statement's own cast decide.
struct RemoteParams {
    int count;
    const Oid *types;
    const char *const *values; // null for SQL NULL
    const int *lengths;
    const int *formats; // 0 text, 1 binary
};

struct RemoteStatement {
    const char *sql;            // one command
    const RemoteParams *params; // may be null
    Effect effect;
    bool keep_prepared;                // parse once per connection and keep the prepared statement
    bool binary_results;               // columns arrive in binary form; else as text
    const char *search_path = nullptr; // null: pg_catalog, under which we deparse
    int64 shard_id = 0;                // what panvel.activity shows; 0: several shards, or none
    // kReadOnce: should it fail, the remote transaction goes on as before.
    bool guarded = false;
    bool may_be_stale = false; // a node in doubt may answer, too (transaction/doubt.h)
};

struct RemoteRequest; // opaque; see the accessors

// Queues `statement` on the node's connection, opening one where there is none. Does not wait.
// The request belongs to CurrentMemoryContext: resetting the context discards it and its result
// (a result that arrives later is dropped). Errors: an unknown node; a node known to be down.
RemoteRequest *remote_send(int32 node_id, const RemoteStatement *statement);

// COPY ... FROM STDIN with its whole payload (`size` bytes, copied). The result is the command's.
RemoteRequest *remote_send_copy(int32 node_id, const char *copy_sql, const char *data, size_t size);

// Waits until the request is done and returns its result (PGRES_TUPLES_OK or PGRES_COMMAND_OK),
// owned by the request. A remote error is raised here as if it were local: SQLSTATE, message,
// detail, hint, schema, table, column, constraint; the node's name in the context. A lost
// connection is 08006, one that cannot be made 08001.
PGresult *remote_wait(RemoteRequest *request);

// Waits until one of the requests is done (null entries are passed over) and returns its index;
// -1 when all are null, or at the deadline (0: none). Does not raise the request's error:
// remote_wait() on it does, at once.
int remote_wait_any(RemoteRequest *const *requests, int count, TimestampTz deadline = 0);

// Whether the request is done (its result or error is there), by what has been read so far: whoever
// waits for any request reads what has arrived for all.
bool remote_done(const RemoteRequest *request);
// The same, after reading what has arrived.
bool remote_poll(RemoteRequest *request);

// The error of a request that is done, or null: a copy in CurrentMemoryContext.
ErrorData *remote_error(RemoteRequest *request);

// Whether an error of this SQLSTATE says that the node or the connection to it failed, and nothing
// about the statement.
bool is_node_failure(int sqlstate);

// Frees the request and its result before its memory context does.
void remote_release(RemoteRequest *request);

// Time from sending to the arrival of the complete result, in microseconds; 0 while under way.
int64 remote_elapsed(const RemoteRequest *request);
int32 remote_node(const RemoteRequest *request);

// Rows affected, from the command tag ("INSERT 0 5" is 5).
int64 remote_affected(PGresult *result);

// Sends the same statement to every node of the list (of node_id, integer List), waits for all,
// and raises the first error.
void remote_execute_on_nodes(List *node_ids, const char *sql, Effect effect);

// A name for a cursor or prepared statement that no other in this session has.
char *remote_unique_name(const char *prefix);

void init_remote(); // settings and callbacks; from _PG_init

} // namespace panvel
