#include "coordinator/executor/row_batch.h"

#include "coordinator/planner/modify_sql.h"

extern "C" {
#include "access/transam.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "port/pg_bswap.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

// What precedes the elements of a one-dimensional array. The element type is only compared where
// both servers have it built in.
void append_array_header(StringInfo out, bool has_null, Oid element_type, int count) {
    pq_sendint32(out, 1); // dimensions
    pq_sendint32(out, has_null ? 1 : 0);
    pq_sendint32(out, element_type);
    pq_sendint32(out, count);
    pq_sendint32(out, 1); // lower bound
}

constexpr int kHeaderSize = 5 * sizeof(int32);

void start_arrays(RowBatch *batch, const SentColumns *columns) {
    MemoryContext previous = MemoryContextSwitchTo(batch->context);
    batch->arrays = palloc_array(StringInfoData, columns->count);
    batch->has_null = palloc0_array(bool, columns->count);
    for (int i = 0; i < columns->count; i++) {
        initStringInfo(&batch->arrays[i]);
        append_array_header(&batch->arrays[i], false, columns->element_types[i], 0);
    }
    MemoryContextSwitchTo(previous);
}

// The header again, now that the rows are there.
void finish_array(RowBatch *batch, int column, Oid element_type) {
    StringInfo array = &batch->arrays[column];
    int length = array->len;
    array->len = 0;
    append_array_header(array, batch->has_null[column], element_type, batch->row_count);
    array->len = length;
}

// The arrays of a RemoteParams while they are filled.
struct ParamArrays {
    Oid *types;
    const char **values;
    int *lengths;
    int *formats;

    explicit ParamArrays(int count)
        : types(palloc_array(Oid, count)), values(palloc_array(const char *, count)),
          lengths(palloc_array(int, count)), formats(palloc_array(int, count)) {}

    void set(int number, Oid type, const char *value, int length, int format) const {
        types[number] = type;
        values[number] = value;
        lengths[number] = length;
        formats[number] = format;
    }
};

void set_array(const ParamArrays *params, RowBatch *batch, const SentColumns *columns, int column) {
    finish_array(batch, column, columns->element_types[column]);
    Oid type = get_array_type(columns->element_types[column]);
    params->set(column, type < FirstGenbkiObjectId ? type : InvalidOid, batch->arrays[column].data,
                batch->arrays[column].len, 1);
}

void set_value(const ParamArrays *params, const RowBatch *batch, const SentColumns *columns,
               int column) {
    const char *element = batch->arrays[column].data + kHeaderSize;
    uint32 wire;
    memcpy(&wire, element, sizeof(wire));
    const ParamEncoder *encoder = &columns->encoders[column];
    bool isnull = batch->has_null[column];
    params->set(column, encoder->wire_type, isnull ? nullptr : element + sizeof(wire),
                isnull ? 0 : static_cast<int>(pg_ntoh32(wire)), encoder->binary ? 1 : 0);
}

} // namespace

void append_value_array(StringInfo out, RemoteParams *const *rows, int count, int column,
                        Oid element_type) {
    bool has_null = false;
    for (int i = 0; i < count; i++)
        has_null |= rows[i]->values[column] == nullptr;
    append_array_header(out, has_null, element_type, count);
    for (int i = 0; i < count; i++) {
        const RemoteParams *row = rows[i];
        if (row->values[column] == nullptr) {
            pq_sendint32(out, -1);
            continue;
        }
        pq_sendint32(out, row->lengths[column]);
        pq_sendbytes(out, row->values[column], row->lengths[column]);
    }
}

SentColumns *make_sent_columns(TupleDesc relation, List *attributes) {
    SentColumns *columns = palloc_object(SentColumns);
    columns->count = list_length(attributes);
    columns->attributes = palloc_array(AttrNumber, columns->count);
    columns->encoders = palloc0_array(ParamEncoder, columns->count);
    columns->element_types = palloc_array(Oid, columns->count);
    columns->scratch =
        AllocSetContextCreate(CurrentMemoryContext, "row for a shard", ALLOCSET_DEFAULT_SIZES);
    columns->values = palloc_array(Datum, columns->count);
    columns->nulls = palloc_array(bool, columns->count);
    columns->outs = palloc_array(StringInfo, columns->count);
    for (int i = 0; i < columns->count; i++) {
        columns->attributes[i] = list_nth_int(attributes, i);
        SentColumn sent =
            sent_column(TupleDescAttr(relation, columns->attributes[i] - 1)->atttypid);
        columns->element_types[i] = sent.element_type;
        // What is an element of a text array among many rows is text in a single row, too.
        if (sent.cast != nullptr)
            init_text_param_encoder(&columns->encoders[i], sent.type);
        else
            init_param_encoder(&columns->encoders[i], sent.type);
    }
    return columns;
}

void init_row_batch(RowBatch *batch, MemoryContext parent) {
    *batch = {};
    batch->context = AllocSetContextCreate(parent, "rows for a shard", ALLOCSET_SMALL_MINSIZE,
                                           ALLOCSET_SMALL_INITSIZE, ALLOCSET_DEFAULT_MAXSIZE);
}

void add_row(RowBatch *batch, SentColumns *columns, TupleTableSlot *slot) {
    if (batch->arrays == nullptr)
        start_arrays(batch, columns);
    size_t before = 0;
    size_t after = 0;
    for (int i = 0; i < columns->count; i++) {
        int position = columns->attributes[i] - 1;
        columns->values[i] = slot->tts_values[position];
        columns->nulls[i] = slot->tts_isnull[position];
        columns->outs[i] = &batch->arrays[i];
        batch->has_null[i] |= columns->nulls[i];
        before += static_cast<size_t>(batch->arrays[i].len);
    }
    MemoryContext previous = MemoryContextSwitchTo(columns->scratch);
    append_values(columns->encoders, columns->values, columns->nulls, columns->count,
                  columns->outs);
    MemoryContextSwitchTo(previous);
    MemoryContextReset(columns->scratch);
    for (int i = 0; i < columns->count; i++)
        after += static_cast<size_t>(batch->arrays[i].len);
    batch->bytes += after - before;
    batch->row_count++;
}

RemoteParams *batch_params(RowBatch *batch, const SentColumns *columns, const RemoteParams *more,
                           bool one_row) {
    Assert(!one_row || batch->row_count == 1);
    MemoryContext previous = MemoryContextSwitchTo(batch->context);
    int count = columns->count + (more != nullptr ? more->count : 0);
    ParamArrays arrays(count);
    for (int i = 0; i < columns->count; i++) {
        if (one_row)
            set_value(&arrays, batch, columns, i);
        else
            set_array(&arrays, batch, columns, i);
    }
    for (int i = columns->count; i < count; i++) {
        int from = i - columns->count;
        arrays.set(i, more->types[from], more->values[from], more->lengths[from],
                   more->formats[from]);
    }
    RemoteParams *params = palloc_object(RemoteParams);
    *params = {count, arrays.types, arrays.values, arrays.lengths, arrays.formats};
    MemoryContextSwitchTo(previous);
    return params;
}

void clear_row_batch(RowBatch *batch) {
    MemoryContextReset(batch->context);
    *batch = {batch->context, nullptr, nullptr, 0, 0};
}

} // namespace panvel
