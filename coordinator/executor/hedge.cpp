// Slow nodes: where no row of a stream has been handed out and nothing has come for
// panvel.hedge_delay, other placements of its shards are asked for the same. Who has everything
// first answers; the rest is dropped, and cancelled at the end of the transaction.
#include "coordinator/executor/scan_state.h"
#include "coordinator/replication/in_sync.h"
#include "coordinator/transaction/transaction.h"

extern "C" {
#include "utils/guc.h"
#include "utils/timestamp.h"
}

namespace panvel {
namespace {

int hedge_delay_ms = 0;

NodeStream *hedge_of(ScanRun *run, const NodeStream *stream, int number) {
    return &run->streams[stream->first_hedge + number];
}

bool can_be_hedged(const NodeStream *stream) {
    return stream->rows.shared == nullptr && !stream->rows.started;
}

void drop_hedge(ScanRun *run, NodeStream *stream) {
    for (int i = 0; i < stream->hedge_count; i++) {
        stop_node_rows(&hedge_of(run, stream, i)->rows);
        hedge_of(run, stream, i)->done = true;
    }
    stream->hedge_count = 0;
}

// The others answer from now on, whether or not they are ready.
void adopt_hedge(ScanRun *run, NodeStream *stream) {
    for (int i = 0; i < stream->hedge_count; i++) {
        hedge_of(run, stream, i)->is_hedge = false;
        hedge_of(run, stream, i)->rows.optional = false;
    }
    stop_node_rows(&stream->rows);
    stream->hedge_count = 0;
    stream->done = true;
}

// Asks other nodes for the stream's shards, if there are others for all of them.
void start_hedge(DistributedScanState *state, ScanRun *run, NodeStream *stream) {
    stream->hedge_at = 0;
    if (transaction_wrote_on(stream->rows.node_id))
        return;
    MemoryContext old = MemoryContextSwitchTo(run->context);
    state->table = refresh_table(state->table);
    note_epochs(state, stream->shards);
    List *avoided = list_append_unique_int(list_copy(run->failed), stream->rows.node_id);
    List *groups = group_by_node(state, stream->shards, avoided);
    // What is left then is for other nodes that take over from those that fail.
    int room = (kStreamsPerShard - 1) * (1 + bms_num_members(run->shards));
    bool possible = run->stream_count + list_length(groups) <= room;
    ListCell *cell;
    foreach (cell, groups)
        possible &= !list_member_int(avoided, static_cast<NodeShards *>(lfirst(cell))->node_id);
    stream->first_hedge = run->stream_count;
    foreach (cell, possible ? groups : NIL) {
        auto *group = static_cast<NodeShards *>(lfirst(cell));
        const char *sql = scan_statement(state, group->shards, run->limit);
        NodeStream *hedge = add_stream(state, run, group, sql);
        hedge->hedge_at = 0;
        hedge->is_hedge = hedge->rows.optional = hedge->rows.guarded = true;
        start_node_rows(&hedge->rows);
        stream->hedge_count++;
    }
    MemoryContextSwitchTo(old);
}

bool settle_hedged(ScanRun *run, NodeStream *stream) {
    bool ready = node_row_ready(&stream->rows);
    bool others_ready = true;
    bool other_lost = false;
    for (int i = 0; i < stream->hedge_count; i++) {
        NodeRows *rows = &hedge_of(run, stream, i)->rows;
        others_ready &= node_row_ready(rows);
        other_lost |= rows->lost;
    }
    if (other_lost || (ready && !stream->rows.lost)) {
        drop_hedge(run, stream);
        return ready;
    }
    if (ready || others_ready)
        adopt_hedge(run, stream);
    return ready || others_ready;
}

} // namespace

void init_hedge(NodeStream *stream) {
    stream->hedge_at = hedge_delay_ms > 0 && stream->rows.replaceable
                           ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), hedge_delay_ms)
                           : 0;
    stream->hedge_count = 0;
    stream->is_hedge = false;
}

bool settle_stream(DistributedScanState *state, ScanRun *run, NodeStream *stream) {
    if (stream->hedge_count > 0)
        return settle_hedged(run, stream);
    if (node_row_ready(&stream->rows))
        return true;
    if (stream->hedge_at == 0 || !can_be_hedged(stream) || GetCurrentTimestamp() < stream->hedge_at)
        return false;
    // The rows may be here, unread.
    if (remote_poll(awaited_request(&stream->rows)) && node_row_ready(&stream->rows))
        return true;
    start_hedge(state, run, stream);
    return false;
}

void wait_for_streams(ScanRun *run, const NodeStream *only) {
    auto **requests = palloc0_array(RemoteRequest *, run->stream_count);
    TimestampTz deadline = 0;
    for (int i = 0; i < run->stream_count; i++) {
        NodeStream *stream = &run->streams[i];
        bool hedges_only =
            only != nullptr && i >= only->first_hedge && i < only->first_hedge + only->hedge_count;
        if (stream->done || (only != nullptr && stream != only && !hedges_only))
            continue;
        requests[i] = awaited_request(&stream->rows);
        bool due = stream->hedge_at != 0 && can_be_hedged(stream);
        if (due && (deadline == 0 || stream->hedge_at < deadline))
            deadline = stream->hedge_at;
    }
    remote_wait_any(requests, run->stream_count, deadline);
    pfree(requests);
}

void init_hedging() {
    DefineCustomIntVariable("panvel.hedge_delay",
                            "After how long a scan asks a second placement of a shard as well.",
                            "0: never. The first that has the answer gives it.", &hedge_delay_ms, 0,
                            0, 600000, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
}

} // namespace panvel
