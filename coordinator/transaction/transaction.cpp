// The end of the local transaction, carried to the nodes. README.md has the protocol.
#include "coordinator/transaction/transaction.h"

#include "coordinator/core/gid.h"
#include "coordinator/remote/connection.h"
#include "coordinator/replication/in_sync.h"
#include "coordinator/transaction/commit_record.h"
#include "coordinator/transaction/crash_point.h"
#include "coordinator/transaction/doubt.h"
#include "coordinator/transaction/recovery_worker.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
}

namespace panvel {
namespace {

// How long an abort waits for its cancels; what has not ended by then loses its connection.
constexpr int kCancel_ms = 1000;
// Before a COMMIT PREPARED is sent again to a node where it was busy.
constexpr int kBusy_ms = 5;

// From a commit on a node until the local one: an interrupt there would report a failure of what
// has been committed.
bool interrupts_held;

void hold_interrupts() {
    if (!interrupts_held)
        HOLD_INTERRUPTS();
    interrupts_held = true;
}

void resume_interrupts() {
    if (interrupts_held)
        RESUME_INTERRUPTS();
    interrupts_held = false;
}

TimestampTz after(int milliseconds) {
    return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), milliseconds);
}

// Calls `body` for every connection that the local transaction uses.
template <typename Body> void for_each_used(Body &&body) {
    dlist_iter iter;
    dlist_foreach(iter, &connections) {
        Connection *connection = dlist_container(Connection, node, iter.cur);
        if (connection->used)
            body(connection);
    }
}

bool any_used() {
    bool any = false;
    for_each_used([&](Connection *) { any = true; });
    return any;
}

bool wrote(const Connection *connection) {
    return connection->write_level > 0;
}

// Whether the transaction would not be whole without what it has done there.
bool is_counted_on(const Connection *connection) {
    return wrote(connection) || connection->lock_level > 0;
}

enum class Interrupts {
    kRaise,  // as anywhere
    kReturn, // the wait ends at once, for a deadlock's victim too; nothing is raised
    kStop,   // the wait ends within kCancel_ms, nothing is raised
    kIgnore, // the wait goes on
};

// Waits until the connections that `chosen` names are quiet. False at the deadline, 0 for none.
template <typename Chosen>
bool wait_for_quiet(Chosen &&chosen, TimestampTz deadline, Interrupts interrupts) {
    bool interrupted = false;
    for (;;) {
        bool quiet = true;
        for_each_used([&](Connection *connection) {
            if (chosen(connection) && !is_quiet(connection))
                quiet = false;
        });
        if (quiet)
            return true;
        if (deadline != 0 && GetCurrentTimestamp() >= deadline)
            return false;
        if (interrupts == Interrupts::kReturn &&
            (QueryCancelPending || ProcDiePending || is_chosen()))
            return false;
        if (interrupts == Interrupts::kStop && !interrupted &&
            (QueryCancelPending || ProcDiePending)) {
            interrupted = true;
            TimestampTz latest = after(kCancel_ms);
            deadline = deadline == 0 ? latest : Min(deadline, latest);
        }
        wait_for_progress(deadline, interrupts == Interrupts::kRaise);
    }
}

// As long as it takes, but for connections on which nothing comes while their server does not
// answer the monitor either (those are closed), or that have `limit_ms` when nobody monitors their
// server.
template <typename Chosen>
bool wait_while_alive(Chosen &&chosen, int limit_ms, Interrupts interrupts) {
    bool monitored = monitor_runs();
    for_each_used([&](Connection *connection) {
        ServerState state;
        if (chosen(connection) && !read_server(connection->server, &state))
            monitored = false;
    });
    return wait_for_quiet(chosen, monitored ? 0 : after(limit_ms), interrupts);
}

bool answered_with(const Connection *connection, const char *tag) {
    return connection->control != nullptr &&
           PQresultStatus(connection->control) == PGRES_COMMAND_OK &&
           strcmp(PQcmdStatus(connection->control), tag) == 0;
}

