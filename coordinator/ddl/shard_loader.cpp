#include "coordinator/ddl/shard_loader.h"

#include "coordinator/executor/codec.h"
#include "coordinator/remote/remote.h"
#include "coordinator/replication/apply.h"
#include "coordinator/replication/in_sync.h"

extern "C" {
#include "access/htup_details.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

// A COPY on a worker ends with a time that grows with the square of its first 1,000 rows (it forgets
// the descriptor of each slot, which it looks for in a list): few large ones cost less.
constexpr int kBatchBytes = 1024 * 1024;
constexpr int64 kMaxBuffered = 16 * 1024 * 1024;
// So that a node that is done with one has the next, and several shards of a node may be full at
// once without the input having to wait.
constexpr int kBatchesPerNode = 4;
// A batch moves on only when its connection is looked after: each time so much has been read.
constexpr int64 kBytesBetweenLooks = 32 * 1024;

// Where the rows of a batch were in the user's input: lines[0] for the batch's first row.
struct InputLines {
    uint64 *lines; // null until the first row
    int count;
    int capacity;
};

struct ShardBuffer {
    const char *copy_sql;
    StringInfoData data; // data.data is null until the first row
    int limit;           // it is sent when it has so many bytes
    InputLines lines;
};

// A batch under way on a node.
struct SentBatch {
    RemoteRequest *request;
    InputLines lines;
};

struct NodeStream {
    int32 node_id;
    List *batches; // SentBatch *, in the order sent
};

} // namespace

struct ShardLoader {
    const DistributedTable *table;
    Relation relation;
    MemoryContext context;
    bool binary;
    int column_count;
    int *columns; // indexes into a row of those that are sent
    ParamEncoder *encoders;
    Datum *sent_values;
    bool *sent_isnull;
    StringInfo *outs;     // where append_values() puts a binary row
    ShardBuffer *buffers; // by shard index
    int64 buffered;       // bytes in all buffers
    int64 since_look;     // bytes added since the connections were looked after
    List *streams;        // NodeStream *
    Bitmapset *noted;     // shards that rows have been sent to
    uint64 rows;
};

namespace {

char *copy_command(const ShardLoader *loader, const Shard *shard) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, "COPY %s (", shard_relation_name(loader->table, shard));
    TupleDesc columns = RelationGetDescr(loader->relation);
    for (int i = 0; i < loader->column_count; i++)
        appendStringInfo(
            &sql, "%s%s", i > 0 ? ", " : "",
            quote_identifier(NameStr(TupleDescAttr(columns, loader->columns[i])->attname)));
    appendStringInfo(&sql, ") FROM STDIN (FORMAT %s)", loader->binary ? "binary" : "text");
    return sql.data;
}

void append_int16(StringInfo data, int16 value) {
    uint16 wire = pg_hton16(static_cast<uint16>(value));
    appendBinaryStringInfo(data, reinterpret_cast<char *>(&wire), sizeof(wire));
}

void append_int32(StringInfo data, int32 value) {
    uint32 wire = pg_hton32(static_cast<uint32>(value));
    appendBinaryStringInfo(data, reinterpret_cast<char *>(&wire), sizeof(wire));
}

void start_buffer(const ShardLoader *loader, ShardBuffer *buffer) {
    StringInfo data = &buffer->data;
    MemoryContext caller = MemoryContextSwitchTo(loader->context);
    initStringInfo(data);
    buffer->lines.capacity = 64;
    buffer->lines.lines = palloc_array(uint64, buffer->lines.capacity);
    MemoryContextSwitchTo(caller);
    if (!loader->binary)
        return;
    appendBinaryStringInfo(data, "PGCOPY\n\377\r\n\0", 11);
    append_int32(data, 0); // flags
    append_int32(data, 0); // header extension
}

void append_binary_row(ShardLoader *loader, StringInfo data) {
    append_int16(data, static_cast<int16>(loader->column_count));
    for (int i = 0; i < loader->column_count; i++)
        loader->outs[i] = data;
    append_values(loader->encoders, loader->sent_values, loader->sent_isnull, loader->column_count,
                  loader->outs);
}

void append_text_row(ShardLoader *loader, StringInfo data) {
    const RemoteParams *row = encode_params(loader->encoders, loader->sent_values,
                                            loader->sent_isnull, loader->column_count);
    for (int i = 0; i < row->count; i++) {
        if (i > 0)
            appendStringInfoChar(data, '\t');
        if (row->values[i] == nullptr) {
            appendStringInfoString(data, "\\N");
            continue;
        }
        for (const char *c = row->values[i]; *c != '\0'; c++) {
            switch (*c) {
            case '\\':
                appendStringInfoString(data, "\\\\");
                break;
            case '\t':
                appendStringInfoString(data, "\\t");
                break;
            case '\n':
                appendStringInfoString(data, "\\n");
                break;
            case '\r':
                appendStringInfoString(data, "\\r");
                break;
            default:
                appendStringInfoChar(data, *c);
            }
        }
    }
    appendStringInfoChar(data, '\n');
}

