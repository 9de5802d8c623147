#include "coordinator/replication/catch_up.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/monitor/servers.h"
#include "coordinator/replication/in_sync.h"
#include "coordinator/replication/jobs.h"
#include "coordinator/replication/membership.h"
#include "coordinator/replication/repair.h"
#include "coordinator/replication/replay.h"
#include "coordinator/transaction/doubt.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
}

namespace panvel {
namespace {

// Entries of the journal that go in one transaction, and transactions before the end is tried.
constexpr int kBatch = 500;
constexpr int kMaxBatches = 10000;

int journal_limit = 1000000;

template <typename Body> void in_transaction(Body &&body) {
    StartTransactionCommand();
    XactIsoLevel = XACT_READ_COMMITTED; // rows are read after the journal entries that name them
    PushActiveSnapshot(GetTransactionSnapshot());
    body();
    PopActiveSnapshot();
    CommitTransactionCommand();
}

// The placement as the catalog has it now; null when it needs nothing, or when its leader cannot be
// reached.
const CatalogPlacement *find_stale(int64 shard_id, int32 node_id, int32 *leader_id) {
    const CatalogPlacement *found = nullptr;
    *leader_id = 0;
    ListCell *cell;
    foreach (cell, placements_of_shard(shard_id)) {
        auto *placement = static_cast<CatalogPlacement *>(lfirst(cell));
        if (placement->leader)
            *leader_id = placement->node_id;
        if (placement->node_id == node_id && !placement->active)
            found = placement;
    }
    bool reachable = *leader_id != 0 && !server_is_down(server_of_node(*leader_id));
    return reachable ? found : nullptr;
}

// The same; null also when it cannot be reached itself.
const CatalogPlacement *find_placement(int64 shard_id, int32 node_id, int32 *leader_id) {
    const CatalogPlacement *found = find_stale(shard_id, node_id, leader_id);
    return server_is_down(server_of_node(node_id)) ? nullptr : found;
}

// DDL waits until the transaction ends.
bool describe(const CatalogPlacement *placement, int32 leader_id, StalePlacement *stale) {
    *stale = {};
    stale->shard_id = placement->shard_id;
    stale->node_id = placement->node_id;
    stale->leader_id = leader_id;
    stale->epoch = epoch_in_catalog(placement->shard_id);
    snprintf(stale->schema, sizeof(stale->schema), "panvel_s%lld",
             static_cast<long long>(placement->shard_id));
    ListCell *cell;
    foreach (cell, tables_of_shard(placement->shard_id)) {
        LockRelationOid(lfirst_oid(cell), AccessShareLock);
        if (find_distributed_table(lfirst_oid(cell)) == nullptr) // dropped meanwhile
            return false;
        stale->tables = lappend_oid(stale->tables, lfirst_oid(cell));
    }
    return stale->tables != NIL;
}

// Runs `body(placement, stale)` in a transaction of its own; false when there is nothing to do.
template <typename Body> bool with_placement(int64 shard_id, int32 node_id, Body &&body) {
    bool done = false;
    in_transaction([&] {
        int32 leader_id;
        const CatalogPlacement *placement = find_placement(shard_id, node_id, &leader_id);
        StalePlacement stale;
        if (placement == nullptr || !describe(placement, leader_id, &stale))
            return;
        fence_placement(&stale);
        body(*placement, stale);
        done = true;
    });
    return done;
}

// That the leader is still the one from which rows came, until the end of the transaction. Raises
// 40001.
CatalogPlacement confirm(const StalePlacement &stale, LOCKMODE mode) {
    lock_in_sync_set(stale.shard_id, mode);
    int32 leader_id;
    const CatalogPlacement *placement = find_placement(stale.shard_id, stale.node_id, &leader_id);
    if (placement == nullptr || leader_id != stale.leader_id ||
        epoch_in_catalog(stale.shard_id) != stale.epoch)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("the in-sync set of shard %lld changed while a placement caught up",
                               static_cast<long long>(stale.shard_id))));
    return *placement;
}