int control_error(const Connection *connection) {
    return connection->control != nullptr &&
                   PQresultStatus(connection->control) == PGRES_FATAL_ERROR
               ? sqlstate_of(connection->control)
               : 0;
}

// A rollback undoes the settings that were sent inside the transaction.
void settings_rolled_back(Connection *connection) {
    if (!connection->settings_in_transaction)
        return;
    release_settings(connection->settings);
    connection->settings = nullptr;
    connection->settings_in_transaction = false;
}

// --------------------------------------------------------------------------------- commit

// Reads that nobody waits for any more are cancelled, also in the middle of their transaction;
// on a node with writes or row locks they are waited for, because a cancel would undo those.
void settle() {
    wait_for_quiet(is_counted_on, 0, Interrupts::kRaise);
    cancel_requests(1, after(Min(kCancel_ms, node_timeout_ms)));
}

void check_participants() {
    for_each_used([](Connection *connection) {
        if (!is_counted_on(connection))
            return;
        // Found only after COMMIT has been sent, that would be an unknown outcome.
        if (connection->phase == Phase::kReady && was_closed_by_worker(connection))
            close_connection(connection, Failure{});
        if (connection->phase != Phase::kReady || connection->lost || connection->depth == 0)
            ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
                            errmsg("the connection to node \"%s\" was lost", connection->node_name),
                            wrote(connection)
                                ? errdetail("The transaction had written there and is rolled back.")
                                : errdetail("The transaction had locked rows there and is rolled "
                                            "back.")));
        if (PQtransactionStatus(connection->watched.pg) == PQTRANS_INERROR)
            ereport(ERROR, (errcode(ERRCODE_IN_FAILED_SQL_TRANSACTION),
                            errmsg("a statement failed on node \"%s\" in this transaction",
                                   connection->node_name)));
    });
}

void raise_control_error(const Connection *connection) {
    if (control_error(connection) != 0)
        ThrowErrorData(error_of_result(connection->control, connection->node_name));
}

// Readers are told last of all and their answer is not needed: nothing hangs on it.
void end_readers(bool commit) {
    for_each_used([commit](Connection *connection) {
        if (!wrote(connection) && connection->phase == Phase::kReady && connection->depth > 0) {
            send_control(connection, commit ? "COMMIT" : "ROLLBACK", nullptr, 1);
            if (commit)
                connection->settings_in_transaction = false;
            else
                settings_rolled_back(connection);
        }
    });
}

void commit_in_one_phase(Connection *writer) {
    PANVEL_CRASH_POINT("before_commit");
    hold_interrupts();
    send_control(writer, "COMMIT", nullptr, 1);
    bool quiet = wait_while_alive([writer](Connection *other) { return other == writer; },
                                  node_timeout_ms, Interrupts::kReturn);
    if (!quiet && writer->phase == Phase::kReady) { // it may wait for a deferred constraint
        cancel_requests(0, after(kCancel_ms));
        quiet = writer->phase == Phase::kReady;
    }
    if (quiet && answered_with(writer, "COMMIT")) {
        writer->settings_in_transaction = false;
        return; // interrupts stay held until the local transaction has ended as well
    }
    if (quiet && writer->control != nullptr) {
        resume_interrupts();
        if (control_error(writer) == ERRCODE_QUERY_CANCELED) { // by us, who know why
            check_for_deadlock();
            CHECK_FOR_INTERRUPTS();
        }
        raise_control_error(writer);
        ereport(ERROR, (errcode(ERRCODE_TRANSACTION_ROLLBACK),
                        errmsg("node \"%s\" rolled the transaction back", writer->node_name)));
    }
    Failure failure = make_failure(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN, nullptr, nullptr);
    close_connection(writer, failure);
    free_failure(&failure);
    resume_interrupts();
    ereport(ERROR, (errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
                    errmsg("it is unknown whether the transaction was committed"),
                    errdetail("Node \"%s\" did not answer its COMMIT.", writer->node_name),
                    errhint("Look at the data before trying again.")));
}

uint64 new_nonce() {
    static uint64 base;
    static int owner;
    static uint64 counter;
    if (owner != MyProcPid) {
        if (!pg_strong_random(&base, sizeof(base)))
            ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
                            errmsg("could not generate a random transaction name")));
        owner = MyProcPid;
    }
    return base + ++counter;
}

