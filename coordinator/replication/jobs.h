// What work on placements is under way, in the background or by create_distributed_table, and how
// far it is: panvel.jobs. In shared memory, because its own transactions show nothing before they
// end; a restart forgets it, and the work begins a job anew.
//
// A process works on one job at a time. Nothing here raises.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/pg_list.h"
}

namespace panvel {

enum class JobKind {
    kCatchUp,    // a placement that was out of sync gets what it missed
    kRepair,     // a new placement gets all rows, in place of one that was lost
    kDistribute, // a table's rows go to its shards
};

void init_jobs(); // shared memory; from _PG_init while preloading

// This process works on the placement from now on: on the job that there is for it, or a new one.
void begin_job(JobKind kind, int64 shard_id, int32 node_id);

// A job of the current transaction, which ends with it: done or, where it or the subtransaction is
// rolled back, canceled. Its steps are pages.
void begin_table_job(Oid relid);

// `count` more of the job's steps (rows, journal entries, pages) are known of, or done.
void add_to_job(int64 count);
void advance_job(int64 count);

// Nothing more happens before the next pass; `why` may be null.
void pause_job(const char *why);
void finish_job();

// Jobs of the current database for other placements than these (List of CatalogPlacement *) have
// nothing left to do.
void cancel_other_jobs(List *placements);

} // namespace panvel
