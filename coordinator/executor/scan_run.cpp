// Executions of a distributed scan: one query to every node that holds shards of interest, all at
// the same time.
#include "coordinator/executor/scan_state.h"
#include "coordinator/monitor/servers.h"
#include "coordinator/replication/consistency.h"
#include "coordinator/replication/in_sync.h"
#include "coordinator/replication/membership.h"
#include "coordinator/transaction/transaction.h"

extern "C" {
#include "access/xact.h"
#include "common/int.h"
#include "executor/executor.h"
#include "utils/memutils.h"
}

namespace panvel {
namespace {

// A result of at most this many rows is fetched by one statement, without a cursor.
constexpr int64 kMaxBoundedRows = 10000;
// Rows per FETCH: as many as come to about this many bytes.
constexpr double kBatchBytes = 1 << 20;
constexpr int kMinBatchRows = 50;
constexpr int kMaxBatchRows = 10000;

// ------------------------------------------------------------------------- statements

// Statements are made for every execution, with a part for each of what may be many shards: nothing
// is formatted or looked up here.
void append(StringInfo sql, std::initializer_list<const char *> texts) {
    for (const char *text : texts)
        appendStringInfoString(sql, text);
}

// The SELECT of a join for one shard.
void append_join(StringInfo sql, DistributedScanState *state, const Shard *shard) {
    ListCell *cell;
    foreach (cell, state->plan->join) {
        if (foreach_current_index(cell) > 0)
            appendStringInfoString(sql, shard->schema);
        appendStringInfoString(sql, strVal(lfirst(cell)));
    }
}

// "(SELECT columns FROM shard UNION ALL ...) t", or the shard's table itself when it is one.
void append_source(StringInfo sql, DistributedScanState *state, Bitmapset *shards) {
    const DistributedTable *table = state->table;
    int shard = -1;
    if (state->plan->join == NIL && bms_membership(shards) == BMS_SINGLETON) {
        shard = bms_singleton_member(shards);
        append(sql, {table->shards[shard].schema, ".", state->table_name, " t"});
        return;
    }
    const char *separator = "(";
    while ((shard = bms_next_member(shards, shard)) >= 0) {
        appendStringInfoString(sql, separator);
        if (state->plan->join != NIL)
            append_join(sql, state, &table->shards[shard]);
        else
            append(sql, {"SELECT ", state->plan->columns, " FROM ", table->shards[shard].schema,
                         ".", state->table_name});
        separator = " UNION ALL ";
    }
    appendStringInfoString(sql, ") t");
}

} // namespace

char *scan_statement(DistributedScanState *state, Bitmapset *shards, int64 limit) {
    const ScanPlan *plan = state->plan;
    StringInfoData sql;
    initStringInfo(&sql);
    if (plan->whole_query) {
        append_join(&sql, state, &state->table->shards[bms_singleton_member(shards)]);
        return sql.data;
    }
    append(&sql, {"SELECT ", plan->select_list, " FROM "});
    append_source(&sql, state, shards);
    if (plan->where[0] != '\0')
        append(&sql, {" WHERE ", plan->where});
    if (plan->group_by[0] != '\0')
        append(&sql, {" GROUP BY ", plan->group_by});
    if (plan->order_by[0] != '\0')
        append(&sql, {" ORDER BY ", plan->order_by});
    if (limit >= 0)
        appendStringInfo(&sql, " LIMIT " INT64_FORMAT, limit);
    if (plan->lock[0] != '\0')
        append(&sql, {" ", plan->lock});
    return sql.data;
}

Bitmapset *shards_to_read(DistributedScanState *state, PruneEvaluator *prune,
                          ExprContext *context) {
    Bitmapset *shards = evaluate_prune(prune, state->table, context);
    // No shard has rows with a NULL key; a whole query may have an answer without any.
    if (state->plan->whole_query && bms_is_empty(shards))
        return bms_make_singleton(0);
    return shards;
}

// LIMIT + OFFSET, or -1 for no limit. What is wrong with them the Limit node above reports.
int64 evaluate_limit(DistributedScanState *state, ExprContext *context) {
    if (state->limit_count == nullptr)
        return -1;
    bool isnull;
    int64 count = DatumGetInt64(ExecEvalExpr(state->limit_count, context, &isnull));
    if (isnull || count < 0)
        return -1;
    int64 offset = 0;
    if (state->limit_offset != nullptr) {
        offset = DatumGetInt64(ExecEvalExpr(state->limit_offset, context, &isnull));
        if (isnull || offset < 0)
            offset = 0;
    }
    int64 sum;
    return pg_add_s64_overflow(count, offset, &sum) ? -1 : sum;
}

namespace {

// Rows are locked, and named by their place, where they are written; and a snapshot that is kept is
// the one that the transaction's writes have.
bool asks_leader(const DistributedScanState *state) {
    return locks_rows(state) || state->plan->is_target ||
           (is_replicated(state->table) && IsolationUsesXactSnapshot());
}

bool may_be_stale(const DistributedScanState *state) {
    return !asks_leader(state) && reads_may_be_stale();
}

} // namespace

// Rows of a UNION cannot be locked, and are locked where they are written: then one group a shard.
List *group_by_node(DistributedScanState *state, Bitmapset *shards, List *failed) {
    List *groups = NIL;
    int shard = -1;
    while ((shard = bms_next_member(shards, shard)) >= 0) {
        const Shard *read = &state->table->shards[shard];
        int32 node_id =
            asks_leader(state) ? write_node(read) : read_node(read, failed, may_be_stale(state));
        NodeShards *group = nullptr;
        ListCell *cell;
        foreach (cell, locks_rows(state) ? NIL : groups)
            if (static_cast<NodeShards *>(lfirst(cell))->node_id == node_id)
                group = static_cast<NodeShards *>(lfirst(cell));
        if (group == nullptr) {
            group = static_cast<NodeShards *>(palloc(sizeof(NodeShards)));
            *group = {node_id, nullptr};
            groups = lappend(groups, group);
        }
        group->shards = bms_add_member(group->shards, shard);
    }
    return groups;
}

namespace {

// ------------------------------------------------------------------------- start and end

bool is_bounded(const DistributedScanState *state, int64 limit) {
    return state->plan->small_result || (limit >= 0 && limit <= kMaxBoundedRows);
}

int batch_rows(DistributedScanState *state) {
    double width = std::max(16, state->css.ss.ps.plan->plan_width);
    return static_cast<int>(
        std::clamp(kBatchBytes / width, double{kMinBatchRows}, double{kMaxBatchRows}));
}

// Whether other placements of these shards could answer, if not now then perhaps when it matters.
bool is_replaceable(const DistributedScanState *state, Bitmapset *shards) {
    if (locks_rows(state) || state->plan->is_target || IsolationUsesXactSnapshot())
        return false;
    int shard = -1;
    while ((shard = bms_next_member(shards, shard)) >= 0) {
        if (state->table->shards[shard].placement_count < 2)
            return false;
    }
    return true;
}

// A LIMIT without an order is taken from one shard after the other, so that no shard locks rows
// that are not returned.
bool locks_in_turn(const DistributedScanState *state, int64 limit) {
    return locks_rows(state) && limit >= 0 && state->sort_key_count == 0;
}

// Everything that an execution depends on; nothing is sent.
ScanRun *evaluate_run(DistributedScanState *state) {
    ExprContext *context = state->css.ss.ps.ps_ExprContext;
    state->table =
        asks_leader(state) ? exclude_down_nodes(state->table) : refresh_table(state->table);
    MemoryContext memory =
        AllocSetContextCreate(state->context, "panvel run", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(memory);
    auto *run = palloc0_object(ScanRun);
    run->context = memory;
    run->last_stream = -1;
    run->shards = shards_to_read(state, state->prune, context);
    if (!bms_is_empty(run->shards))
        run->params = evaluate_params(state->params, context);
    run->limit = evaluate_limit(state, context);
    MemoryContextSwitchTo(old);
    return run;
}

} // namespace

void note_epochs(DistributedScanState *state, Bitmapset *shards) {
    int shard = -1;
    while (is_replicated(state->table) && (shard = bms_next_member(shards, shard)) >= 0) {
        if (locks_rows(state))
            note_written(state->table, &state->table->shards[shard]);
        else
            check_written(state->table, &state->table->shards[shard]);
    }
}

void send_run(DistributedScanState *state, ScanRun *run) {
    run->sent = true;
    note_epochs(state, run->shards);
    MemoryContext old = MemoryContextSwitchTo(run->context);
    List *groups = group_by_node(state, run->shards);
    run->streams = palloc0_array(NodeStream, kStreamsPerShard * (1 + bms_num_members(run->shards)));
    run->in_turn = locks_in_turn(state, run->limit);
    run->rows_left = run->limit;
    if (run->in_turn) {
        run->waiting = groups;
        groups = NIL;
    }
    ListCell *cell;
    foreach (cell, groups)
        start_stream(state, run, static_cast<NodeShards *>(lfirst(cell)), run->limit);
    MemoryContextSwitchTo(old);
}

namespace {

bool same_params(const RemoteParams *a, const RemoteParams *b) {
    if (a == nullptr || b == nullptr)
        return a == b;
    for (int i = 0; i < a->count; i++) {
        bool null = a->values[i] == nullptr;
        if (null != (b->values[i] == nullptr))
            return false;
        if (!null && (a->lengths[i] != b->lengths[i] ||
                      memcmp(a->values[i], b->values[i], a->lengths[i]) != 0))
            return false;
    }
    return true;
}

// The run that is ahead with the same statements, taken out of the queue with all before it:
// rescans come in the order in which runs were sent, or not at all. Null: there is none.
ScanRun *take_ahead(DistributedScanState *state, const ScanRun *wanted) {
    ListCell *cell;
    foreach (cell, state->ahead) {
        auto *run = static_cast<ScanRun *>(lfirst(cell));
        if (!same_params(run->params, wanted->params) || run->limit != wanted->limit ||
            !bms_equal(run->shards, wanted->shards))
            continue;
        for (int skipped = foreach_current_index(cell); skipped > 0; skipped--) {
            end_run(state, static_cast<ScanRun *>(linitial(state->ahead)));
            state->ahead = list_delete_first(state->ahead);
        }
        state->ahead = list_delete_first(state->ahead);
        return run;
    }
    return nullptr;
}

} // namespace

namespace {

void init_stream(DistributedScanState *state, ScanRun *run, NodeStream *stream,
                 const NodeShards *group, const char *sql) {
    NodeRows *rows = &stream->rows;
    rows->node_id = group->node_id;
    rows->sql = sql;
    int only;
    if (bms_get_singleton_member(group->shards, &only))
        rows->shard_id = state->table->shards[only].shard_id;
    rows->params = run->params;
    rows->decoder = state->decoder;
    rows->locks = locks_rows(state);
    rows->replaceable = is_replaceable(state, group->shards);
    rows->guarded = run->early;
    rows->may_be_stale = may_be_stale(state);
    stream->shards = group->shards;
    stream->done = false;
    rows->bounded = is_bounded(state, run->limit);
    rows->batch_rows = batch_rows(state);
    rows->context = run->context;
    rows->row_context = AllocSetContextCreate(run->context, "panvel row", ALLOCSET_SMALL_SIZES);
    int columns = std::max(1, state->remote_columns);
    stream->values = static_cast<Datum *>(palloc0(sizeof(Datum) * columns));
    stream->isnull = static_cast<bool *>(palloc0(sizeof(bool) * columns));
    init_hedge(stream);
    count_buffers(&state->css.ss.ps, &state->counted, group->node_id);
    report_statement(state, group->node_id, group->shards, sql);
}

} // namespace

NodeStream *add_stream(DistributedScanState *state, ScanRun *run, const NodeShards *group,
                       const char *sql) {
    NodeStream *stream = &run->streams[run->stream_count++];
    init_stream(state, run, stream, group, sql);
    return stream;
}

void start_stream(DistributedScanState *state, ScanRun *run, const NodeShards *group, int64 limit) {
    char *sql = scan_statement(state, group->shards, limit);
    start_node_rows(&add_stream(state, run, group, sql)->rows);
}

namespace {

// The first of the shards whose placements in sync have all been tried.
const Shard *lost_shard(const DistributedScanState *state, const ScanRun *run, Bitmapset *shards) {
    int shard = -1;
    while ((shard = bms_next_member(shards, shard)) >= 0) {
        const Shard *lost = &state->table->shards[shard];
        if (list_member_int(run->failed, read_node(lost, run->failed, may_be_stale(state))))
            return lost;
    }
    return nullptr;
}

bool has_stale_placement(const Shard *shard) {
    for (int i = 0; i < shard->placement_count; i++)
        if (!shard->placements[i].active && shard->placements[i].filled)
            return true;
    return false;
}

// The node's error, with what it means for the shard.
[[noreturn]] void raise_lost(const DistributedScanState *state, const ScanRun *run,
                             NodeStream *stream) {
    ErrorData *error = lost_error(&stream->rows);
    const Shard *shard = lost_shard(state, run, stream->shards);
    if (shard != nullptr && is_replicated(state->table)) {
        error->detail =
            psprintf("%s%sNo in-sync placement of shard %lld can be reached.",
                     error->detail != nullptr ? error->detail : "",
                     error->detail != nullptr ? " " : "", static_cast<long long>(shard->shard_id));
        if (error->hint == nullptr && !may_be_stale(state) && has_stale_placement(shard))
            error->hint =
                pstrdup("With panvel.read_consistency = eventual a placement answers that "
                        "may lack acknowledged writes.");
    }
    ThrowErrorData(error);
    pg_unreachable();
}

} // namespace

void replace_stream(DistributedScanState *state, ScanRun *run, NodeStream *stream) {
    int32 lost = stream->rows.node_id;
    want_probe(server_of_node(lost));
    Bitmapset *shards = stream->shards;
    MemoryContext old = MemoryContextSwitchTo(run->context);
    run->failed = list_append_unique_int(run->failed, lost);
    state->table = refresh_table(state->table);
    note_epochs(state, shards);
    List *groups = group_by_node(state, shards, run->failed);
    ListCell *cell;
    foreach (cell, groups)
        if (transaction_wrote_on(lost) ||
            list_member_int(run->failed, static_cast<NodeShards *>(lfirst(cell))->node_id))
            raise_lost(state, run, stream);
    stop_node_rows(&stream->rows);
    memset(stream, 0, sizeof(*stream));
    auto *first = static_cast<NodeShards *>(linitial(groups));
    init_stream(state, run, stream, first, scan_statement(state, first->shards, run->limit));
    start_node_rows(&stream->rows);
    for_each_from(cell, groups, 1)
        start_stream(state, run, static_cast<NodeShards *>(lfirst(cell)), run->limit);
    MemoryContextSwitchTo(old);
}

ScanRun *start_run(DistributedScanState *state) {
    ScanRun *run = evaluate_run(state);
    if (state->ahead != NIL) {
        ScanRun *sent = take_ahead(state, run);
        if (sent != nullptr) {
            MemoryContextDelete(run->context);
            if (!sent->sent)
                send_run(state, sent);
            return sent;
        }
    }
    send_run(state, run);
    return run;
}

bool prepare_run_ahead(DistributedScanState *state) {
    ScanRun *run = evaluate_run(state);
    if (!is_bounded(state, run->limit) || locks_rows(state)) {
        MemoryContextDelete(run->context);
        return false;
    }
    MemoryContext old = MemoryContextSwitchTo(state->context);
    state->ahead = lappend(state->ahead, run);
    MemoryContextSwitchTo(old);
    return true;
}

namespace {

void send_early(DistributedScanState *state, ScanRun *run) {
    run->early = true;
    send_run(state, run);
}

} // namespace

void send_runs_ahead(DistributedScanState *state) {
    ListCell *cell;
    foreach (cell, state->ahead) {
        auto *first = static_cast<ScanRun *>(lfirst(cell));
        if (first->sent)
            continue;
        List *alike = list_make1(first);
        ListCell *other;
        for_each_cell(other, state->ahead, lnext(state->ahead, cell)) {
            auto *run = static_cast<ScanRun *>(lfirst(other));
            if (!run->sent && can_be_batched(state, first, run))
                alike = lappend(alike, run);
        }
        if (list_length(alike) > 1)
            send_batch(state, alike);
        else
            send_early(state, first);
        list_free(alike);
    }
}

void drop_runs_ahead(DistributedScanState *state) {
    while (state->ahead != NIL) {
        end_run(state, static_cast<ScanRun *>(linitial(state->ahead)));
        state->ahead = list_delete_first(state->ahead);
    }
}

void end_run(DistributedScanState *state, ScanRun *run) {
    collect_reports(state, run);
    for (int i = 0; i < run->stream_count; i++)
        stop_node_rows(&run->streams[i].rows);
    leave_batch(run);
    MemoryContextDelete(run->context);
}

} // namespace panvel
