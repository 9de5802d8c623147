// What the executor nodes of INSERT, UPDATE and DELETE have in common.
#pragma once

#include "coordinator/catalog/metadata.h"
#include "coordinator/executor/buffer_usage.h"
#include "coordinator/executor/prune.h"
#include "coordinator/planner/modify.h"
#include "coordinator/remote/remote.h"
#include "coordinator/replication/apply.h"

extern "C" {
#include "commands/explain.h"
#include "nodes/execnodes.h"
}

namespace panvel {

// What the nodes did, for EXPLAIN ANALYZE.
struct WriteReport {
    struct PerNode {
        int32 node_id;
        int64 rows;
        int64 first_sent; // microseconds on the monotonic clock
        int64 last_done;
        BufferUsage buffers;
    };
    List *nodes; // of PerNode *
    CountedNodes counted;
};

// A statement that has been sent, to a reference table's other copies as well.
struct WriteRequest {
    RemoteRequest *request;
    int64 sent;   // as above
    List *copies; // RemoteRequest *
    const Shard *shard;
    RemoteStatement statement; // of a table with followers that get the same: kept until it is done
};

struct ModifyState {
    CustomScanState custom; // first: this is the plan state
    ModifyPlan *plan;
    const DistributedTable *table;
    bool reads_own_table;     // the statement uses the table elsewhere than as this node's target
    bool changes_more_tables; // by foreign keys, of whose rows nothing comes back
    ParamEvaluator *params;
    bool binary_results; // of the leaders' statements
    Followers followers;
    WriteReport report;
};

// Executor start: fills `state`, refuses (0A000) a statement whose parts would see each other's
// changes (PostgreSQL executes all parts of a statement on one snapshot, the shards one after
// another), and has a data-modifying CTE run to its end.
void begin_modify(ModifyState *state);

// Before the first write: evaluates the statement's subqueries that may read the table.
void evaluate_initplans(ModifyState *state);

// Sends command || the shard's table || tail, or the plan's whole statement, in
// CurrentMemoryContext. `params` must stay until
// finish_write() where sends_same_to_followers().
WriteRequest send_write(ModifyState *state, const Shard *shard, const char *command,
                        const char *tail, const RemoteParams *params);

// Whether followers execute the leader's statement again, and not for images that it returned.
bool sends_same_to_followers(const ModifyState *state);

// To be called when all writes are finished, before a row is handed out: waits for the followers.
void finish_all_writes(ModifyState *state);

// Waits for it, sends followers their part, counts its rows for the command tag and EXPLAIN, and
// returns its result. Where it went to several copies, 40001 unless all have changed as many rows:
// snapshots of a REPEATABLE READ transaction may be of different times, and a newer one has all the
// rows that an older one could change without an error, so equal numbers are equal rows.
PGresult *finish_write(ModifyState *state, WriteRequest *request);

// Raises 23502 for a new row whose distribution column is NULL.
[[noreturn]] void raise_null_key(ModifyState *state);

// `shards`: indexes into the table's shards; null: none. `tail`: as sent to each of them.
void explain_modify(ModifyState *state, ExplainState *es, Bitmapset *shards, const char *tail);
Bitmapset *all_shards(const ModifyState *state);

// ExplainCustomScan of a node that may write to any shard.
void explain_write(CustomScanState *node, List *ancestors, ExplainState *es);
// ReScanCustomScan: raises. A data-modifying plan is executed once.
void rescan_write(CustomScanState *node);

constexpr CustomExecMethods write_methods(const char *name,
                                          decltype(CustomExecMethods::BeginCustomScan) begin,
                                          decltype(CustomExecMethods::ExecCustomScan) exec,
                                          decltype(CustomExecMethods::EndCustomScan) end,
                                          decltype(CustomExecMethods::ExplainCustomScan) explain) {
    CustomExecMethods methods = {};
    methods.CustomName = name;
    methods.BeginCustomScan = begin;
    methods.ExecCustomScan = exec;
    methods.EndCustomScan = end;
    methods.ReScanCustomScan = rescan_write;
    methods.ExplainCustomScan = explain;
    return methods;
}

// `State` begins with its ModifyState, named `modify`.
template <typename State> Node *make_write_state(const CustomExecMethods *methods) {
    auto *state = static_cast<State *>(palloc0(sizeof(State)));
    NodeSetTag(state, T_CustomScanState);
    state->modify.custom.methods = methods;
    return reinterpret_cast<Node *>(state);
}

} // namespace panvel
