// Inside coordinator/remote and coordinator/transaction: connections and what is queued on them.
// Users of remote statements need remote.h only. README.md explains the protocol.
#pragma once

#include "coordinator/catalog/metadata.h"
#include "coordinator/monitor/sessions.h"
#include "coordinator/remote/remote.h"
#include "coordinator/remote/settings.h"

extern "C" {
#include "lib/ilist.h"
#include "portability/instr_time.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"
}

namespace panvel {

// A libpq connection that the backend's wait set watches; the first member of what embeds it.
struct Watched {
    dlist_node node;
    PGconn *pg;
    bool wants_write;         // wait until the socket takes data, not only until it has some
    bool only_write;          // connecting: do not wake for input
    int position;             // in the wait set
    uint32 events;            // what the wait set waits for
    TimestampTz heard_at;     // when something last arrived
    void (*ready)(Watched *); // the socket is ready, or time has passed
};

struct Connection;
struct RemoteRequest;

// An error that no remote server sent: a connection that failed.
struct Failure {
    int sqlstate; // 0: none
    char *message;
    char *detail; // may be null
};

struct PreparedStatement {
    uint64 key; // hash of sql and types; the hash table's key
    char *sql;
    uint64 number;     // its name on the worker is "panvel_<number>"
    uint64 used;       // the higher, the later
    uint64 generation; // definition_generation() when it was prepared
};

enum class EntryKind {
    kStatement,
    kCopy,
    kControl, // transaction control: begins no transaction and forwards no settings
};

enum class Stage {
    kQueued,
    kPrefix,   // outside the pipeline: BEGIN and settings are under way, the statement is not
    kBody,     // the statement is under way
    kCopyData, // COPY: its data are being sent
};

// A statement in a connection's queue, with all that is needed to send it, perhaps once more.
struct Entry {
    dlist_node node; // in Connection::under_way or queue
    Connection *connection;
    RemoteRequest *request; // who wants the result; null: nobody (any more)
    EntryKind kind;
    Effect effect;
    Stage stage;
    bool pipelined;
    bool needs_transaction;
    bool read_only;
    bool keep_prepared;
    bool binary_results;
    bool retryable;
    bool guarded;    // inside a savepoint of its own where there is a transaction
    bool ends_guard; // kControl: the end of that savepoint, if one was set
    int level;       // local nesting level it belongs to
    int64 shard_id;
    const Settings *settings;
    const char *sql;
    const char *second_sql; // kControl: a further command of the same group, or null
    RemoteParams params;
    const char *data; // kCopy
    size_t data_size;
    size_t data_sent;
    uint64 prepared;  // key of the prepared statement it uses, 0: none
    bool parses;      // and the group holds its Parse
    bool sets;        // the group changes settings
    int parse_step;   // which command of the group the Parse is
    int step;         // commands of the group whose results are complete
    int nulls;        // consecutive ends of results
    PGresult *result; // so far: the last success or the first error
    instr_time sent_at;
};

// Where a connection's remote transaction stands in the two-phase commit.
enum class Vote { kNone, kPreparing, kPrepared };

enum class Phase { kClosed, kConnecting, kReady };

struct Connection {
    Watched watched;
    dlist_node node; // in connections
    int32 node_id;
    Oid user_id;
    char *node_name;
    char *host;
    int32 port;
    char *dbname;
    char *user_name;
    ServerHandle server;
    int session;       // place in shared memory (monitor/sessions.h); -1: none
    const void *shown; // what it says there
    Activity shown_as;

    Phase phase;
    TimestampTz deadline; // kConnecting
    bool descriptor_held; // counted by AcquireExternalFD()
    bool pipeline;
    Entry *exclusive;     // being run outside the pipeline
    dlist_head under_way; // sent, in order of their answers
    dlist_head queue;     // not sent yet

    int depth;       // remote nesting, as sent: 0 no transaction, 1 BEGIN, n SAVEPOINT s<n>
    int write_level; // lowest local nesting level that wrote; 0: nothing written
    int lock_level;  // likewise, that took row locks
    bool used;       // by the current local transaction
    bool answered;   // something has arrived since the current local transaction began to use it
    bool fresh;      // made in the current local transaction
    bool lost;       // a remote transaction went down with its connection
    Vote vote;
    char gid[200];
    PGresult *control; // result of the last control entry; null: none, or lost

