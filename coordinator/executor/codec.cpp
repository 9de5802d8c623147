#include "coordinator/executor/codec.h"

extern "C" {
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
}

namespace panvel {

bool is_object_identifier(Oid type) {
    switch (type) {
    case REGPROCOID:
    case REGPROCEDUREOID:
    case REGOPEROID:
    case REGOPERATOROID:
    case REGCLASSOID:
    case REGCOLLATIONOID:
    case REGTYPEOID:
    case REGROLEOID:
    case REGNAMESPACEOID:
    case REGCONFIGOID:
    case REGDICTIONARYOID:
        return true;
    default:
        return false;
    }
}

namespace {

bool composite_travels_in_binary(Oid type) {
    TupleDesc columns = lookup_rowtype_tupdesc_copy(type, -1);
    bool binary = true;
    for (int i = 0; i < columns->natts && binary; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        binary = column->attisdropped || travels_in_binary(column->atttypid);
    }
    FreeTupleDesc(columns);
    return binary;
}

// textsend and its like convert to the encoding of this backend's client, textrecv back from it.
// Between servers the database's encoding is spoken. Runs `body` with no conversion in effect.
template <typename Body> void in_database_encoding(Body &&body) {
    int client = pg_get_client_encoding();
    if (client == GetDatabaseEncoding()) {
        body();
        return;
    }
    SetClientEncoding(GetDatabaseEncoding());
    PG_TRY();
    { body(); }
    PG_FINALLY();
    { SetClientEncoding(client); }
    PG_END_TRY();
}

// Settings under which text output is read the same by any server: names qualified, dates
// unambiguous, floats exact. Undone by AtEOXact_GUC(true, level), or by the end of a failed
// transaction.
int enter_transmission_modes() {
    int level = NewGUCNestLevel();
    auto set = [](const char *name, const char *value) {
        set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    };
    if (DateStyle != USE_ISO_DATES)
        set("datestyle", "ISO");
    if (IntervalStyle != INTSTYLE_POSTGRES)
        set("intervalstyle", "postgres");
    if (extra_float_digits < 1)
        set("extra_float_digits", "1");
    set("search_path", "pg_catalog");
    return level;
}

DirectForm direct_form(Oid send_function) {
    switch (send_function) {
    case F_BOOLSEND:
        return DirectForm::kByte;
    case F_INT2SEND:
        return DirectForm::kInt16;
    case F_INT4SEND:
    case F_OIDSEND:
    case F_DATE_SEND:
    case F_FLOAT4SEND:
        return DirectForm::kInt32;
    case F_INT8SEND:
    case F_FLOAT8SEND:
    case F_TIMESTAMP_SEND:
    case F_TIMESTAMPTZ_SEND:
        return DirectForm::kInt64;
    case F_TEXTSEND:
    case F_VARCHARSEND:
    case F_BPCHARSEND:
    case F_BYTEASEND:
        return DirectForm::kText;
    default:
        return DirectForm::kNone;
    }
}

// With a zero byte behind it, which ends a value that is sent as text.
void append_bytes(StringInfo out, const char *bytes, int length) {
    pq_sendint32(out, length);
    appendBinaryStringInfo(out, bytes, length);
}

// Room for a number is made once, for its length and itself.
void start_number(StringInfo out, int size) {
    enlargeStringInfo(out, static_cast<int>(sizeof(int32)) + size);
    pq_writeint32(out, size);
}

// With the database's encoding in effect.
void append_value(ParamEncoder *encoder, Datum value, StringInfo out) {
    switch (encoder->direct) {
    case DirectForm::kByte:
        start_number(out, 1);
        pq_writeint8(out, DatumGetBool(value) ? 1 : 0);
        return;
    case DirectForm::kInt16:
        start_number(out, 2);
        pq_writeint16(out, DatumGetUInt16(value));
        return;
    case DirectForm::kInt32:
        start_number(out, 4);
        pq_writeint32(out, DatumGetUInt32(value));
        return;
    case DirectForm::kInt64:
        start_number(out, 8);
        pq_writeint64(out, DatumGetUInt64(value));
        return;
    case DirectForm::kText: {
        struct varlena *text = PG_DETOAST_DATUM_PACKED(value);
        append_bytes(out, VARDATA_ANY(text), static_cast<int>(VARSIZE_ANY_EXHDR(text)));
        return;
    }
    case DirectForm::kNone:
        break;
    }
    if (encoder->binary) {
        bytea *sent = SendFunctionCall(&encoder->output, value);
        append_bytes(out, VARDATA(sent), static_cast<int>(VARSIZE(sent) - VARHDRSZ));
    } else {
        char *text = OutputFunctionCall(&encoder->output, value);
        append_bytes(out, text, static_cast<int>(strlen(text)));
    }
}

// Runs `body` with what the encoders of values that are not NULL need.
template <typename Body>
void while_encoding(const ParamEncoder *encoders, const bool *nulls, int count, Body &&body) {
    bool any_text = false;
    for (int i = 0; i < count; i++)
        any_text |= !encoders[i].binary && !nulls[i];
    int guc_level = any_text ? enter_transmission_modes() : 0;
    in_database_encoding(body);
    if (any_text)
        AtEOXact_GUC(true, guc_level);
}

[[noreturn]] void protocol_violation(const char *what, int column) {
    ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                    errmsg("a node's answer has %s in column %d", what, column + 1)));
    pg_unreachable();
}

} // namespace