void name_prepared(Connection *connection, uint64 transaction, uint64 nonce, int32 branch) {
    pg::core([&] {
        std::string name = format_gid(Gid{GetSystemIdentifier(), MyDatabaseId, transaction, nonce,
                                          connection->node_id, branch});
        strlcpy(connection->gid, name.c_str(), sizeof(connection->gid));
    });
}

void send_prepare(Connection *connection) {
    char command[300];
    snprintf(command, sizeof(command), "PREPARE TRANSACTION '%s'", connection->gid);
    connection->vote = Vote::kPreparing;
    send_control(connection, command, nullptr, 1);
    if (PANVEL_CRASH_POINT_IS("between_prepares")) {
        wait_for_quiet([connection](Connection *other) { return other == connection; }, 0,
                       Interrupts::kRaise);
        PANVEL_CRASH_POINT("between_prepares");
    }
}

void check_prepared(Connection *connection) {
    if (answered_with(connection, "PREPARE TRANSACTION")) {
        connection->vote = Vote::kPrepared;
        connection->settings_in_transaction = false;
        return;
    }
    if (connection->control == nullptr)
        return;
    connection->vote = Vote::kNone; // refused: the node has rolled back
    settings_rolled_back(connection);
}

void raise_unprepared(Connection *connection) {
    if (connection->vote == Vote::kPrepared)
        return;
    raise_control_error(connection);
    if (connection->vote == Vote::kNone)
        ereport(ERROR, (errcode(ERRCODE_TRANSACTION_ROLLBACK),
                        errmsg("node \"%s\" rolled the transaction back", connection->node_name)));
    ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
                    errmsg("node \"%s\" did not prepare its part of the transaction",
                           connection->node_name),
                    errdetail("The transaction is rolled back.")));
}

void prepare_all(List *writers) {
    uint64 transaction = U64FromFullTransactionId(GetTopFullTransactionId());
    uint64 nonce = new_nonce();
    PANVEL_CRASH_POINT("before_prepare");
    List *nodes = NIL;
    int32 branch = 0;
    ListCell *cell;
    foreach (cell, writers) {
        Connection *connection = static_cast<Connection *>(lfirst(cell));
        name_prepared(connection, transaction, nonce, branch++);
        nodes = list_append_unique_int(nodes, connection->node_id);
    }
    foreach (cell, writers)
        send_prepare(static_cast<Connection *>(lfirst(cell)));
    wait_while_alive(wrote, node_timeout_ms, Interrupts::kRaise);
    foreach (cell, writers)
        check_prepared(static_cast<Connection *>(lfirst(cell)));
    foreach (cell, writers)
        raise_unprepared(static_cast<Connection *>(lfirst(cell)));
    PANVEL_CRASH_POINT("after_prepare");
    insert_commit_record(transaction, nonce, nodes);
    ForceSyncCommit();
    want_recovery(false);
    PANVEL_CRASH_POINT("after_record");
}

// May raise; the transaction then aborts.
void pre_commit() {
    if (!any_used())
        return;
    settle();
    check_participants();
    List *writers = NIL;
    for_each_used([&](Connection *connection) {
        if (wrote(connection))
            writers = lappend(writers, connection);
    });
    confirm_epochs(); // of row locks, too
    if (writers == NIL) {
        end_readers(true);
        return;
    }
    // A serializable transaction may still fail locally after this point.
    bool alone = list_length(writers) == 1 && !IsolationIsSerializable() &&
                 !TransactionIdIsValid(GetTopTransactionIdIfAny());
    if (alone)
        commit_in_one_phase(static_cast<Connection *>(linitial(writers)));
    else
        prepare_all(writers);
    end_readers(true);
}

void send_commit_prepared(Connection *connection) {
    char command[300];
    snprintf(command, sizeof(command), "COMMIT PREPARED '%s'", connection->gid);
    send_control(connection, command, nullptr, 0);
}