void set_copying(const StalePlacement &stale, bool copying) {
    CatalogPlacement placement = confirm(stale, ShareLock);
    placement.copying = copying;
    placement.filled |= !copying; // it has just been copied
    update_placement(&placement);
}

void tell_sessions(const StalePlacement &stale) {
    ListCell *cell;
    foreach (cell, stale.tables)
        invalidate_table(lfirst_oid(cell));
}

// Nobody keeps a journal of what the placement misses. From the end of this transaction everybody
// does: who has written under the old epoch and not committed gets 40001.
void begin_journal(int64 shard_id, int32 node_id) {
    with_placement(shard_id, node_id, [](const CatalogPlacement &, const StalePlacement &stale) {
        CatalogPlacement placement = confirm(stale, ExclusiveLock);
        placement.journaled = true;
        update_placement(&placement);
        note_set_changed(stale.shard_id);
    });
}

// Too long a journal is given up: the placement is copied anew when its node is back. What others
// still note there is dropped before that.
void limit_journal(int64 shard_id, int32 node_id) {
    in_transaction([&] {
        int32 leader_id;
        const CatalogPlacement *placement = find_stale(shard_id, node_id, &leader_id);
        StalePlacement stale;
        if (placement == nullptr || !placement->journaled ||
            !describe(placement, leader_id, &stale) ||
            journal_length(&stale, journal_limit) <= journal_limit)
            return;
        lock_in_sync_set(shard_id, ShareLock);
        placement = find_stale(shard_id, node_id, &leader_id);
        if (placement == nullptr || leader_id != stale.leader_id)
            return;
        CatalogPlacement given_up = *placement;
        given_up.copying = true;
        given_up.journaled = false;
        given_up.lagging = false;
        update_placement(&given_up);
        drop_journal(&stale);
        tell_sessions(stale);
        ereport(LOG, (errmsg("the journal of shard %lld for its placement on node \"%s\" is longer "
                             "than panvel.journal_limit: the placement will be copied anew",
                             static_cast<long long>(shard_id), get_node(node_id)->name)));
    });
}

enum class Outcome { kGone, kMustCopy, kFound, kNothing };

// kFound: the end may be tried, and there was something to replay.
Outcome replay_batches(int64 shard_id, int32 node_id) {
    bool first = true;
    bool found_any = false;
    for (int i = 0; i < kMaxBatches; i++) {
        Replayed replayed = Replayed::kSome;
        bool found = with_placement(shard_id, node_id,
                                    [&](const CatalogPlacement &, const StalePlacement &stale) {
                                        if (first)
                                            add_to_job(journal_length(&stale, PG_INT32_MAX));
                                        int count = 0;
                                        replayed = replay_journal(&stale, kBatch, &count);
                                        advance_job(count);
                                        found_any |= count > 0;
                                        if (replayed == Replayed::kMustCopy)
                                            set_copying(stale, true);
                                    });
        first = false;
        if (!found)
            return Outcome::kGone;
        if (replayed == Replayed::kMustCopy)
            return Outcome::kMustCopy;
        if (replayed == Replayed::kAll)
            break;
    }
    return found_any ? Outcome::kFound : Outcome::kNothing;
}

enum class Rejoined { kYes, kNo, kMustCopy };