NodeStream *stream_to(ShardLoader *loader, int32 node_id) {
    ListCell *cell;
    foreach (cell, loader->streams) {
        auto *stream = static_cast<NodeStream *>(lfirst(cell));
        if (stream->node_id == node_id)
            return stream;
    }
    auto *stream = palloc0_object(NodeStream);
    stream->node_id = node_id;
    loader->streams = lappend(loader->streams, stream);
    return stream;
}

void add_line(InputLines *lines, uint64 line) {
    if (lines->count == lines->capacity) {
        lines->capacity *= 2;
        lines->lines = static_cast<uint64 *>(
            repalloc(lines->lines, sizeof(uint64) * static_cast<size_t>(lines->capacity)));
    }
    lines->lines[lines->count++] = line;
}

InputLines copy_lines(const InputLines *lines) {
    InputLines copy = *lines;
    copy.capacity = copy.count;
    copy.lines = palloc_array(uint64, copy.count);
    memcpy(copy.lines, lines->lines, sizeof(uint64) * static_cast<size_t>(copy.count));
    return copy;
}

// A node that refuses a row says "COPY items, line 5": the fifth row of the batch. The user's
// input has it elsewhere.
[[noreturn]] void raise_in_input(const ShardLoader *loader, const SentBatch *batch,
                                 ErrorData *error) {
    const char *place = error->context != nullptr ? strstr(error->context, ", line ") : nullptr;
    if (place != nullptr && strncmp(error->context, "COPY ", 5) == 0) {
        long number = strtol(place + strlen(", line "), nullptr, 10);
        uint64 line =
            number >= 1 && number <= batch->lines.count ? batch->lines.lines[number - 1] : 0;
        const char *rest = strchr(place, '\n');
        if (line > 0)
            error->context =
                psprintf("COPY %s, line %llu%s", RelationGetRelationName(loader->relation),
                         static_cast<unsigned long long>(line), rest != nullptr ? rest : "");
        else
            error->context = pstrdup(rest != nullptr ? rest + 1 : "");
    }
    ReThrowError(error);
    pg_unreachable();
}

void wait_for_first(const ShardLoader *loader, NodeStream *stream) {
    auto *batch = static_cast<SentBatch *>(linitial(stream->batches));
    remote_wait_any(&batch->request, 1);
    ErrorData *error = remote_error(batch->request);
    if (error != nullptr)
        raise_in_input(loader, batch, error);
    remote_wait(batch->request);
    remote_release(batch->request);
    pfree(batch->lines.lines);
    pfree(batch);
    stream->batches = list_delete_first(stream->batches);
}

void send_to_node(ShardLoader *loader, int32 node_id, const ShardBuffer *buffer) {
    NodeStream *stream = stream_to(loader, node_id);
    while (list_length(stream->batches) >= kBatchesPerNode)
        wait_for_first(loader, stream);
    auto *batch = palloc_object(SentBatch);
    batch->lines = copy_lines(&buffer->lines);
    batch->request =
        remote_send_copy(node_id, buffer->copy_sql, buffer->data.data, buffer->data.len);
    stream->batches = lappend(stream->batches, batch);
}

// Takes what has arrived and sends what can be sent, without waiting.
void look_after_streams(ShardLoader *loader) {
    loader->since_look = 0;
    ListCell *cell;
    foreach (cell, loader->streams) {
        auto *stream = static_cast<NodeStream *>(lfirst(cell));
        if (stream->batches != NIL)
            remote_poll(static_cast<SentBatch *>(linitial(stream->batches))->request);
    }
}

void flush_shard(ShardLoader *loader, int index) {
    ShardBuffer *buffer = &loader->buffers[index];
    const Shard *shard = &loader->table->shards[index];
    MemoryContext caller = MemoryContextSwitchTo(loader->context);
    loader->buffered -= buffer->data.len;
    if (loader->binary)
        append_int16(&buffer->data, -1);
    if (is_replicated(loader->table) && !bms_is_member(index, loader->noted)) {
        note_written(loader->table, shard);
        journal_unknown(shard);
        loader->noted = bms_add_member(loader->noted, index);
    }
    for (int i = 0; i < shard->placement_count; i++) {
        if (!shard->placements[i].active)
            continue;
        send_to_node(loader, shard->placements[i].node_id, buffer);
    }
    pfree(buffer->data.data);
    pfree(buffer->lines.lines);
    buffer->data = {};
    buffer->lines = {};
    buffer->limit = kBatchBytes;
    MemoryContextSwitchTo(caller);
}