// Where recovery came to the same transaction first and is not through.
bool is_busy(const Connection *connection) {
    return connection->vote == Vote::kPrepared && connection->phase == Phase::kReady &&
           control_error(connection) == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

// True when there was something to ask again.
bool commit_what_was_busy(TimestampTz deadline) {
    bool any = false;
    for_each_used([&](Connection *connection) { any |= is_busy(connection); });
    if (!any || GetCurrentTimestamp() >= deadline || QueryCancelPending || ProcDiePending)
        return false;
    pg_usleep(kBusy_ms * 1000L);
    for_each_used([](Connection *connection) {
        if (is_busy(connection))
            send_commit_prepared(connection);
    });
    return true;
}

// The local transaction is committed. What does not get done here is recovery's.
void finish_commit() {
    PANVEL_CRASH_POINT("after_local_commit");
    bool first = true;
    for_each_used([&](Connection *connection) {
        if (connection->vote != Vote::kPrepared)
            return;
        send_commit_prepared(connection);
        if (first && PANVEL_CRASH_POINT_IS("between_commit_prepared")) {
            wait_for_quiet([&](Connection *other) { return other == connection; },
                           after(node_timeout_ms), Interrupts::kStop);
            PANVEL_CRASH_POINT("between_commit_prepared");
        }
        first = false;
    });
    auto ends = [](Connection *connection) { return connection->phase != Phase::kClosed; };
    TimestampTz deadline = after(node_timeout_ms);
    bool quiet;
    do {
        quiet = wait_for_quiet(ends, deadline, Interrupts::kStop);
    } while (quiet && commit_what_was_busy(deadline));
    if (!quiet) {
        for_each_used([](Connection *connection) {
            if (!is_quiet(connection))
                close_connection(connection, Failure{});
        });
    }
}

// Readers must not miss what the client is about to be told is committed.
void mark_unconfirmed() {
    for_each_used([](Connection *connection) {
        if (connection->vote == Vote::kPrepared && !answered_with(connection, "COMMIT PREPARED") &&
            control_error(connection) != ERRCODE_UNDEFINED_OBJECT) // recovery was quicker
            mark_in_doubt(connection->node_id);
    });
}

// --------------------------------------------------------------------------------- abort

void send_rollbacks() {
    for_each_used([](Connection *connection) {
        if (connection->phase != Phase::kReady)
            return;
        if (connection->vote != Vote::kNone) {
            char command[300];
            snprintf(command, sizeof(command), "ROLLBACK PREPARED '%s'", connection->gid);
            send_control(connection, command, nullptr, 0);
        } else if (connection->depth > 0) {
            send_control(connection, "ROLLBACK", nullptr, 1);
        }
        settings_rolled_back(connection);
    });
}

void finish_abort() {
    TimestampTz deadline = after(Min(kCancel_ms, node_timeout_ms));
    bool preparing = false; // which may wait for a lock; other control is quick
    for_each_used(
        [&](Connection *connection) { preparing |= connection->vote == Vote::kPreparing; });
    cancel_requests(preparing ? 0 : 1, deadline);
    send_rollbacks();
    auto started = [](Connection *connection) { return connection->phase == Phase::kReady; };
    if (!wait_for_quiet(started, Max(deadline, after(200)), Interrupts::kIgnore)) {
        for_each_used([](Connection *connection) {
            if (!is_quiet(connection))
                close_connection(connection, Failure{});
        });
    }
    for_each_used([](Connection *connection) {
        // A transaction that answered its ROLLBACK with an error is in no state to go on.
        if (connection->phase == Phase::kReady &&
            PQtransactionStatus(connection->watched.pg) != PQTRANS_IDLE)
            close_connection(connection, Failure{});
    });
}

// What is left prepared holds its locks until recovery rolls it back.
void report_left_prepared() {
    for_each_used([](Connection *connection) {
        if (connection->vote != Vote::kNone && !answered_with(connection, "ROLLBACK PREPARED") &&
            control_error(connection) != ERRCODE_UNDEFINED_OBJECT)
            want_recovery(true);
    });
}

// Runs what must not raise: an error inside closes all connections, which ends everything that
// is not prepared, and leaves what is prepared to recovery.
template <typename Body> void without_raising(Body &&body) {
    MemoryContext context = CurrentMemoryContext;
    may_reconnect = false;
    PG_TRY();
    {
        pg::entry([&] { body(); });
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        FlushErrorState();
        close_all_connections();
    }
    PG_END_TRY();
    may_reconnect = true;
}

void forget_all() {
    for_each_used([](Connection *connection) { forget_transaction(connection); });
    end_session_transaction();
}

void refuse_prepare() {
    for_each_used([](Connection *connection) {
        if (connection->depth > 0 || wrote(connection))
            ereport(ERROR,
                    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                     errmsg("PREPARE TRANSACTION is not possible in a transaction that has used "
                            "other nodes"),
                     errhint("COMMIT it: it is atomic on all nodes.")));
    });
}

