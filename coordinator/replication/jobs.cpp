#include "coordinator/replication/jobs.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/replication/membership.h"
#include "extension/pg/boundary.h"
#include "extension/pg/shared_memory.h"

extern "C" {
#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace panvel {
namespace {

// The oldest that has ended gives way to a new one.
constexpr int kMaxJobs = 512;
constexpr int kWhySize = 256;

enum class State { kRunning, kWaiting, kDone, kCanceled };

struct Job {
    int64 job_id; // 0: none
    Oid database;
    int pid; // of who works on it
    JobKind kind;
    State state;
    int64 shard_id; // of a table's: 0, as the node
    int32 node_id;
    Oid relid; // of a table's
    int level; // of a table's: the transaction's nesting level
    int64 done;
    int64 total;
    TimestampTz started;
    TimestampTz finished; // 0: it is not
    char why[kWhySize];   // of the last time that it had to wait; "": nothing
};

struct Shared {
    slock_t lock; // held over loops of kMaxJobs steps that call nothing
    int64 last_id;
    Job jobs[kMaxJobs];
};

Shared *shared;
Job *current;        // what this process works on; null: nothing, or there was no room
bool has_table_jobs; // the current transaction

void attach(void *piece, bool fresh) {
    shared = static_cast<Shared *>(piece);
    if (fresh)
        SpinLockInit(&shared->lock);
}

bool has_ended(const Job *job) {
    return job->job_id == 0 || job->finished != 0;
}

// The caller holds the lock. Null when all places are taken by jobs that have not ended.
Job *place_for(int64 shard_id, int32 node_id) {
    Job *oldest = nullptr;
    for (Job &job : shared->jobs) {
        if (shard_id != 0 && !has_ended(&job) && job.database == MyDatabaseId &&
            job.shard_id == shard_id && job.node_id == node_id)
            return &job;
        if (has_ended(&job) && (oldest == nullptr || job.job_id < oldest->job_id))
            oldest = &job;
    }
    return oldest;
}

template <typename Change> void change_current(Change &&change) {
    if (current == nullptr)
        return;
    SpinLockAcquire(&shared->lock);
    if (!has_ended(current) && current->pid == MyProcPid)
        change(current);
    SpinLockRelease(&shared->lock);
}

void end(Job *job, State state, TimestampTz now) {
    job->state = state;
    job->finished = now;
    job->why[0] = '\0';
}

Job read_job(const Job &job) {
    SpinLockAcquire(&shared->lock);
    Job copy = job;
    SpinLockRelease(&shared->lock);
    return copy;
}

// The jobs of this process's transaction.
template <typename Change> void change_table_jobs(Change &&change) {
    if (!has_table_jobs)
        return;
    SpinLockAcquire(&shared->lock);
    for (Job &job : shared->jobs)
        if (job.kind == JobKind::kDistribute && !has_ended(&job) && job.pid == MyProcPid)
            change(&job);
    SpinLockRelease(&shared->lock);
}

void end_transaction(XactEvent event, void *) {
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
        return;
    TimestampTz now = GetCurrentTimestamp();
    change_table_jobs([&](Job *job) {
        end(job, event == XACT_EVENT_COMMIT ? State::kDone : State::kCanceled, now);
    });
    has_table_jobs = false;
}

void end_subtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void *) {
    if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
        return;
    int level = GetCurrentTransactionNestLevel();
    TimestampTz now = GetCurrentTimestamp();
    change_table_jobs([&](Job *job) {
        if (job->level < level)
            return;
        if (event == SUBXACT_EVENT_COMMIT_SUB)
            job->level = level - 1;
        else
            end(job, State::kCanceled, now);
    });
}

// A job for the placement, or for a table: the one that there is, or a new one.
void take_job(JobKind kind, int64 shard_id, int32 node_id, Oid relid, int level) {
    TimestampTz now = GetCurrentTimestamp();
    SpinLockAcquire(&shared->lock);
    current = place_for(shard_id, node_id);
    if (current != nullptr && has_ended(current)) {
        memset(current, 0, sizeof(Job));
        current->job_id = ++shared->last_id;
        current->database = MyDatabaseId;
        current->shard_id = shard_id;
        current->node_id = node_id;
        current->relid = relid;
        current->level = level;
        current->kind = kind;
        current->started = now;
    }
    if (current != nullptr) {
        current->pid = MyProcPid;
        current->state = State::kRunning;
    }
    SpinLockRelease(&shared->lock);
}

bool is_among(const Job *job, List *placements) {
    for (int i = 0; i < list_length(placements); i++) {
        auto *placement = static_cast<CatalogPlacement *>(list_nth(placements, i));
        if (placement->shard_id == job->shard_id && placement->node_id == job->node_id)
            return true;
    }
    return false;
}

} // namespace

