// The background workers that resolve what was left prepared: a launcher, and for each pass over a
// database a short-lived worker, which holds neither a session here nor one on a node in between.
#include "coordinator/transaction/recovery_worker.h"

#include "coordinator/monitor/servers.h"
#include "coordinator/replication/catch_up.h"
#include "coordinator/transaction/commit_record.h"
#include "coordinator/transaction/doubt.h"
#include "coordinator/transaction/recovery.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
}

namespace panvel {
namespace {

// Between passes that nobody waits for; they also remove the records of finished commits.
constexpr int kPeriod_ms = 5000;
// Between urgent passes, so that readers of a node that is down do not keep a worker spinning.
constexpr int kPause_ms = 100;

MemoryContext launcher_context;

void fill_worker(BackgroundWorker *worker, const char *function, const char *name) {
    memset(worker, 0, sizeof(*worker));
    worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
    strlcpy(worker->bgw_library_name, "panvel", sizeof(worker->bgw_library_name));
    strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
    strlcpy(worker->bgw_name, name, BGW_MAXLEN);
    strlcpy(worker->bgw_type, name, BGW_MAXLEN);
}

// Databases that take connections, as Oid List in launcher_context.
List *connectable_databases() {
    List *databases = NIL;
    StartTransactionCommand();
    (void)GetTransactionSnapshot();
    Relation relation = table_open(DatabaseRelationId, AccessShareLock);
    TableScanDesc scan = table_beginscan_catalog(relation, 0, nullptr);
    HeapTuple tuple;
    while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection))) {
        auto *database = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
        if (!database->datallowconn || database->datistemplate)
            continue;
        MemoryContext before = MemoryContextSwitchTo(launcher_context);
        databases = lappend_oid(databases, database->oid);
        MemoryContextSwitchTo(before);
    }
    table_endscan(scan);
    table_close(relation, AccessShareLock);
    CommitTransactionCommand();
    return databases;
}

bool database_exists(Oid database) {
    StartTransactionCommand();
    bool exists = get_database_name(database) != nullptr;
    CommitTransactionCommand();
    return exists;
}

// Nobody else would notice that their nodes need no probes any more.
void forget_dropped_databases() {
    List *databases = databases_with_nodes();
    ListCell *cell;
    foreach (cell, databases)
        if (!database_exists(lfirst_oid(cell)))
            forget_nodes_of(lfirst_oid(cell));
    list_free(databases);
}

// Runs a worker over the database and waits for its end. False when it did not get through.
bool run_worker(Oid database) {
    BackgroundWorker worker;
    fill_worker(&worker, "panvel_recovery_main", "panvel recovery");
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_main_arg = ObjectIdGetDatum(database);
    worker.bgw_notify_pid = MyProcPid;
    BackgroundWorkerHandle *handle;
    if (!RegisterDynamicBackgroundWorker(&worker, &handle))
        return false; // max_worker_processes are in use
    BgwHandleStatus status = WaitForBackgroundWorkerShutdown(handle);
    pfree(handle);
    if (status == BGWH_POSTMASTER_DIED)
        proc_exit(1);
    return last_worker_done() == database;
}

// After a start every database may have something left from before.
bool look_through_all() {
    bool all = true;
    List *databases = connectable_databases();
    ListCell *cell;
    foreach (cell, databases)
        if (!run_worker(lfirst_oid(cell)) && database_exists(lfirst_oid(cell)))
            all = false;
    list_free(databases);
    return all;
}

void run_wanted(bool only_urgent) {
    // One round: a wish that comes back in the meantime is for the next.
    Oid first = InvalidOid;
    for (Oid database; OidIsValid(database = next_wanted(only_urgent));) {
        if (database == first) {
            want_recovery_of(database);
            break;
        }
        if (!database_exists(database)) {
            forget_database(database);
            continue;
        }
        uint64 passes = passes_of(database);
        if (!run_worker(database) || passes_of(database) == passes)
            want_recovery_of(database);
        if (!OidIsValid(first))
            first = database;
    }
}

void launch() {
    launcher_context =
        AllocSetContextCreate(TopMemoryContext, "panvel recovery launcher", ALLOCSET_SMALL_SIZES);
    MemoryContextSwitchTo(launcher_context);
    announce_launcher();
    bool seen_all = false;
    TimestampTz next_round = GetCurrentTimestamp();
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        bool round = GetCurrentTimestamp() >= next_round;
        if (round && !seen_all) {
            seen_all = look_through_all();
            if (seen_all)
                launcher_has_seen_all();
        }
        run_wanted(!round);
        if (round)
            forget_dropped_databases();
        if (round)
            next_round =
                TimestampTzPlusMilliseconds(GetCurrentTimestamp(), seen_all ? kPeriod_ms : 500);
        pg_usleep(kPause_ms * 1000L);
        long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_round);
        if (left > 0)
            (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
                            PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

void recover_database(Oid database) {
    BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    pgstat_report_activity(STATE_RUNNING, "panvel recovery");
    if (has_commit_record_table() && try_lock_commit_records())
        recover_transactions();
    // As long as a placement is out of sync, somebody has to come back to it.
    if (has_commit_record_table() && look_after_placements())
        want_recovery(false);
    PopActiveSnapshot();
    CommitTransactionCommand();
    note_worker_done();
}

} // namespace

extern "C" {
__attribute__((visibility("default"))) void panvel_recovery_launcher_main(Datum);
__attribute__((visibility("default"))) void panvel_recovery_main(Datum);
}

void panvel_recovery_launcher_main(Datum) {
    pqsignal(SIGTERM, die);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    pg::entry([] { launch(); });
}

void panvel_recovery_main(Datum argument) {
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    pg::entry([argument] { recover_database(DatumGetObjectId(argument)); });
}

void init_recovery_worker() {
    BackgroundWorker worker;
    fill_worker(&worker, "panvel_recovery_launcher_main", "panvel recovery launcher");
    worker.bgw_restart_time = 1;
    RegisterBackgroundWorker(&worker);
}

} // namespace panvel