void at_transaction_event(XactEvent event, void *) {
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE || event == XACT_EVENT_ABORT)
        forget_written();
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
        pg::entry([] { pre_commit(); });
        break;
    case XACT_EVENT_PRE_PREPARE:
        pg::entry([] { refuse_prepare(); });
        break;
    case XACT_EVENT_COMMIT:
        if (any_used()) {
            without_raising(finish_commit);
            mark_unconfirmed();
            forget_all();
        }
        resume_interrupts();
        break;
    case XACT_EVENT_PREPARE:
        without_raising([] { cancel_requests(1, after(kCancel_ms)); });
        forget_all();
        break;
    case XACT_EVENT_ABORT:
        interrupts_held = false; // the error has reset the count
        if (any_used()) {
            without_raising(finish_abort);
            report_left_prepared();
            forget_all();
        }
        break;
    default:
        break;
    }
}

// --------------------------------------------------------------------------------- savepoints

void commit_level(int level) {
    char command[40];
    snprintf(command, sizeof(command), "RELEASE SAVEPOINT s%d", level);
    for_each_used([&](Connection *connection) {
        if (connection->write_level == level)
            connection->write_level = level - 1;
        if (connection->lock_level == level)
            connection->lock_level = level - 1;
        if (connection->phase != Phase::kClosed)
            send_control(connection, command, nullptr, level);
    });
}

void abort_level(int level) {
    cancel_requests(level, after(Min(kCancel_ms, node_timeout_ms)));
    char rollback[60];
    char release[60];
    snprintf(rollback, sizeof(rollback), "ROLLBACK TO SAVEPOINT s%d", level);
    snprintf(release, sizeof(release), "RELEASE SAVEPOINT s%d", level);
    for_each_used([&](Connection *connection) {
        if (connection->write_level >= level)
            connection->write_level = 0;
        if (connection->lock_level >= level)
            connection->lock_level = 0;
        if (connection->phase != Phase::kReady || connection->depth < level)
            return;
        send_control(connection, rollback, release, level);
        settings_rolled_back(connection);
    });
}

void at_subtransaction_event(SubXactEvent event, SubTransactionId, SubTransactionId, void *) {
    if (event != SUBXACT_EVENT_PRE_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
        return;
    if (!any_used())
        return;
    int level = GetCurrentTransactionNestLevel();
    if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
        pg::entry([level] { commit_level(level); });
    else
        without_raising([level] { abort_level(level); });
}

} // namespace

bool transaction_wrote_on(int32 node_id) {
    bool found = false;
    for_each_used([&](Connection *connection) {
        found |= connection->node_id == node_id && wrote(connection);
    });
    return found;
}

void prevent_in_distributed_transaction(const char *statement) {
    for_each_used([statement](Connection *connection) {
        if (connection->depth > 0 || wrote(connection) || !is_quiet(connection))
            ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                            errmsg("%s cannot run inside a transaction that has used other nodes",
                                   statement)));
    });
}

void init_transaction() {
    init_crash_points();
    init_doubt();
    init_recovery_worker();
    RegisterXactCallback(at_transaction_event, nullptr);
    RegisterSubXactCallback(at_subtransaction_event, nullptr);
}

} // namespace panvel