void init_jobs() {
    pg::add_shared_piece({"panvel jobs", [] { return sizeof(Shared); }, attach, nullptr});
}

void begin_job(JobKind kind, int64 shard_id, int32 node_id) {
    if (shared != nullptr)
        take_job(kind, shard_id, node_id, InvalidOid, 0);
}

void begin_table_job(Oid relid) {
    if (shared == nullptr)
        return;
    static bool registered = false;
    if (!registered) {
        RegisterXactCallback(end_transaction, nullptr);
        RegisterSubXactCallback(end_subtransaction, nullptr);
        registered = true;
    }
    has_table_jobs = true;
    take_job(JobKind::kDistribute, 0, 0, relid, GetCurrentTransactionNestLevel());
}

void add_to_job(int64 count) {
    change_current([count](Job *job) { job->total += count; });
}

// More may come than was known of.
void advance_job(int64 count) {
    change_current([count](Job *job) {
        job->done += count;
        job->total = Max(job->total, job->done);
    });
}

void pause_job(const char *why) {
    change_current([why](Job *job) {
        job->state = State::kWaiting;
        strlcpy(job->why, why != nullptr ? why : "", kWhySize);
    });
    current = nullptr;
}

void finish_job() {
    TimestampTz now = GetCurrentTimestamp();
    change_current([now](Job *job) {
        job->total = job->done;
        end(job, State::kDone, now);
    });
    current = nullptr;
}

void cancel_other_jobs(List *placements) {
    if (shared == nullptr)
        return;
    TimestampTz now = GetCurrentTimestamp();
    for (Job &job : shared->jobs) {
        Job copy = read_job(job);
        if (has_ended(&copy) || copy.database != MyDatabaseId ||
            copy.kind == JobKind::kDistribute || is_among(&copy, placements))
            continue;
        SpinLockAcquire(&shared->lock);
        if (job.job_id == copy.job_id && !has_ended(&job))
            end(&job, State::kCanceled, now);
        SpinLockRelease(&shared->lock);
    }
}

namespace {

const char *name_of(JobKind kind) {
    switch (kind) {
    case JobKind::kCatchUp:
        return "catch-up";
    case JobKind::kRepair:
        return "repair";
    case JobKind::kDistribute:
        return "distribute";
    }
    pg_unreachable();
}

// A worker that was ended in the middle leaves its job to the next pass.
const char *name_of(const Job &job) {
    switch (job.state) {
    case State::kRunning:
        return BackendPidGetProc(job.pid) != nullptr ? "running" : "waiting";
    case State::kWaiting:
        return "waiting";
    case State::kDone:
        return "done";
    case State::kCanceled:
        return "canceled";
    }
    pg_unreachable();
}

void put_job(ReturnSetInfo *out, const Job &job) {
    Datum values[11] = {};
    bool isnull[11] = {};
    values[0] = Int64GetDatum(job.job_id);
    values[1] = CStringGetTextDatum(name_of(job.kind));
    values[2] = CStringGetTextDatum(name_of(job));
    values[3] = Int64GetDatum(job.done);
    values[4] = Int64GetDatum(job.total);
    values[5] = TimestampTzGetDatum(job.started);
    values[6] = TimestampTzGetDatum(job.finished);
    isnull[6] = job.finished == 0;
    values[7] = CStringGetTextDatum(job.why);
    isnull[7] = job.why[0] == '\0';
    values[8] = Int64GetDatum(job.shard_id);
    values[9] = Int32GetDatum(job.node_id);
    values[10] = ObjectIdGetDatum(job.relid);
    bool of_table = job.kind == JobKind::kDistribute;
    isnull[8] = isnull[9] = of_table;
    isnull[10] = !of_table;
    tuplestore_putvalues(out->setResult, out->setDesc, values, isnull);
}

void put_jobs(ReturnSetInfo *out) {
    for (const Job &job : shared->jobs) {
        Job copy = read_job(job);
        if (copy.job_id != 0 && copy.database == MyDatabaseId)
            put_job(out, copy);
    }
}

} // namespace
} // namespace panvel

SQL_FUNCTION(panvel_job_states) {
    panvel::require_preload();
    InitMaterializedSRF(fcinfo, 0);
    panvel::put_jobs(reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    return static_cast<Datum>(0);
}
