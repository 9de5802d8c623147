// Values between the coordinator and the wire: parameters of remote statements and the columns of
// their results. Types with binary send and receive travel in binary; reg* types, whose OIDs
// differ between servers, and types without, as text.
#pragma once

#include "coordinator/remote/remote.h"

extern "C" {
#include "access/tupdesc.h"
#include "nodes/execnodes.h"
}

namespace panvel {

// Whether the type's values are numbers of this server for something that other servers know by
// name (regclass).
bool is_object_identifier(Oid type);

// Whether values of the type travel in binary form in both directions.
bool travels_in_binary(Oid type);

// Types whose binary form is written here, without their send function.
enum class DirectForm { kNone, kByte, kInt16, kInt32, kInt64, kText };

// Encodes values of one type as a parameter. Made once per statement, used for every execution.
struct ParamEncoder {
    Oid type;
    Oid wire_type; // the type's OID where it is the same on every server (built in), else 0
    bool binary;
    FmgrInfo output; // send or output function
    DirectForm direct;
};
void init_param_encoder(ParamEncoder *encoder, Oid type);
void init_text_param_encoder(ParamEncoder *encoder, Oid type); // text in any case

// Encodes `count` values into CurrentMemoryContext.
RemoteParams *encode_params(ParamEncoder *encoders, const Datum *values, const bool *nulls,
                            int count);

// Appends value i to outs[i]: its length and bytes, or -1 for NULL, as in COPY's binary form and in
// arrays. What the values' functions allocate is left in CurrentMemoryContext.
void append_values(ParamEncoder *encoders, const Datum *values, const bool *nulls, int count,
                   StringInfo const *outs);

// Decodes the columns of results into Datums. All columns of one result have one format, so
// a result is asked for in binary only where every column's type travels so.
struct RowDecoder {
    int column_count;
    int passed_over; // further columns of a result, which are not decoded
    bool binary;
    FmgrInfo *input; // receive or input functions
    Oid *io_params;
    int32 *typmods;
};
// Text in any case unless `allow_binary`.
RowDecoder *make_row_decoder(TupleDesc columns, bool allow_binary = true);

// Decodes row `row` of `result` into `values` and `isnull` (column_count each), pass-by-reference
// values in CurrentMemoryContext. An error (08P01) when the number of columns differs; `more`
// columns after them are passed over.
void decode_row(RowDecoder *decoder, PGresult *result, int row, Datum *values, bool *isnull,
                int more = 0);

} // namespace panvel
