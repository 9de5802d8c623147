// The argument of a cast from integer[], real[], double precision[] or numeric[].
#pragma once

#include "extension/pg/pg.h"

namespace vec {

struct NumberArray {
    int dim;
    float *x; // in CurrentMemoryContext; may be infinite or NaN
};

// Raises where the array has more than one dimension or nulls, or where check_dim() or
// check_expected_dim() does.
NumberArray get_numbers(Datum array, const char *type, int max_dim, int32 typmod);

} // namespace vec
