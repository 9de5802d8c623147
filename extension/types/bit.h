// PostgreSQL's bit type as a vector of bits.
#pragma once

#include "extension/pg/pg.h"

namespace vec {

// A bit string, read where it lies: `bytes` is ceil(bits / 8) bytes, the first bit the highest of
// the first byte, unused bits 0. `copy` is what was detoasted.
struct BitView {
    int bits;
    const uint8 *bytes;
    void *copy;

    Size byte_count() const { return (static_cast<Size>(bits) + 7) / 8; }
    void release() const {
        if (copy != nullptr)
            pfree(copy);
    }
};

// A length that does not agree with the value's size raises XX001.
BitView datum_view_bits(Datum datum);

void check_same_lengths(const BitView &a, const BitView &b); // 22000

} // namespace vec
