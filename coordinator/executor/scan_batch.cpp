// Several executions of one scan as one statement a node, when they are known together (lookahead):
//
//     SELECT s.*, b.n
//     FROM ROWS FROM (unnest($1::vector[]), ...) WITH ORDINALITY AS b(p1, ..., n),
//          LATERAL (the scan's statement, with b.p1 for $1) s
//
// A node is then spared a message, a transaction and an executor's start and end for each of them.
#include "coordinator/executor/row_batch.h"
#include "coordinator/executor/scan_state.h"

extern "C" {
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
}

namespace panvel {

struct ScanBatch {
    MemoryContext context; // of all that its runs share
    int users;             // runs that have not ended
};

namespace {

// Whether arrays carry the scan's parameters: binary values that unnest() does not take apart.
bool has_plain_params(const DistributedScanState *state) {
    for (int i = 0; i < state->params->count; i++) {
        const ParamEncoder *encoder = &state->params->encoders[i];
        Oid type = getBaseType(encoder->type);
        if (!encoder->binary || OidIsValid(get_element_type(type)) || type_is_rowtype(type) ||
            !OidIsValid(get_array_type(encoder->type)))
            return false;
    }
    return state->params->count > 0;
}

RemoteParams *make_array_params(const DistributedScanState *state, List *runs) {
    int rows = list_length(runs);
    RemoteParams **of_runs = palloc_array(RemoteParams *, rows);
    ListCell *cell;
    foreach (cell, runs)
        of_runs[foreach_current_index(cell)] = static_cast<ScanRun *>(lfirst(cell))->params;
    int count = state->params->count;
    Oid *types = palloc0_array(Oid, count); // the casts say them
    const char **values = palloc_array(const char *, count);
    int *lengths = palloc_array(int, count);
    int *formats = palloc_array(int, count);
    for (int i = 0; i < count; i++) {
        StringInfoData array;
        initStringInfo(&array);
        append_value_array(&array, of_runs, rows, i, state->params->encoders[i].type);
        values[i] = array.data;
        lengths[i] = array.len;
        formats[i] = 1;
    }
    auto *params = palloc_object(RemoteParams);
    *params = {count, types, values, lengths, formats};
    return params;
}

// Appends the statement with panvel_b.p<n> for $n, outside of quotes.
void append_with_columns(StringInfo out, const char *sql) {
    char quote = '\0';
    for (; *sql != '\0'; sql++) {
        if (quote == '\0' && sql[0] == '$' && isdigit(static_cast<unsigned char>(sql[1]))) {
            appendStringInfoString(out, "panvel_b.p");
            continue;
        }
        if (quote != '\0')
            quote = *sql == quote ? '\0' : quote;
        else if (*sql == '"' || *sql == '\'')
            quote = *sql;
        appendStringInfoChar(out, *sql);
    }
}

char *batch_statement(const DistributedScanState *state, const char *sql) {
    StringInfoData text;
    initStringInfo(&text);
    appendStringInfoString(&text, "SELECT s.*, panvel_b.n FROM ROWS FROM (");
    int count = state->params->count;
    for (int i = 0; i < count; i++)
        appendStringInfo(
            &text, "%spg_catalog.unnest($%d::%s[])", i > 0 ? ", " : "", i + 1,
            format_type_extended(state->params->encoders[i].type, -1, FORMAT_TYPE_FORCE_QUALIFY));
    appendStringInfoString(&text, ") WITH ORDINALITY AS panvel_b(");
    for (int i = 0; i < count; i++)
        appendStringInfo(&text, "p%d, ", i + 1);
    appendStringInfoString(&text, "n), LATERAL (");
    append_with_columns(&text, sql);
    // Not to be joined in another order than that of the queries.
    appendStringInfoString(&text, " OFFSET 0) s");
    return text.data;
}

} // namespace

bool can_be_batched(const DistributedScanState *state, const ScanRun *first, const ScanRun *run) {
    return first->params != nullptr && run->params != nullptr && first->limit == run->limit &&
           bms_equal(first->shards, run->shards) && has_plain_params(state);
}

void send_batch(DistributedScanState *state, List *runs) {
    auto *first = static_cast<ScanRun *>(linitial(runs));
    note_epochs(state, first->shards);
    MemoryContext context =
        AllocSetContextCreate(state->context, "panvel batch", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    auto *batch = palloc_object(ScanBatch);
    *batch = {context, list_length(runs)};
    RemoteParams *params = make_array_params(state, runs);
    List *groups = group_by_node(state, first->shards);
    ListCell *cell;
    foreach (cell, runs) {
        auto *run = static_cast<ScanRun *>(lfirst(cell));
        run->sent = true;
        run->batch = batch;
        run->streams = static_cast<NodeStream *>(
            MemoryContextAllocZero(run->context, sizeof(NodeStream) * kStreamsPerShard *
                                                     (1 + bms_num_members(run->shards))));
    }
    foreach (cell, groups) {
        auto *group = static_cast<NodeShards *>(lfirst(cell));
        const char *sql = scan_statement(state, group->shards, first->limit);
        auto *answer = palloc0_object(SharedAnswer);
        answer->context = context;
        answer->count = list_length(runs);
        ListCell *each;
        foreach (each, runs) {
            auto *run = static_cast<ScanRun *>(lfirst(each));
            MemoryContextSwitchTo(run->context);
            NodeRows *rows = &add_stream(state, run, group, sql)->rows;
            rows->shared = answer;
            rows->shared_number = foreach_current_index(each);
            MemoryContextSwitchTo(context);
        }
        RemoteStatement statement = {batch_statement(state, sql), params, Effect::kReadOnce, true,
                                     state->decoder->binary};
        const NodeRows *rows = &first->streams[first->stream_count - 1].rows;
        statement.shard_id = rows->shard_id;
        statement.guarded = true;
        statement.may_be_stale = rows->may_be_stale;
        answer->request = remote_send(group->node_id, &statement);
    }
    MemoryContextSwitchTo(old);
}

void leave_batch(ScanRun *run) {
    if (run->batch != nullptr && --run->batch->users == 0)
        MemoryContextDelete(run->batch->context);
    run->batch = nullptr;
}

} // namespace panvel
