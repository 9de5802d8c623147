// Distances between bit strings.
#include "extension/types/bit.h"

#include "extension/core/bit_distance.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "utils/varbit.h"
}

namespace vec {

BitView datum_view_bits(Datum datum) {
    varlena *value = PG_DETOAST_DATUM_PACKED(datum);
    constexpr Size kHeader = VARBITHDRSZ;
    Size size = VARSIZE_ANY_EXHDR(value);
    BitView view = {-1, nullptr, nullptr};
    if (likely(size >= kHeader))
        memcpy(&view.bits, VARDATA_ANY(value), sizeof(view.bits));
    if (unlikely(view.bits < 0 || size != kHeader + view.byte_count()))
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("bit value of %zu bytes has invalid length %d", size + VARHDRSZ,
                               view.bits)));
    view.bytes = reinterpret_cast<const uint8 *>(VARDATA_ANY(value) + kHeader);
    view.copy = reinterpret_cast<Pointer>(value) == DatumGetPointer(datum) ? nullptr : value;
    return view;
}

void check_same_lengths(const BitView &a, const BitView &b) {
    if (unlikely(a.bits != b.bits))
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("different bit lengths %d and %d", a.bits, b.bits)));
}

namespace {

template <typename Distance> Datum distance_of(FunctionCallInfo fcinfo, Distance distance) {
    BitView a = datum_view_bits(PG_GETARG_DATUM(0));
    BitView b = datum_view_bits(PG_GETARG_DATUM(1));
    check_same_lengths(a, b);
    auto result = static_cast<double>(distance(a.bytes, b.bytes, a.byte_count()));
    a.release();
    b.release();
    return Float8GetDatum(result);
}

SQL_FUNCTION(hamming_distance) {
    return distance_of(fcinfo, ann::hamming_distance);
}

SQL_FUNCTION(jaccard_distance) {
    return distance_of(fcinfo, ann::jaccard_distance);
}

} // namespace
} // namespace vec
