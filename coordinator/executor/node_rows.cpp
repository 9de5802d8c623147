#include "coordinator/executor/node_rows.h"

extern "C" {
#include "utils/memutils.h"
}

namespace panvel {
namespace {

RemoteRequest *send(NodeRows *rows, const char *sql, const RemoteParams *params, Effect effect,
                    bool keep_prepared, bool binary) {
    MemoryContext old = MemoryContextSwitchTo(rows->context);
    RemoteStatement statement = {sql, params, effect, keep_prepared, binary};
    statement.shard_id = rows->shard_id;
    RemoteRequest *request = remote_send(rows->node_id, &statement);
    MemoryContextSwitchTo(old);
    return request;
}

RemoteRequest *send_fetch(NodeRows *rows) {
    char *sql = psprintf("FETCH FORWARD %d FROM %s", rows->batch_rows, rows->cursor);
    RemoteRequest *request = send(rows, sql, nullptr, Effect::kRead, false, rows->decoder->binary);
    pfree(sql);
    return request;
}

void release(RemoteRequest **request) {
    if (*request != nullptr)
        remote_release(*request);
    *request = nullptr;
}

// Takes over the result that has arrived and asks for the batch after it.
void receive_batch(NodeRows *rows) {
    if (rows->declared != nullptr) {
        // When this failed the FETCH only says that the transaction is aborted.
        remote_wait(rows->declared);
        release(&rows->declared);
    }
    rows->result = remote_wait(rows->request);
    rows->row = 0;
    int count = PQntuples(rows->result);
    rows->rows_received += count;
    rows->microseconds += remote_elapsed(rows->request);
    rows->finished = rows->bounded || count < rows->batch_rows;
    if (!rows->finished)
        rows->next = send_fetch(rows);
}

bool batch_has_rows(NodeRows *rows) {
    return rows->result != nullptr && rows->row < PQntuples(rows->result);
}

} // namespace

void start_node_rows(NodeRows *rows) {
    if (rows->bounded) {
        rows->request =
            send(rows, rows->sql, rows->params, rows->locks ? Effect::kRead : Effect::kReadOnce,
                 true, rows->decoder->binary);
        return;
    }
    MemoryContext old = MemoryContextSwitchTo(rows->context);
    rows->cursor = remote_unique_name("panvel_c");
    char *declare = psprintf("DECLARE %s NO SCROLL CURSOR FOR %s", rows->cursor, rows->sql);
    MemoryContextSwitchTo(old);
    // Not waited for here, so that all nodes start at once; see receive_batch().
    rows->declared = send(rows, declare, rows->params, Effect::kRead, false, false);
    rows->request = send_fetch(rows);
    pfree(declare);
}

RemoteRequest *awaited_request(NodeRows *rows) {
    if (batch_has_rows(rows))
        return nullptr;
    if (rows->result == nullptr)
        return rows->request;
    return rows->next;
}

bool node_row_ready(NodeRows *rows) {
    RemoteRequest *request = awaited_request(rows);
    return request == nullptr || remote_poll(request);
}

bool next_node_row(NodeRows *rows, Datum *values, bool *isnull) {
    if (rows->result == nullptr && rows->request != nullptr)
        receive_batch(rows);
    while (!batch_has_rows(rows)) {
        release(&rows->request);
        rows->result = nullptr;
        if (rows->next == nullptr)
            return false;
        std::swap(rows->request, rows->next);
        receive_batch(rows);
    }
    MemoryContextReset(rows->row_context);
    MemoryContext old = MemoryContextSwitchTo(rows->row_context);
    decode_row(rows->decoder, rows->result, rows->row++, values, isnull);
    MemoryContextSwitchTo(old);
    return true;
}

void stop_node_rows(NodeRows *rows) {
    release(&rows->declared);
    release(&rows->request);
    release(&rows->next);
    rows->result = nullptr;
    if (rows->cursor == nullptr)
        return;
    char *sql = psprintf("CLOSE %s", rows->cursor);
    // Not waited for: requests run in order, and the transaction's end waits for all.
    RemoteRequest *closed = send(rows, sql, nullptr, Effect::kRead, false, false);
    remote_release(closed);
    pfree(sql);
    rows->cursor = nullptr;
}

} // namespace panvel
