// The state of a distributed scan, shared by the files of its executor.
#pragma once

#include "coordinator/catalog/metadata.h"
#include "coordinator/executor/buffer_usage.h"
#include "coordinator/executor/explain.h"
#include "coordinator/executor/node_rows.h"
#include "coordinator/executor/prune.h"
#include "coordinator/planner/scan.h"

extern "C" {
#include "datatype/timestamp.h"
#include "lib/binaryheap.h"
#include "utils/sortsupport.h"
}

namespace panvel {

// One node's rows and, in an ordered scan, its current row.
struct NodeStream {
    NodeRows rows;
    Datum *values;
    bool *isnull;
    bool done;
    Bitmapset *shards;

    // Other placements that are asked as well where this one is slow (hedge.cpp).
    TimestampTz hedge_at; // when they are; 0: not at all
    int first_hedge;      // of run->streams, where hedge_count > 0
    int hedge_count;
    bool is_hedge; // it is one of them, and its rows are not wanted yet
};

// Shards that one statement reads, and the node that answers for them.
struct NodeShards {
    int32 node_id;
    Bitmapset *shards;
};

struct ScanBatch;

// One that reads it, one that is asked as well, and one for each further node that takes over.
constexpr int kStreamsPerShard = 3;

// One execution with certain parameters.
struct ScanRun {
    MemoryContext context; // of all of it
    Bitmapset *shards;
    RemoteParams *params; // may be null
    int64 limit;          // -1: none
    int stream_count;
    NodeStream *streams; // room for kStreamsPerShard * (1 + shards)
    List *failed;        // integer: nodes that were lost meanwhile

    bool in_turn;  // one stream after the other, each for what is left of the limit
    List *waiting; // NodeShards *: not started yet
    int64 rows_left;

    bool sent;
    bool early;       // before it was asked for, which it may never be
    ScanBatch *batch; // that it is part of, or null

    binaryheap *merge; // indexes into streams, the stream with the first row on top
    int last_stream;   // whose row was handed out last, to be advanced; -1 none
};

struct DistributedScanState {
    CustomScanState css;
    ScanPlan *plan;
    const DistributedTable *table;

    ParamEvaluator *params;
    PruneEvaluator *prune;
    ExprState *limit_count;
    ExprState *limit_offset;

    const char *table_name; // of the shards' tables, quoted as needed
    RowDecoder *decoder;
    int remote_columns;

    ScanRun *run;          // the execution whose rows are handed out; null before the first row
    List *ahead;           // ScanRun *: sent already, for rescans to come (lookahead.cpp)
    bool is_led;           // by a lookahead, now
    MemoryContext context; // parent of the runs' contexts

    int sort_key_count;
    SortSupport sort_keys;
    int *sort_columns; // index among the remote columns

    List *reports; // of NodeReport *
    CountedNodes counted;
    ItemPointerData row_identifier;
};

inline DistributedScanState *state_of(CustomScanState *node) {
    return reinterpret_cast<DistributedScanState *>(node);
}

inline bool locks_rows(const DistributedScanState *state) {
    return state->plan->lock[0] != '\0';
}

// Evaluates pruning key, limit and parameters, and sends the statements, unless a run that is ahead
// has the same ones: then it is that one.
ScanRun *start_run(DistributedScanState *state);

// Prepares one for a rescan to come, with the parameters as they are now. False when its result may
// be large: then there is none.
bool prepare_run_ahead(DistributedScanState *state);
// Sends those that were prepared, as few statements.
void send_runs_ahead(DistributedScanState *state);
void drop_runs_ahead(DistributedScanState *state);

// Rows that are locked, or have been changed, by this transaction are so under the epoch of that
// time.
void note_epochs(DistributedScanState *state, Bitmapset *shards);
void send_run(DistributedScanState *state, ScanRun *run);
void start_stream(DistributedScanState *state, ScanRun *run, const NodeShards *group, int64 limit);
// A stream of the run, not started; `sql` outlives it.
NodeStream *add_stream(DistributedScanState *state, ScanRun *run, const NodeShards *group,
                       const char *sql);

// Runs that differ in their parameters only, as one statement a node (scan_batch.cpp).
bool can_be_batched(const DistributedScanState *state, const ScanRun *first, const ScanRun *run);
void send_batch(DistributedScanState *state, List *runs);
void leave_batch(ScanRun *run);

// Ends it, read to its end or not, and frees it.
void end_run(DistributedScanState *state, ScanRun *run);

// Has other placements answer for a stream whose node was lost. Raises the node's error where there
// are none, or where the transaction counts on what it did on the node.
void replace_stream(DistributedScanState *state, ScanRun *run, NodeStream *stream);

// hedge.cpp. Without waiting: whether the stream's next row, its end or its loss is here, or other
// streams have taken its place (it is then `done`). Where it is slow, has others asked as well.
bool settle_stream(DistributedScanState *state, ScanRun *run, NodeStream *stream);
// After settle_stream() of all of the run's streams, or of `only` this one: waits until it may say
// something else.
void wait_for_streams(ScanRun *run, const NodeStream *only);
void init_hedge(NodeStream *stream);
void init_hedging(); // settings; from _PG_init

// List of NodeShards *. `failed`: nodes (integer List) to be passed over where others can answer.
List *group_by_node(DistributedScanState *state, Bitmapset *shards, List *failed = NIL);
// The shards of interest; `prune` may be null: all.
Bitmapset *shards_to_read(DistributedScanState *state, PruneEvaluator *prune, ExprContext *context);
// `limit` < 0: none.
char *scan_statement(DistributedScanState *state, Bitmapset *shards, int64 limit);
int64 evaluate_limit(DistributedScanState *state, ExprContext *context);

// The state of a scan that depends on parameters, among those that are open; null when there is
// none.
void register_open_scan(DistributedScanState *state);
DistributedScanState *find_open_scan(EState *estate, const Plan *plan);

// EXPLAIN
void report_statement(DistributedScanState *state, int32 node_id, Bitmapset *shards,
                      const char *sql);
void collect_reports(DistributedScanState *state, ScanRun *run);
// The buffers that the nodes have used.
void report_buffers(DistributedScanState *state);
void explain_scan(CustomScanState *node, List *ancestors, ExplainState *es);

} // namespace panvel