bool travels_in_binary(Oid type) {
    check_stack_depth();
    type = getBaseType(type);
    if (type == RECORDOID || type == RECORDARRAYOID || is_object_identifier(type))
        return false;
    // An empty tsquery is sent in a form that tsqueryrecv of PostgreSQL 15.18 refuses.
    if (type == TSQUERYOID)
        return false;

    HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for type %u", type);
    Form_pg_type form = reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple));
    bool functions = OidIsValid(form->typsend) && OidIsValid(form->typreceive);
    char kind = form->typtype;
    ReleaseSysCache(tuple);
    if (!functions)
        return false;

    switch (kind) {
    case TYPTYPE_COMPOSITE:
        return composite_travels_in_binary(type);
    case TYPTYPE_RANGE:
        return travels_in_binary(get_range_subtype(type));
    case TYPTYPE_MULTIRANGE:
        return travels_in_binary(get_multirange_range(type));
    default:
        break;
    }
    Oid element = get_element_type(type); // none for int2vector and other fixed-length ones
    return !OidIsValid(element) || travels_in_binary(element);
}

void init_param_encoder(ParamEncoder *encoder, Oid type) {
    init_text_param_encoder(encoder, type);
    encoder->binary = travels_in_binary(type);
    if (!encoder->binary)
        return;
    Oid function;
    bool varlena;
    getTypeBinaryOutputInfo(type, &function, &varlena);
    fmgr_info(function, &encoder->output);
    encoder->direct = direct_form(function);
}

void init_text_param_encoder(ParamEncoder *encoder, Oid type) {
    Oid function;
    bool varlena;
    getTypeOutputInfo(type, &function, &varlena);
    fmgr_info(function, &encoder->output);
    encoder->type = type;
    encoder->wire_type = type < FirstGenbkiObjectId ? type : InvalidOid;
    encoder->binary = false;
    encoder->direct = DirectForm::kNone;
}

RemoteParams *encode_params(ParamEncoder *encoders, const Datum *values, const bool *nulls,
                            int count) {
    Oid *types = palloc_array(Oid, count);
    const char **texts = palloc_array(const char *, count);
    int *lengths = palloc0_array(int, count);
    int *formats = palloc_array(int, count);

    while_encoding(encoders, nulls, count, [&] {
        for (int i = 0; i < count; i++) {
            ParamEncoder *encoder = &encoders[i];
            types[i] = encoder->wire_type;
            formats[i] = encoder->binary ? 1 : 0;
            if (nulls[i]) {
                texts[i] = nullptr;
            } else if (encoder->binary) {
                bytea *sent = SendFunctionCall(&encoder->output, values[i]);
                texts[i] = VARDATA(sent);
                lengths[i] = VARSIZE(sent) - VARHDRSZ;
            } else {
                char *text = OutputFunctionCall(&encoder->output, values[i]);
                texts[i] = text;
                lengths[i] = strlen(text);
            }
        }
    });

    RemoteParams *params = palloc_object(RemoteParams);
    params->count = count;
    params->types = types;
    params->values = texts;
    params->lengths = lengths;
    params->formats = formats;
    return params;
}

void append_values(ParamEncoder *encoders, const Datum *values, const bool *nulls, int count,
                   StringInfo const *outs) {
    while_encoding(encoders, nulls, count, [&] {
        for (int i = 0; i < count; i++) {
            if (nulls[i])
                pq_sendint32(outs[i], static_cast<uint32>(-1));
            else
                append_value(&encoders[i], values[i], outs[i]);
        }
    });
}

RowDecoder *make_row_decoder(TupleDesc columns, bool allow_binary) {
    RowDecoder *decoder = palloc0_object(RowDecoder);
    int count = columns->natts;
    decoder->column_count = count;
    decoder->input = palloc0_array(FmgrInfo, count);
    decoder->io_params = palloc0_array(Oid, count);
    decoder->typmods = palloc0_array(int32, count);
    decoder->binary = allow_binary;
    for (int i = 0; i < count; i++)
        decoder->binary &= travels_in_binary(TupleDescAttr(columns, i)->atttypid);

    for (int i = 0; i < count; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        // A shard has checked a domain's constraints when it stored the value.
        decoder->typmods[i] = column->atttypmod;
        Oid type = getBaseTypeAndTypmod(column->atttypid, &decoder->typmods[i]);
        Oid function;
        if (decoder->binary)
            getTypeBinaryInputInfo(type, &function, &decoder->io_params[i]);
        else
            getTypeInputInfo(type, &function, &decoder->io_params[i]);
        fmgr_info(function, &decoder->input[i]);
    }
    return decoder;
}

void decode_row(RowDecoder *decoder, PGresult *result, int row, Datum *values, bool *isnull,
                int more) {
    int columns = decoder->column_count + decoder->passed_over + more;
    if (PQnfields(result) != columns)
        ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                        errmsg("a node's answer has %d columns instead of %d", PQnfields(result),
                               columns)));

    in_database_encoding([&] {
        for (int i = 0; i < decoder->column_count; i++) {
            isnull[i] = PQgetisnull(result, row, i);
            if (isnull[i]) {
                values[i] = static_cast<Datum>(0);
                continue;
            }
            if ((PQfformat(result, i) == 1) != decoder->binary)
                protocol_violation("an unexpected format", i);
            char *data = PQgetvalue(result, row, i);
            if (decoder->binary) {
                StringInfoData buffer;
                buffer.data = data;
                buffer.len = PQgetlength(result, row, i);
                buffer.maxlen = buffer.len + 1; // libpq ends every value with a zero byte
                buffer.cursor = 0;
                values[i] = ReceiveFunctionCall(&decoder->input[i], &buffer, decoder->io_params[i],
                                                decoder->typmods[i]);
                if (buffer.cursor != buffer.len)
                    protocol_violation("trailing bytes", i);
            } else {
                values[i] = InputFunctionCall(&decoder->input[i], data, decoder->io_params[i],
                                              decoder->typmods[i]);
            }
        }
    });
}

} // namespace panvel
