// Text and binary input and output of sparsevec, and its type modifier.
#include "extension/core/sparse_text.h"
#include "extension/types/sparsevec.h"
#include "extension/types/vector.h"

extern "C" {
#include "common/shortest_dec.h"
#include "libpq/pqformat.h"
}

namespace vec {
namespace {

void raise_syntax(const char *text, const char *detail) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
                    errmsg("invalid input syntax for type sparsevec: \"%s\"", text),
                    detail != nullptr ? errdetail("%s", detail) : 0));
}

void raise_too_many() {
    ereport(ERROR,
            (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
             errmsg("sparsevec cannot have more than %u non-zero elements", ann::kMaxNonzeros)));
}

// What is allowed of dimensions as written.
void check_text_dim(long long dim) {
    check_dim(static_cast<int>(std::clamp<long long>(dim, 0, kMaxSparseDim + 1)), kSparse,
              kMaxSparseDim);
}

void raise_text_error(const char *text, const ann::SparseTextResult &parsed) {
    using ann::SparseTextError;
    switch (parsed.error) {
    case SparseTextError::kNone:
        return;
    case SparseTextError::kNoOpening:
        raise_syntax(text, "Vector contents must start with \"{\".");
        break;
    case SparseTextError::kSyntax:
        raise_syntax(text, nullptr);
        break;
    case SparseTextError::kEnd:
        raise_syntax(text, "Unexpected end of input.");
        break;
    case SparseTextError::kJunk:
        raise_syntax(text, "Junk after closing.");
        break;
    case SparseTextError::kTooMany:
        raise_too_many();
        break;
    case SparseTextError::kOutOfRange:
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                        errmsg("\"%s\" is out of range for type sparsevec",
                               pnstrdup(parsed.token, parsed.token_length))));
        break;
    case SparseTextError::kNan:
        check_element(std::numeric_limits<float>::quiet_NaN(), kSparse);
        break;
    case SparseTextError::kInfinite:
        check_element(std::numeric_limits<float>::infinity(), kSparse);
        break;
    case SparseTextError::kIndex:
        check_text_dim(parsed.dim);
        raise_wire_error(ann::WireError::kIndex, kSparse);
        break;
    case SparseTextError::kDuplicate:
        check_text_dim(parsed.dim);
        raise_wire_error(ann::WireError::kDuplicate, kSparse);
        break;
    }
    pg_unreachable();
}

SQL_FUNCTION(sparsevec_in) {
    const char *text = PG_GETARG_CSTRING(0);
    int32 typmod = PG_GETARG_INT32(2);

    size_t capacity = ann::count_sparse_text(text, ann::kMaxNonzeros);
    auto *entries = static_cast<ann::SparseEntry *>(palloc(capacity * sizeof(ann::SparseEntry)));
    ann::SparseTextResult parsed = ann::parse_sparse_text(text, entries, ann::kMaxNonzeros);
    if (unlikely(parsed.error != ann::SparseTextError::kNone))
        raise_text_error(text, parsed);
    check_text_dim(parsed.dim);
    check_expected_dim(typmod, static_cast<int>(parsed.dim));
    SparseVector *result =
        make_sparse(static_cast<int>(parsed.dim), static_cast<int>(parsed.count));
    for (int i = 0; i < result->count; i++) {
        result->indices[i] = entries[i].index;
        result->values()[i] = entries[i].value;
    }
    pfree(entries);
    PG_RETURN_POINTER(result);
}

SQL_FUNCTION(sparsevec_out) {
    SparseDatum v = datum_view_sparse(PG_GETARG_DATUM(0));

    // An index, its value and two signs; the braces and the dimensions.
    constexpr Size kEntry = 11 + FLOAT_SHORTEST_DECIMAL_LEN + 2;
    char *text = static_cast<char *>(palloc(v.count * kEntry + 16));
    char *at = text;
    *at++ = '{';
    for (uint32 i = 0; i < v.count; i++) {
        at += sprintf(at, "%s%lld:", i == 0 ? "" : ",", static_cast<long long>(v.index(i)) + 1);
        at += float_to_shortest_decimal_bufn(v.value(i), at);
    }
    sprintf(at, "}/%d", v.dim);
    v.release();
    PG_RETURN_CSTRING(text);
}

SQL_FUNCTION(sparsevec_typmod_in) {
    PG_RETURN_INT32(get_typmod(PG_GETARG_ARRAYTYPE_P(0), kSparse, kMaxSparseDim));
}

void check_count(int count, int dim) {
    if (count < 0)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("sparsevec cannot have negative number of elements")));
    if (static_cast<uint32>(count) > ann::kMaxNonzeros)
        raise_too_many();
    if (count > dim)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("sparsevec cannot have more elements than dimensions")));
}

// On the wire, in network byte order: int32 dim, int32 count, int32 0, indices, float4 values.
SQL_FUNCTION(sparsevec_recv) {
    StringInfo buffer = reinterpret_cast<StringInfo>(PG_GETARG_POINTER(0));
    int32 typmod = PG_GETARG_INT32(2);

    int dim = static_cast<int32>(pq_getmsgint(buffer, sizeof(int32)));
    int count = static_cast<int32>(pq_getmsgint(buffer, sizeof(int32)));
    int unused = static_cast<int32>(pq_getmsgint(buffer, sizeof(int32)));
    check_dim(dim, kSparse, kMaxSparseDim);
    check_count(count, dim);
    check_expected_dim(typmod, dim);
    check_unused(unused);

    // Raises 08P01 when the message is shorter than the count says.
    const char *bytes = pq_getmsgbytes(buffer, 2 * count * static_cast<int>(sizeof(uint32)));
    SparseVector *result = make_sparse(dim, count);
    raise_wire_error(ann::read_sparse_wire(bytes, static_cast<size_t>(count), dim, result->indices,
                                           result->values()),
                     kSparse);
    PG_RETURN_POINTER(result);
}

SQL_FUNCTION(sparsevec_send) {
    SparseDatum v = datum_view_sparse(PG_GETARG_DATUM(0));

    StringInfoData buffer;
    pq_begintypsend(&buffer);
    enlargeStringInfo(&buffer, static_cast<int>(sparse_size(static_cast<int>(v.count))));
    pq_writeint32(&buffer, static_cast<uint32>(v.dim));
    pq_writeint32(&buffer, v.count);
    pq_writeint32(&buffer, 0);
    for (uint32 i = 0; i < v.count; i++)
        pq_writeint32(&buffer, static_cast<uint32>(v.index(i)));
    for (uint32 i = 0; i < v.count; i++)
        pq_writeint32(&buffer, std::bit_cast<uint32>(v.value(i)));
    v.release();
    PG_RETURN_BYTEA_P(pq_endtypsend(&buffer));
}

} // namespace
} // namespace vec
