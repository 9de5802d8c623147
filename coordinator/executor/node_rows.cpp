#include "coordinator/executor/node_rows.h"

extern "C" {
#include "port/pg_bswap.h"
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
    statement.guarded = rows->guarded && effect == Effect::kReadOnce;
    statement.may_be_stale = rows->may_be_stale;
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

// ------------------------------------------------------------------ shared answers

int64 query_number(const PGresult *result, int row) {
    int column = PQnfields(result) - 1;
    const char *value = PQgetvalue(result, row, column);
    if (PQfformat(result, column) == 0)
        return strtoll(value, nullptr, 10);
    uint64 number = 0;
    if (PQgetlength(result, row, column) == sizeof(number))
        memcpy(&number, value, sizeof(number));
    return static_cast<int64>(pg_ntoh64(number));
}

void find_ends(SharedAnswer *answer, const PGresult *result) {
    auto *ends = static_cast<int *>(
        MemoryContextAlloc(answer->context, sizeof(int) * static_cast<size_t>(answer->count)));
    int count = PQntuples(result);
    int row = 0;
    for (int i = 0; i < answer->count; i++) {
        while (row < count && query_number(result, row) == i + 1)
            row++;
        ends[i] = row;
    }
    if (row < count)
        ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                        errmsg("a node's answer to several queries is not in their order")));
    answer->ends = ends;
}

// False when the statement failed: nobody knows by which query.
bool take_shared_rows(NodeRows *rows) {
    SharedAnswer *answer = rows->shared;
    remote_wait_any(&answer->request, 1);
    if (remote_error(answer->request) != nullptr)
        return false;
    PGresult *result = remote_wait(answer->request);
    if (answer->ends == nullptr)
        find_ends(answer, result);
    int number = rows->shared_number;
    rows->row = number > 0 ? answer->ends[number - 1] : 0;
    rows->row_end = answer->ends[number];
    rows->rows_received += rows->row_end - rows->row;
    rows->microseconds += remote_elapsed(answer->request) / answer->count;
    rows->shared_taken = true;
    return true;
}

bool is_shared_under_way(const NodeRows *rows) {
    return rows->shared != nullptr && !rows->shared_taken;
}

// ------------------------------------------------------------------ answers of its own

bool is_held_back(const NodeRows *rows) {
    return rows->replaceable && !rows->started;
}

// Asks for the next batch: one ahead of the reader, or at once while nothing is handed out.
void ask_for_more(NodeRows *rows) {
    if (!rows->finished && under_way(rows) == nullptr && (rows->arrived <= 1 || is_held_back(rows)))
        send_fetch(rows);
}

bool is_loss(const NodeRows *rows, RemoteRequest *request) {
    ErrorData *error = request != nullptr ? remote_error(request) : nullptr;
    return error != nullptr && (rows->optional || is_node_failure(error->sqlerrcode));
}

// Waits for the batch under way and takes it in.
void take_in(NodeRows *rows) {
    RemoteRequest *request = under_way(rows);
    if (is_held_back(rows)) {
        remote_wait_any(&request, 1);
        rows->lost = is_loss(rows, rows->declared) || is_loss(rows, request);
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

void decode(NodeRows *rows, PGresult *result, Datum *values, bool *isnull) {
    MemoryContextReset(rows->row_context);
    MemoryContext old = MemoryContextSwitchTo(rows->row_context);
    decode_row(rows->decoder, result, rows->row++, values, isnull, rows->shared != nullptr ? 1 : 0);
    MemoryContextSwitchTo(old);
}

bool next_shared_row(NodeRows *rows, Datum *values, bool *isnull) {
    if (rows->row == rows->row_end)
        return false;
    decode(rows, remote_wait(rows->shared->request), values, isnull);
    return true;
}

} // namespace

void start_node_rows(NodeRows *rows) {
    if (rows->bounded) {
        RemoteRequest *request =
            send(rows, rows->sql, rows->params, rows->locks ? Effect::kLock : Effect::kReadOnce,
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
    rows->declared = send(rows, declare, rows->params, rows->locks ? Effect::kLock : Effect::kRead,
                          false, false);
    send_fetch(rows);
    pfree(declare);
}

RemoteRequest *awaited_request(NodeRows *rows) {
    if (rows->shared != nullptr)
        return rows->shared_taken ? nullptr : rows->shared->request;
    return rows->lost || (!is_held_back(rows) && has_row(rows)) ? nullptr : under_way(rows);
}

bool node_row_ready(NodeRows *rows) {
    for (;;) {
        RemoteRequest *request = awaited_request(rows);
        if (request == nullptr)
            return true;
        if (!remote_done(request))
            return false;
        if (!is_held_back(rows) || is_shared_under_way(rows))
            return true;
        take_in(rows);
    }
}

bool next_node_row(NodeRows *rows, Datum *values, bool *isnull) {
    if (is_shared_under_way(rows) && !take_shared_rows(rows)) {
        rows->shared = nullptr;
        start_node_rows(rows);
    }
    if (rows->shared != nullptr)
        return next_shared_row(rows, values, isnull);
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
    decode(rows, first_batch(rows), values, isnull);
    return true;
}

ErrorData *lost_error(NodeRows *rows) {
    ErrorData *error = rows->declared != nullptr ? remote_error(rows->declared) : nullptr;
    return error != nullptr ? error : remote_error(under_way(rows));
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
