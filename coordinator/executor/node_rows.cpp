#include "coordinator/executor/node_rows.h"

extern "C" {
#include "utils/memutils.h"
}

namespace panvel {
namespace {

// What a query that could be answered elsewhere has here before the first row is handed out.
constexpr size_t kHeldBytes = 8 * 1024 * 1024;

RemoteRequest *send(NodeRows *rows, const char *sql, const RemoteParams *params, Effect effect,
                    bool keep_prepared, bool binary) {
    MemoryContext old = MemoryContextSwitchTo(rows->context);
    RemoteStatement statement = {sql, params, effect, keep_prepared, binary};
    statement.shard_id = rows->shard_id;
    RemoteRequest *request = remote_send(rows->node_id, &statement);
    MemoryContextSwitchTo(old);
    return request;
}

void send_fetch(NodeRows *rows) {
    char *sql = psprintf("FETCH FORWARD %d FROM %s", rows->batch_rows, rows->cursor);
    RemoteRequest *request = send(rows, sql, nullptr, Effect::kRead, false, rows->decoder->binary);
    pfree(sql);
    MemoryContext old = MemoryContextSwitchTo(rows->context);
    rows->batches = lappend(rows->batches, request);
    MemoryContextSwitchTo(old);
}

// The batch that has been asked for and not taken in; null when there is none.
RemoteRequest *under_way(const NodeRows *rows) {
    return list_length(rows->batches) > rows->arrived
               ? static_cast<RemoteRequest *>(list_nth(rows->batches, rows->arrived))
               : nullptr;
}

bool is_held_back(const NodeRows *rows) {
    return rows->replaceable && !rows->started;
}

// Asks for the next batch: one ahead of the reader, or at once while nothing is handed out.
void ask_for_more(NodeRows *rows) {
    if (!rows->finished && under_way(rows) == nullptr && (rows->arrived <= 1 || is_held_back(rows)))
        send_fetch(rows);
}

bool failed_with_node(RemoteRequest *request) {
    ErrorData *error = request != nullptr ? remote_error(request) : nullptr;
    return error != nullptr && is_node_failure(error->sqlerrcode);
}

// Waits for the batch under way and takes it in.
void take_in(NodeRows *rows) {
    RemoteRequest *request = under_way(rows);
    if (is_held_back(rows)) {
        remote_wait_any(&request, 1);
        rows->lost = failed_with_node(rows->declared) || failed_with_node(request);
        if (rows->lost)
            return;
    }
    if (rows->declared != nullptr) {
        // When this failed the FETCH only says that the transaction is aborted.
        remote_wait(rows->declared);
        remote_release(rows->declared);
        rows->declared = nullptr;
    }
    PGresult *result = remote_wait(request);
    int count = PQntuples(result);
    rows->arrived++;
    rows->held_bytes += PQresultMemorySize(result);
    rows->rows_received += count;
    rows->microseconds += remote_elapsed(request);
    rows->finished = rows->bounded || count < rows->batch_rows;
    rows->started |= rows->finished || rows->held_bytes >= kHeldBytes;
    ask_for_more(rows);
}

PGresult *first_batch(const NodeRows *rows) {
    return remote_wait(static_cast<RemoteRequest *>(linitial(rows->batches)));
}

bool has_row(const NodeRows *rows) {
    return rows->arrived > 0 && rows->row < PQntuples(first_batch(rows));
}

void drop_first_batch(NodeRows *rows) {
    remote_release(static_cast<RemoteRequest *>(linitial(rows->batches)));
    rows->batches = list_delete_first(rows->batches);
    rows->arrived--;
    rows->row = 0;
    ask_for_more(rows);
}

} // namespace

void start_node_rows(NodeRows *rows) {
    if (rows->bounded) {
        RemoteRequest *request =
            send(rows, rows->sql, rows->params, rows->locks ? Effect::kRead : Effect::kReadOnce,
                 true, rows->decoder->binary);
        MemoryContext old = MemoryContextSwitchTo(rows->context);
        rows->batches = list_make1(request);
        MemoryContextSwitchTo(old);
        return;
    }
    MemoryContext old = MemoryContextSwitchTo(rows->context);
    rows->cursor = remote_unique_name("panvel_c");
    char *declare = psprintf("DECLARE %s NO SCROLL CURSOR FOR %s", rows->cursor, rows->sql);
    MemoryContextSwitchTo(old);
    // Not waited for here, so that all nodes start at once; see take_in().
    rows->declared = send(rows, declare, rows->params, Effect::kRead, false, false);
    send_fetch(rows);
    pfree(declare);
}

RemoteRequest *awaited_request(NodeRows *rows) {
    return rows->lost || (!is_held_back(rows) && has_row(rows)) ? nullptr : under_way(rows);
}

bool node_row_ready(NodeRows *rows) {
    for (;;) {
        RemoteRequest *request = awaited_request(rows);
        if (request == nullptr)
            return true;
        if (!remote_poll(request))
            return false;
        if (!is_held_back(rows))
            return true;
        take_in(rows);
    }
}

bool next_node_row(NodeRows *rows, Datum *values, bool *isnull) {
    while (is_held_back(rows) || !has_row(rows)) {
        if (rows->arrived > 0 && !is_held_back(rows))
            drop_first_batch(rows);
        else if (under_way(rows) == nullptr)
            return false;
        else
            take_in(rows);
        if (rows->lost)
            return false;
    }
    MemoryContextReset(rows->row_context);
    MemoryContext old = MemoryContextSwitchTo(rows->row_context);
    decode_row(rows->decoder, first_batch(rows), rows->row++, values, isnull);
    MemoryContextSwitchTo(old);
    return true;
}

void raise_lost(NodeRows *rows) {
    if (rows->declared != nullptr)
        remote_wait(rows->declared);
    remote_wait(under_way(rows));
    elog(ERROR, "a node that was lost has answered");
    pg_unreachable();
}

void stop_node_rows(NodeRows *rows) {
    if (rows->declared != nullptr)
        remote_release(rows->declared);
    rows->declared = nullptr;
    ListCell *cell;
    foreach (cell, rows->batches)
        remote_release(static_cast<RemoteRequest *>(lfirst(cell)));
    list_free(rows->batches);
    rows->batches = NIL;
    rows->arrived = 0;
    // The cursor of a node that was lost went with its session.
    if (rows->cursor == nullptr || rows->lost)
        return;
    char *sql = psprintf("CLOSE %s", rows->cursor);
    // Not waited for: requests run in order, and the transaction's end waits for all.
    RemoteRequest *closed = send(rows, sql, nullptr, Effect::kRead, false, false);
    remote_release(closed);
    pfree(sql);
    rows->cursor = nullptr;
}

} // namespace panvel