    const Settings *settings;     // what the worker's session has; null: unknown
    bool settings_in_transaction; // some of it would be undone by a rollback
    bool guarded;                 // the savepoint of a guarded statement is set, as sent
    HTAB *prepared;               // of PreparedStatement
};

extern dlist_head connections;
extern MemoryContext remote_context;
extern int connect_timeout_ms;
extern int node_timeout_ms;
extern int max_connections_per_node;
extern bool may_reconnect; // false while a transaction ends

// connection.cpp
// The current user's connection to the node, ready to take requests: opened, or opened anew, when
// needed; its start is not waited for. `may_send_again`: what is sent is harmless to send twice, so
// that a connection used just now need not be looked at before. A node that cannot even be tried
// leaves it kClosed with `failure` filled.
Connection *connection_to(int32 node_id, bool may_send_again, Failure *failure);
bool start_connection(Connection *connection, Failure *failure);
// A quiet connection has nothing to read, unless the worker has closed it.
bool was_closed_by_worker(Connection *connection);
// Closes the socket; what is queued fails with `failure`.
void close_connection(Connection *connection, const Failure &failure);
// The connection broke, or the remote end sent nonsense (`text`).
void connection_failed(Connection *connection, const char *text);
// Back to a state without a local transaction.
void forget_transaction(Connection *connection);
void close_all_connections();
// A connection of its own to the same node, as the same user, being started; null if that failed.
PGconn *start_auxiliary(Connection *connection);
// Brings what shared memory says of the connection up to date.
void show_connection(Connection *connection);

// send.cpp
Entry *make_entry(Connection *connection, EntryKind kind, const char *sql,
                  const RemoteParams *params, const char *data, size_t size);
void enqueue(Entry *entry);
// Sends what can be sent now.
void send_queued(Connection *connection);
// Queues the end of the guarded statement's savepoint, right behind it.
void send_guard_end(Connection *connection);
// Queues transaction control. `level` 0: the transaction's; else for the savepoint of that level.
void send_control(Connection *connection, const char *sql, const char *second_sql, int level);

// Sends an entry's statement outside the pipeline, once its prefix is done.
bool send_body(Entry *entry);
// Sends more of a COPY's data; false while some is left. -1 in `*broken` when the connection is.
bool send_copy_data(Entry *entry, bool *broken);
// Ends a COPY's data with an error; the server discards what it has.
void abort_copy(Entry *entry);
void forget_prepared(Connection *connection, uint64 key);

// receive.cpp
// Takes what has arrived and hands it out.
void read_results(Connection *connection);
// Takes the entry out of its list, gives its outcome to its request and frees it.
void finish_entry(Entry *entry, const Failure *failure);
void connection_ready(Watched *watched);

// wait.cpp
void watch(Watched *watched);
void unwatch(Watched *watched);
void watched_changed(); // a socket was replaced
// Waits for something to happen on any connection, at most until `deadline` (0: for ever), and
// acts on it. With `interruptible`, checks for interrupts: may raise.
void wait_for_progress(TimestampTz deadline, bool interruptible);

// silence.cpp
// How long a wait may last before look_after_connections() is due, in milliseconds.
constexpr int kAttention_ms = 100;
// For connections on which a statement has been under way for a moment: has the server probed,
// fails those on a server that has been silent for panvel.node_timeout, and asks for a search for
// deadlocks after deadlock_timeout. Cheap; does its work every kAttention_ms.
void look_after_connections();
// Raises 40P01 when the local transaction has been chosen as a deadlock's victim.
void check_for_deadlock();

// error.cpp
ErrorData *error_of_result(const PGresult *result, const char *node_name);
ErrorData *error_of_failure(const Failure &failure, const char *node_name);
Failure make_failure(int sqlstate, const char *message, const char *detail);
void free_failure(Failure *failure);
int sqlstate_of(const PGresult *result);
void receive_notice(void *connection, const PGresult *notice);

// remote.cpp
// Hands a result (ownership passes) or a failure to the request.
void deliver(RemoteRequest *request, PGresult *result, const Failure *failure, int64 elapsed);

// cancel.cpp
// Ends what is under way on connections for requests of local nesting level `level` and above:
// unsent requests are dropped, running ones cancelled and their end waited for, at most until
// `deadline`. Transaction control is left to run, but with level 0 cancelled as well. A connection
// that is not quiet by then is closed. Raises nothing but out of memory; does not check for
// interrupts.
void cancel_requests(int level, TimestampTz deadline);

// Nothing under way, nothing queued.
inline bool is_quiet(const Connection *connection) {
    return dlist_is_empty(const_cast<dlist_head *>(&connection->under_way)) &&
           dlist_is_empty(const_cast<dlist_head *>(&connection->queue));
}

} // namespace panvel
