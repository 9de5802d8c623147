// Text and binary input and output, and the type modifier.
#include "extension/core/vector_text.h"
#include "extension/pg/boundary.h"
#include "extension/types/vector.h"

extern "C" {
#include "common/shortest_dec.h"
#include "libpq/pqformat.h"
#include "utils/array.h"
}

namespace vec {
namespace {

void raise_text_error(const char *text, const ann::VectorTextResult &parsed) {
    using ann::VectorTextError;
    switch (parsed.error) {
    case VectorTextError::kNone:
        return;
    case VectorTextError::kNoOpening:
        ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
                        errmsg("invalid input syntax for type vector: \"%s\"", text),
                        errdetail("Vector contents must start with \"[\".")));
        break;
    case VectorTextError::kJunk:
        ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
                        errmsg("invalid input syntax for type vector: \"%s\"", text),
                        errdetail("Junk after closing right brace.")));
        break;
    case VectorTextError::kSyntax:
        ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
                        errmsg("invalid input syntax for type vector: \"%s\"", text)));
        break;
    case VectorTextError::kEmpty:
        check_dim(0);
        break;
    case VectorTextError::kTooMany:
        check_dim(kMaxVectorDim + 1);
        break;
    case VectorTextError::kOutOfRange:
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                        errmsg("\"%s\" is out of range for type vector",
                               pnstrdup(parsed.token, parsed.token_length))));
        break;
    case VectorTextError::kNan:
        check_element(std::numeric_limits<float>::quiet_NaN());
        break;
    case VectorTextError::kInfinite:
        check_element(std::numeric_limits<float>::infinity());
        break;
    }
    pg_unreachable();
}

SQL_FUNCTION(vector_in) {
    const char *text = PG_GETARG_CSTRING(0);
    int32 typmod = PG_GETARG_INT32(2);

    int capacity = static_cast<int>(ann::count_vector_text(text, kMaxVectorDim));
    Vector *result = make_vector(capacity);
    ann::VectorTextResult parsed = ann::parse_vector_text(text, result->x, kMaxVectorDim);
    if (unlikely(parsed.error != ann::VectorTextError::kNone))
        raise_text_error(text, parsed);
    check_expected_dim(typmod, result->dim);
    PG_RETURN_POINTER(result);
}

SQL_FUNCTION(vector_out) {
    VectorView v = datum_view_vector(PG_GETARG_DATUM(0));

    // Each number with its comma or bracket takes at most FLOAT_SHORTEST_DECIMAL_LEN bytes.
    char *text =
        static_cast<char *>(palloc(2 + static_cast<Size>(v.dim) * FLOAT_SHORTEST_DECIMAL_LEN));
    char *at = text;
    for (int i = 0; i < v.dim; i++) {
        *at++ = i == 0 ? '[' : ',';
        at += float_to_shortest_decimal_bufn(v[i], at);
    }
    *at++ = ']';
    *at = '\0';
    v.release();
    PG_RETURN_CSTRING(text);
}

SQL_FUNCTION(vector_typmod_in) {
    int count;
    int32 *values = ArrayGetIntegerTypmods(PG_GETARG_ARRAYTYPE_P(0), &count);
    if (count != 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid type modifier")));
    if (values[0] < 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("dimensions for type vector must be at least 1")));
    if (values[0] > kMaxVectorDim)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("dimensions for type vector cannot exceed %d", kMaxVectorDim)));
    PG_RETURN_INT32(values[0]);
}

// On the wire, in network byte order: int16 dim, int16 0, dim x float4.
SQL_FUNCTION(vector_recv) {
    StringInfo buffer = reinterpret_cast<StringInfo>(PG_GETARG_POINTER(0));
    int32 typmod = PG_GETARG_INT32(2);

    int dim = static_cast<int16>(pq_getmsgint(buffer, sizeof(int16)));
    int unused = static_cast<int16>(pq_getmsgint(buffer, sizeof(int16)));
    check_dim(dim);
    check_expected_dim(typmod, dim);
    if (unused != 0)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("expected unused to be 0, not %d", unused)));

    // Raises 08P01 when the message is shorter than the dimension says.
    const char *bytes = pq_getmsgbytes(buffer, dim * static_cast<int>(sizeof(float)));
    Vector *result = make_vector(dim);
    for (int i = 0; i < dim; i++) {
        uint32 bits;
        memcpy(&bits, bytes + sizeof(bits) * static_cast<Size>(i), sizeof(bits));
        result->x[i] = std::bit_cast<float>(pg_ntoh32(bits));
        check_element(result->x[i]);
    }
    PG_RETURN_POINTER(result);
}

SQL_FUNCTION(vector_send) {
    VectorView v = datum_view_vector(PG_GETARG_DATUM(0));

    StringInfoData buffer;
    pq_begintypsend(&buffer);
    enlargeStringInfo(&buffer, static_cast<int>(vector_size(v.dim)));
    pq_writeint16(&buffer, static_cast<uint16>(v.dim));
    pq_writeint16(&buffer, 0);
    for (int i = 0; i < v.dim; i++)
        pq_writeint32(&buffer, std::bit_cast<uint32>(v[i]));
    v.release();
    PG_RETURN_BYTEA_P(pq_endtypsend(&buffer));
}

} // namespace
} // namespace vec
