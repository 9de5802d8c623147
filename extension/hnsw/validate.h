// What an operator class must consist of: operator 1, FOR ORDER BY, and support functions.
#pragma once

#include "extension/pg/pg.h"

namespace vec {

// kinds: for each number of a support function from 1 on what it is: 'd' a distance of two values,
// 'n' a norm of one, 'i' internal. Says what is wrong as INFO.
bool validate_opclass(Oid opclass, const char *method, const char *kinds);

} // namespace vec
