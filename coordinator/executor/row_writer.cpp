#include "coordinator/executor/row_writer.h"

#include "coordinator/replication/in_sync.h"

extern "C" {
#include "executor/executor.h"
#include "utils/builtins.h"
}

namespace panvel {
namespace {

// A shard's rows are sent when there are so many, or so many bytes of them.
constexpr int kBatchRows = 1000;
constexpr size_t kBatchBytes = 512 * 1024;
// No further row is taken while so much is under way.
constexpr size_t kBytesUnderWay = 8 * 1024 * 1024;
// A statement with all rows of a shard has limits.
constexpr size_t kStatementBytes = 512 * 1024 * 1024;

MemoryContext query_context(const RowWriter *writer) {
    return writer->modify->custom.ss.ps.state->es_query_cxt;
}

// A lock is taken on the placement whose rows were read.
WriteRequest send_lock(RowWriter *writer, const Shard *shard, const RemoteParams *params) {
    note_written(writer->modify->table, shard);
    RemoteStatement statement = {};
    statement.sql = psprintf("%s%s%s", writer->command,
                             shard_relation_name(writer->modify->table, shard), writer->tail);
    statement.params = params;
    statement.effect = Effect::kWrite;
    statement.keep_prepared = true;
    statement.shard_id = shard->shard_id;
    return {remote_send(write_node(shard), &statement), 0, NIL, shard, statement};
}

int64 count_locked(RowStatement *statement) {
    PGresult *result = remote_wait(statement->write.request);
    return strtoll(PQgetvalue(result, 0, 0), nullptr, 10);
}

void finish(RowWriter *writer, RowStatement *statement) {
    if (writer->locks)
        writer->affected += count_locked(statement);
    else
        writer->affected += remote_affected(finish_write(writer->modify, &statement->write));
    if (statement->params != nullptr)
        MemoryContextDelete(statement->params);
    statement->params = nullptr;
    writer->bytes_under_way -= statement->bytes;
    writer->sent = list_delete_ptr(writer->sent, statement);
    if (writer->keep_results)
        writer->done = lappend(writer->done, statement);
    else
        release_statement(statement);
}

// Waits until the statements under way are few enough. Those of one shard are done in order.
void limit_under_way(RowWriter *writer) {
    while (writer->bytes_under_way > kBytesUnderWay && !writer->keep_results) {
        int count = list_length(writer->sent);
        auto **requests = palloc_array(RemoteRequest *, count);
        for (int i = 0; i < count; i++)
            requests[i] = static_cast<RowStatement *>(list_nth(writer->sent, i))->write.request;
        int done = remote_wait_any(requests, count);
        pfree(requests);
        finish(writer, static_cast<RowStatement *>(list_nth(writer->sent, done)));
    }
}

// The batch's memory goes with the statement where its parameters are needed until it is done.
void hand_over(RowWriter *writer, RowBatch *batch, RowStatement *statement) {
    if (writer->locks || !sends_same_to_followers(writer->modify)) {
        clear_row_batch(batch);
        return;
    }
    statement->params = batch->context;
    init_row_batch(batch, query_context(writer));
}

void send_batch(RowWriter *writer, int shard) {
    RowBatch *batch = &writer->batches[shard];
    if (batch->row_count == 0)
        return;
    MemoryContext previous = MemoryContextSwitchTo(query_context(writer));
    const Shard *target = &writer->modify->table->shards[shard];
    RowStatement *statement = palloc0_object(RowStatement);
    statement->shard = shard;
    statement->rows = batch->row_count;
    statement->bytes = batch->bytes;
    statement->numbers = writer->numbers[shard];
    writer->numbers[shard] = nullptr;
    bool one_row = writer->tail_one != nullptr && batch->row_count == 1;
    const char *tail = writer->last_tail = one_row ? writer->tail_one : writer->tail;
    RemoteParams *params = batch_params(batch, writer->columns, writer->more, one_row);
    statement->write = writer->locks
                           ? send_lock(writer, target, params)
                           : send_write(writer->modify, target, writer->command, tail, params);
    writer->sent = lappend(writer->sent, statement);
    writer->shards = bms_add_member(writer->shards, shard);
    hand_over(writer, batch, statement);
    MemoryContextSwitchTo(previous);
    writer->bytes_under_way += statement->bytes;
    limit_under_way(writer);
}

void note_number(RowWriter *writer, int shard, int number) {
    if (writer->numbers[shard] == nullptr)
        writer->numbers[shard] =
            static_cast<int *>(MemoryContextAlloc(query_context(writer), sizeof(int) * kBatchRows));
    writer->numbers[shard][writer->batches[shard].row_count] = number;
}

void check_size(const RowBatch *batch) {
    if (batch->bytes > kStatementBytes)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("INSERT ... ON CONFLICT DO UPDATE of more than %zu MB for one shard",
                               kStatementBytes / (1024 * 1024)),
                        errhint("Insert fewer rows in one statement.")));
}

} // namespace

RowWriter *make_row_writer(ModifyState *modify, const char *command, const char *tail,
                           TupleDesc row, List *positions) {
    RowWriter *writer = palloc0_object(RowWriter);
    writer->modify = modify;
    writer->command = command;
    writer->tail = tail;
    writer->columns = make_sent_columns(row, positions);
    writer->batches = palloc0_array(RowBatch, modify->table->shard_count);
    writer->numbers = palloc0_array(int *, modify->table->shard_count);
    for (int i = 0; i < modify->table->shard_count; i++)
        init_row_batch(&writer->batches[i], CurrentMemoryContext);
    return writer;
}

void write_row(RowWriter *writer, int shard, TupleTableSlot *slot, int number) {
    RowBatch *batch = &writer->batches[shard];
    if (writer->numbered)
        note_number(writer, shard, number);
    add_row(batch, writer->columns, slot);
    writer->written++;
    if (writer->undivided)
        check_size(batch);
    else if (batch->row_count >= kBatchRows || batch->bytes >= kBatchBytes)
        send_batch(writer, shard);
}

void flush_rows(RowWriter *writer) {
    for (int i = 0; i < writer->modify->table->shard_count; i++)
        send_batch(writer, i);
    while (writer->sent != NIL)
        finish(writer, static_cast<RowStatement *>(linitial(writer->sent)));
    if (!writer->locks)
        finish_all_writes(writer->modify);
}

void release_statement(RowStatement *statement) {
    remote_release(statement->write.request);
    if (statement->numbers != nullptr)
        pfree(statement->numbers);
    pfree(statement);
}

} // namespace panvel