void flush_largest(ShardLoader *loader) {
    int largest = 0;
    for (int i = 1; i < loader->table->shard_count; i++)
        if (loader->buffers[i].data.len > loader->buffers[largest].data.len)
            largest = i;
    flush_shard(loader, largest);
}

void init_encoders(ShardLoader *loader) {
    TupleDesc columns = RelationGetDescr(loader->relation);
    loader->columns = palloc_array(int, columns->natts);
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        if (!column->attisdropped && column->attgenerated == '\0')
            loader->columns[loader->column_count++] = i;
    }
    loader->encoders = palloc0_array(ParamEncoder, loader->column_count);
    loader->binary = true;
    for (int i = 0; i < loader->column_count; i++) {
        init_param_encoder(&loader->encoders[i],
                           TupleDescAttr(columns, loader->columns[i])->atttypid);
        loader->binary &= loader->encoders[i].binary;
    }
    if (loader->binary)
        return;
    // A COPY is in one format as a whole.
    for (int i = 0; i < loader->column_count; i++)
        init_text_param_encoder(&loader->encoders[i], loader->encoders[i].type);
}

} // namespace

ShardLoader *begin_shard_load(const DistributedTable *table, Relation relation) {
    auto *loader = palloc0_object(ShardLoader);
    loader->table = table;
    loader->relation = relation;
    loader->context =
        AllocSetContextCreate(CurrentMemoryContext, "panvel shard load", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(loader->context);
    init_encoders(loader);
    loader->sent_values = palloc_array(Datum, loader->column_count);
    loader->sent_isnull = palloc_array(bool, loader->column_count);
    loader->outs = palloc_array(StringInfo, loader->column_count);
    loader->buffers = palloc0_array(ShardBuffer, table->shard_count);
    // Hashes fill all shards alike: first batches of different sizes keep them from being full
    // all at the same time, when nodes would have nothing to do before and too much after.
    for (int i = 0; i < table->shard_count; i++) {
        loader->buffers[i].copy_sql = copy_command(loader, &table->shards[i]);
        loader->buffers[i].limit =
            static_cast<int>(int64{kBatchBytes} * (i + 1) / table->shard_count);
    }
    MemoryContextSwitchTo(caller);
    return loader;
}

void load_row(ShardLoader *loader, const Datum *values, const bool *isnull, uint64 line) {
    int key = loader->table->distribution_attribute - 1; // -1: a reference table, of one shard
    if (key >= 0 && isnull[key]) {
        const char *column =
            NameStr(TupleDescAttr(RelationGetDescr(loader->relation), key)->attname);
        ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
                        errmsg("null value in distribution column \"%s\" of relation \"%s\"",
                               column, RelationGetRelationName(loader->relation)),
                        errdetail("A row without a distribution key belongs to no shard."),
                        errtablecol(loader->relation, key + 1)));
    }
    for (int i = 0; i < loader->column_count; i++) {
        loader->sent_values[i] = values[loader->columns[i]];
        loader->sent_isnull[i] = isnull[loader->columns[i]];
    }
    int index = key >= 0 ? shard_index_for_value(loader->table, values[key]) : 0;
    StringInfo data = &loader->buffers[index].data;
    int before = data->len;
    if (before == 0)
        start_buffer(loader, &loader->buffers[index]);
    add_line(&loader->buffers[index].lines, line);
    if (loader->binary)
        append_binary_row(loader, data);
    else
        append_text_row(loader, data);
    loader->buffered += data->len - before;
    loader->since_look += data->len - before;
    loader->rows++;

    if (data->len >= loader->buffers[index].limit)
        flush_shard(loader, index);
    else if (loader->buffered >= kMaxBuffered)
        flush_largest(loader);
    else if (loader->since_look >= kBytesBetweenLooks)
        look_after_streams(loader);
}

uint64 finish_shard_load(ShardLoader *loader) {
    for (int i = 0; i < loader->table->shard_count; i++)
        if (loader->buffers[i].data.len > 0)
            flush_shard(loader, i);
    ListCell *cell;
    foreach (cell, loader->streams) {
        auto *stream = static_cast<NodeStream *>(lfirst(cell));
        while (stream->batches != NIL)
            wait_for_first(loader, stream);
    }
    uint64 rows = loader->rows;
    MemoryContextDelete(loader->context);
    return rows;
}

} // namespace panvel
