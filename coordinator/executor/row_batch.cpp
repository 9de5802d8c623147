#include "coordinator/executor/row_batch.h"

#include "coordinator/planner/modify_sql.h"

extern "C" {
#include "access/transam.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

constexpr int kFirstCapacity = 16;

} // namespace

// The element type is only compared where both servers have it built in.
void append_value_array(StringInfo out, RemoteParams *const *rows, int count, int column,
                        Oid element_type) {
    bool has_null = false;
    for (int i = 0; i < count; i++)
        has_null |= rows[i]->values[column] == nullptr;
    pq_sendint32(out, 1); // dimensions
    pq_sendint32(out, has_null ? 1 : 0);
    pq_sendint32(out, element_type);
    pq_sendint32(out, count);
    pq_sendint32(out, 1); // lower bound
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
    MemoryContext previous = MemoryContextSwitchTo(batch->context);
    if (batch->row_count == batch->capacity) {
        batch->capacity = batch->capacity == 0 ? kFirstCapacity : batch->capacity * 2;
        batch->rows = batch->rows == nullptr
                          ? palloc_array(RemoteParams *, batch->capacity)
                          : repalloc_array(batch->rows, RemoteParams *, batch->capacity);
    }
    Datum *values = palloc_array(Datum, columns->count);
    bool *nulls = palloc_array(bool, columns->count);
    for (int i = 0; i < columns->count; i++) {
        AttrNumber attribute = columns->attributes[i];
        values[i] = slot->tts_values[attribute - 1];
        nulls[i] = slot->tts_isnull[attribute - 1];
    }
    RemoteParams *row = encode_params(columns->encoders, values, nulls, columns->count);
    batch->rows[batch->row_count++] = row;
    for (int i = 0; i < columns->count; i++)
        batch->bytes += sizeof(int32) + static_cast<size_t>(row->lengths[i]);
    MemoryContextSwitchTo(previous);
}

RemoteParams *batch_params(RowBatch *batch, const SentColumns *columns, const RemoteParams *more,
                           bool always_arrays) {
    bool arrays = always_arrays || batch->row_count > 1;
    if (!arrays && more == nullptr)
        return batch->rows[0];
    MemoryContext previous = MemoryContextSwitchTo(batch->context);
    int count = columns->count + (more != nullptr ? more->count : 0);
    Oid *types = palloc_array(Oid, count);
    const char **values = palloc_array(const char *, count);
    int *lengths = palloc_array(int, count);
    int *formats = palloc_array(int, count);
    for (int i = 0; i < count; i++) {
        const RemoteParams *from = i < columns->count ? batch->rows[0] : more;
        int position = i < columns->count ? i : i - columns->count;
        types[i] = from->types[position];
        values[i] = from->values[position];
        lengths[i] = from->lengths[position];
        formats[i] = from->formats[position];
    }
    for (int i = 0; i < columns->count && arrays; i++) {
        Oid array_type = get_array_type(columns->element_types[i]);
        StringInfoData array;
        initStringInfo(&array);
        append_value_array(&array, batch->rows, batch->row_count, i, columns->element_types[i]);
        types[i] = array_type < FirstGenbkiObjectId ? array_type : InvalidOid;
        values[i] = array.data;
        lengths[i] = array.len;
        formats[i] = 1;
    }
    RemoteParams *params = palloc_object(RemoteParams);
    params->count = count;
    params->types = types;
    params->values = values;
    params->lengths = lengths;
    params->formats = formats;
    MemoryContextSwitchTo(previous);
    return params;
}

void clear_row_batch(RowBatch *batch) {
    MemoryContextReset(batch->context);
    batch->rows = nullptr;
    batch->row_count = 0;
    batch->capacity = 0;
    batch->bytes = 0;
}

} // namespace panvel
