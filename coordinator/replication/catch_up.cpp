#include "coordinator/replication/catch_up.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/monitor/servers.h"
#include "coordinator/replication/in_sync.h"
#include "coordinator/replication/membership.h"
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
#include "utils/memutils.h"
#include "utils/snapmgr.h"
}

namespace panvel {
namespace {

// Entries of the journal that go in one transaction, and transactions before the end is tried.
constexpr int kBatch = 500;
constexpr int kMaxBatches = 10000;

template <typename Body> void in_transaction(Body &&body) {
    StartTransactionCommand();
    XactIsoLevel = XACT_READ_COMMITTED; // rows are read after the journal entries that name them
    PushActiveSnapshot(GetTransactionSnapshot());
    body();
    PopActiveSnapshot();
    CommitTransactionCommand();
}

// The placement as the catalog has it now, with what it needs; null when it needs nothing, or when
// it or its leader cannot be reached.
const CatalogPlacement *find_placement(int64 shard_id, int32 node_id, int32 *leader_id) {
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
    bool reachable = *leader_id != 0 && !server_is_down(server_of_node(node_id)) &&
                     !server_is_down(server_of_node(*leader_id));
    return reachable ? found : nullptr;
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
    update_placement(&placement);
}

// Returns whether the end may be tried.
bool replay_batches(int64 shard_id, int32 node_id) {
    for (int i = 0; i < kMaxBatches; i++) {
        Replayed replayed = Replayed::kSome;
        bool found = with_placement(shard_id, node_id,
                                    [&](const CatalogPlacement &, const StalePlacement &stale) {
                                        replayed = replay_journal(&stale, kBatch);
                                        if (replayed == Replayed::kMustCopy)
                                            set_copying(stale, true);
                                    });
        if (!found || replayed == Replayed::kMustCopy)
            return false;
        if (replayed == Replayed::kAll)
            return true;
    }
    return true;
}

// The end: nobody who has noted something in the journal is left, and nobody commits a write before
// the placement is in the set.
void rejoin(int64 shard_id, int32 node_id) {
    with_placement(
        shard_id, node_id, [&](const CatalogPlacement &placement, const StalePlacement &stale) {
            if (placement.copying)
                return;
            execute_on(stale.leader_id, "SET LOCAL lock_timeout = '1s'");
            execute_on(stale.leader_id, psprintf("LOCK TABLE %s.%s IN SHARE ROW EXCLUSIVE MODE",
                                                 stale.schema, kJournal));
            CatalogPlacement joined = confirm(stale, ExclusiveLock);
            Replayed replayed;
            do
                replayed = replay_journal(&stale, kBatch);
            while (replayed == Replayed::kSome);
            joined.copying = replayed == Replayed::kMustCopy;
            joined.active = !joined.copying;
            update_placement(&joined);
            if (!joined.active)
                return;
            note_set_changed(stale.shard_id);
            ForceSyncCommit();
            ereport(LOG, (errmsg("the placement of shard %lld on node \"%s\" is in sync again",
                                 static_cast<long long>(stale.shard_id),
                                 get_node(stale.node_id)->name)));
        });
}

void catch_up(int64 shard_id, int32 node_id) {
    bool copying = false;
    if (!with_placement(shard_id, node_id,
                        [&](const CatalogPlacement &placement, const StalePlacement &stale) {
                            copying = placement.copying;
                            if (!copying)
                                return;
                            copy_anew(&stale);
                            set_copying(stale, false);
                        }))
        return;
    if (replay_batches(shard_id, node_id))
        rejoin(shard_id, node_id);
}

// An error is about one placement: it is logged, and the others have their turn.
void try_to_catch_up(int64 shard_id, int32 node_id) {
    MemoryContext context = CurrentMemoryContext;
    PG_TRY();
    {
        pg::entry([&] { catch_up(shard_id, node_id); });
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        HOLD_INTERRUPTS();
        EmitErrorReport();
        AbortOutOfAnyTransaction();
        FlushErrorState();
        RESUME_INTERRUPTS();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
}

// One worker a database: held by the session.
bool is_only_worker() {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, MyDatabaseId, catalog_oid(Catalog::kPlacement), 0, 1);
    return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

void catch_up_all(MemoryContext kept) {
    List *found = NIL;
    bool only = false;
    in_transaction([&] {
        if (!OidIsValid(find_panvel_relation("placement")))
            return;
        only = is_only_worker();
        List *all = only ? placements_out_of_sync() : NIL;
        MemoryContext previous = MemoryContextSwitchTo(kept);
        ListCell *cell;
        foreach (cell, all) {
            auto *copy = palloc_object(CatalogPlacement);
            *copy = *static_cast<CatalogPlacement *>(lfirst(cell));
            found = lappend(found, copy);
        }
        MemoryContextSwitchTo(previous);
    });
    ListCell *cell;
    foreach (cell, found) {
        CHECK_FOR_INTERRUPTS();
        auto *placement = static_cast<CatalogPlacement *>(lfirst(cell));
        try_to_catch_up(placement->shard_id, placement->node_id);
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
    List *found = placements_out_of_sync();
    if (found == NIL)
        return false;
    bool any_reachable = false;
    ListCell *cell;
    foreach (cell, found)
        any_reachable |=
            !server_is_down(server_of_node(static_cast<CatalogPlacement *>(lfirst(cell))->node_id));
    if (!any_reachable)
        return true;
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