// The end: nobody who has noted something in the journal is left, and nobody commits a write before
// the placement is in the set. With `copies` it is copied anew before, while writers wait.
Rejoined rejoin(int64 shard_id, int32 node_id, bool copies) {
    Rejoined outcome = Rejoined::kNo;
    with_placement(
        shard_id, node_id, [&](const CatalogPlacement &placement, const StalePlacement &stale) {
            if (!placement.journaled || (placement.copying && !copies))
                return;
            execute_on(stale.leader_id, "SET LOCAL lock_timeout = '1s'");
            execute_on(stale.leader_id, psprintf("LOCK TABLE %s.%s IN SHARE ROW EXCLUSIVE MODE",
                                                 stale.schema, kJournal));
            if (copies)
                copy_anew(&stale);
            CatalogPlacement joined = confirm(stale, ExclusiveLock);
            Replayed replayed;
            int count = 0;
            do {
                replayed = replay_journal(&stale, kBatch, &count);
                advance_job(count);
            } while (replayed == Replayed::kSome);
            bool joins = replayed != Replayed::kMustCopy;
            outcome = joins ? Rejoined::kYes : Rejoined::kMustCopy;
            joined.copying = !joins;
            joined.active = joins;
            joined.filled |= copies;
            joined.lagging &= !joins;
            update_placement(&joined);
            if (!joins)
                return;
            note_set_changed(stale.shard_id);
            ForceSyncCommit();
            ereport(LOG, (errmsg("the placement of shard %lld on node \"%s\" is in sync again",
                                 static_cast<long long>(stale.shard_id),
                                 get_node(stale.node_id)->name)));
        });
    return outcome;
}

// Copies it, if it is to be copied and a journal is kept meanwhile. False when it is gone.
bool copy_if_marked(int64 shard_id, int32 node_id, bool *without_journal) {
    return with_placement(shard_id, node_id,
                          [&](const CatalogPlacement &placement, const StalePlacement &stale) {
                              *without_journal = !placement.journaled;
                              if (!placement.copying || *without_journal)
                                  return;
                              copy_anew(&stale);
                              set_copying(stale, false);
                          });
}

// One that follows sessions with panvel.write_consistency = one gets their writes with every pass,
// and rejoins when there were none: the next write would only take it out again.
Rejoined bring_further(const CatalogPlacement *wanted) {
    int64 shard_id = wanted->shard_id;
    int32 node_id = wanted->node_id;
    bool without_journal = false;
    if (!copy_if_marked(shard_id, node_id, &without_journal))
        return Rejoined::kNo;
    if (without_journal) {
        begin_journal(shard_id, node_id);
        if (!copy_if_marked(shard_id, node_id, &without_journal) || without_journal)
            return Rejoined::kNo;
    }
    Outcome outcome = replay_batches(shard_id, node_id);
    if (outcome == Outcome::kMustCopy)
        return Rejoined::kMustCopy;
    bool ready = outcome == Outcome::kNothing || (outcome == Outcome::kFound && !wanted->lagging);
    return ready ? rejoin(shard_id, node_id, false) : Rejoined::kNo;
}

// Writes that leave no keys in the journal may come faster than a copy is made. The third one,
// then, is made while they wait.
bool bring_back(const CatalogPlacement *wanted) {
    for (int attempt = 0; attempt < 3; attempt++) {
        Rejoined outcome = bring_further(wanted);
        if (outcome != Rejoined::kMustCopy)
            return outcome == Rejoined::kYes;
    }
    return rejoin(wanted->shard_id, wanted->node_id, true) == Rejoined::kYes;
}

void catch_up(const CatalogPlacement *wanted) {
    begin_job(wanted->filled ? JobKind::kCatchUp : JobKind::kRepair, wanted->shard_id,
              wanted->node_id);
    if (server_is_down(server_of_node(wanted->node_id)))
        pause_job("the node is down");
    else if (bring_back(wanted))
        finish_job();
    else
        pause_job(wanted->lagging ? "panvel.write_consistency = one is in use" : nullptr);
}

