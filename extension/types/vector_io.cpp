// Text and binary input and output, and the type modifier.
#include "extension/core/vector_text.h"
#include "extension/core/vector_wire.h"
#include "extension/pg/boundary.h"
#include "extension/types/vector.h"

extern "C" {
#include "common/shortest_dec.h"
#include "libpq/pqformat.h"
}

namespace vec {
namespace {

void raise_text_error(const char *text, const ann::VectorTextResult &parsed, const char *type) {
    using ann::VectorTextError;
    switch (parsed.error) {
    case VectorTextError::kNone:
        return;
    case VectorTextError::kNoOpening:
        ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
                        errmsg("invalid input syntax for type %s: \"%s\"", type, text),
                        errdetail("Vector contents must start with \"[\".")));
        break;
    case VectorTextError::kJunk:
        ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
                        errmsg("invalid input syntax for type %s: \"%s\"", type, text),
                        errdetail("Junk after closing right brace.")));
        break;
    case VectorTextError::kSyntax:
        ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
                        errmsg("invalid input syntax for type %s: \"%s\"", type, text)));
        break;
    case VectorTextError::kEmpty:
        check_dim(0, type);
        break;
    case VectorTextError::kTooMany:
        check_dim(kMaxVectorDim + 1, type);
        break;
    case VectorTextError::kOutOfRange:
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                        errmsg("\"%s\" is out of range for type %s",
                               pnstrdup(parsed.token, parsed.token_length), type)));
        break;
    case VectorTextError::kNan:
        check_element(std::numeric_limits<float>::quiet_NaN(), type);
        break;
    case VectorTextError::kInfinite:
        check_element(std::numeric_limits<float>::infinity(), type);
        break;
    }
    pg_unreachable();
}

template <typename T> Datum input(FunctionCallInfo fcinfo) {
    const char *text = PG_GETARG_CSTRING(0);
    int32 typmod = PG_GETARG_INT32(2);

    int capacity = static_cast<int>(ann::count_vector_text(text, kMaxVectorDim));
    Dense<T> *result = make_dense<T>(capacity);
    ann::VectorTextResult parsed = ann::parse_vector_text(text, result->x, kMaxVectorDim);
    if (unlikely(parsed.error != ann::VectorTextError::kNone))
        raise_text_error(text, parsed, kTypeName<T>);
    check_expected_dim(typmod, result->dim);
    PG_RETURN_POINTER(result);
}
DENSE_FUNCTIONS(input, vector_in, halfvec_in)

// Halves print as the floats that they are.
template <typename T> Datum output(FunctionCallInfo fcinfo) {
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(0));

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
DENSE_FUNCTIONS(output, vector_out, halfvec_out)

template <typename T> Datum typmod_input(FunctionCallInfo fcinfo) {
    PG_RETURN_INT32(get_typmod(PG_GETARG_ARRAYTYPE_P(0), kTypeName<T>, kMaxVectorDim));
}
DENSE_FUNCTIONS(typmod_input, vector_typmod_in, halfvec_typmod_in)

// On the wire, in network byte order: int16 dim, int16 0, dim x float4 or float2.
template <typename T> Datum receive(FunctionCallInfo fcinfo) {
    StringInfo buffer = reinterpret_cast<StringInfo>(PG_GETARG_POINTER(0));
    int32 typmod = PG_GETARG_INT32(2);

    int dim = static_cast<int16>(pq_getmsgint(buffer, sizeof(int16)));
    int unused = static_cast<int16>(pq_getmsgint(buffer, sizeof(int16)));
    check_dim(dim, kTypeName<T>);
    check_expected_dim(typmod, dim);
    check_unused(unused);

    // Raises 08P01 when the message is shorter than the dimension says.
    const char *bytes = pq_getmsgbytes(buffer, dim * static_cast<int>(sizeof(T)));
    Dense<T> *result = make_dense<T>(dim);
    raise_wire_error(ann::read_wire(bytes, static_cast<size_t>(dim), result->x), kTypeName<T>);
    PG_RETURN_POINTER(result);
}
DENSE_FUNCTIONS(receive, vector_recv, halfvec_recv)

template <typename T> Datum send(FunctionCallInfo fcinfo) {
    DenseView<T> v = datum_view_dense<T>(PG_GETARG_DATUM(0));

    StringInfoData buffer;
    pq_begintypsend(&buffer);
    enlargeStringInfo(&buffer, static_cast<int>(dense_size<T>(v.dim)));
    pq_writeint16(&buffer, static_cast<uint16>(v.dim));
    pq_writeint16(&buffer, 0);
    for (int i = 0; i < v.dim; i++) {
        T value;
        memcpy(&value, v.x + i, sizeof(value));
        if constexpr (std::is_same_v<T, Half>)
            pq_writeint16(&buffer, value.bits);
        else
            pq_writeint32(&buffer, std::bit_cast<uint32>(value));
    }
    v.release();
    PG_RETURN_BYTEA_P(pq_endtypsend(&buffer));
}
DENSE_FUNCTIONS(send, vector_send, halfvec_send)

} // namespace
} // namespace vec