// An error is about one placement: it is logged, and the others have their turn.
template <typename Body> void try_to(Body &&body) {
    MemoryContext context = CurrentMemoryContext;
    PG_TRY();
    {
        pg::entry([&] { body(); });
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        HOLD_INTERRUPTS();
        EmitErrorReport();
        ErrorData *error = CopyErrorData();
        AbortOutOfAnyTransaction();
        pause_job(error->message);
        FreeErrorData(error);
        FlushErrorState();
        RESUME_INTERRUPTS();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
}

// One worker a database. An advisory lock, of a class of its own, because the session's other locks
// go with the first transaction that fails, and stay behind when the process ends without one.
bool is_only_worker() {
    constexpr uint16 kClass = 3; // SQL's are of 1 and 2
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, catalog_oid(Catalog::kPlacement), 0, kClass);
    return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

// Copies that outlive a transaction.
template <typename Item> List *keep(List *items, MemoryContext kept) {
    MemoryContext previous = MemoryContextSwitchTo(kept);
    List *copies = NIL;
    ListCell *cell;
    foreach (cell, items) {
        auto *copy = palloc_object(Item);
        *copy = *static_cast<Item *>(lfirst(cell));
        copies = lappend(copies, copy);
    }
    MemoryContextSwitchTo(previous);
    return copies;
}

void catch_up_all(MemoryContext kept) {
    List *found = NIL;
    List *leftovers = NIL;
    bool only = false;
    in_transaction([&] {
        only = OidIsValid(find_panvel_relation("placement")) && is_only_worker();
        if (!only)
            return;
        found = keep<CatalogPlacement>(placements_out_of_sync(), kept);
        leftovers = keep<Leftover>(all_leftovers(), kept);
    });
    if (!only)
        return;
    cancel_other_jobs(found);
    ListCell *cell;
    foreach (cell, found) {
        CHECK_FOR_INTERRUPTS();
        auto *placement = static_cast<CatalogPlacement *>(lfirst(cell));
        if (placement->journaled)
            try_to([=] { limit_journal(placement->shard_id, placement->node_id); });
        try_to([=] { catch_up(placement); });
    }
    foreach (cell, leftovers) {
        CHECK_FOR_INTERRUPTS();
        auto *leftover = static_cast<Leftover *>(lfirst(cell));
        try_to([=] { in_transaction([=] { drop_leftover(leftover); }); });
    }
}

} // namespace

List *journal_commands(const char *schema) {
    return list_make2(psprintf("CREATE TABLE %s.%s (node_id pg_catalog.int4 NOT NULL, relation "
                               "pg_catalog.name NOT NULL, key pg_catalog.text[] NOT NULL)",
                               schema, kJournal),
                      psprintf("GRANT INSERT ON TABLE %s.%s TO PUBLIC", schema, kJournal));
}

bool look_after_placements() {
    if (placements_out_of_sync() == NIL && all_leftovers() == NIL)
        return false;
    BackgroundWorker worker = {};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
    strlcpy(worker.bgw_library_name, "panvel", sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, "panvel_catch_up_main", sizeof(worker.bgw_function_name));
    strlcpy(worker.bgw_name, "panvel catch-up", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "panvel catch-up", BGW_MAXLEN);
    // Where max_worker_processes are in use, the next pass tries again.
    (void)RegisterDynamicBackgroundWorker(&worker, nullptr);
    return true;
}

void init_catch_up() {
    DefineCustomIntVariable("panvel.journal_limit",
                            "How many changed rows of a shard are noted for a placement that "
                            "misses them.",
                            "With more, all rows are copied when its node is back.", &journal_limit,
                            1000000, 0, PG_INT32_MAX - 1, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
}

extern "C" {
__attribute__((visibility("default"))) void panvel_catch_up_main(Datum);
}

void panvel_catch_up_main(Datum argument) {
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(argument), InvalidOid, 0);
    pgstat_report_activity(STATE_RUNNING, "panvel catch-up");
    MemoryContext context =
        AllocSetContextCreate(TopMemoryContext, "panvel catch-up", ALLOCSET_DEFAULT_SIZES);
    MemoryContextSwitchTo(context);
    pg::entry([context] { catch_up_all(context); });
}

} // namespace panvel
