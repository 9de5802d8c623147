// The table access method "panvel": what a distributed table is on its coordinator.
#pragma once

#include "extension/pg/pg.h"

namespace panvel {

// Whether a table is being turned into a shell, or back: storage of this access method may be
// created for a relation that is not distributed yet, and a shell be scanned, which finds nothing.
// create_distributed_table() and undistribute_table() alone do so, and reset this also on an error.
void allow_shell_conversion(bool allow);
bool shell_conversion_allowed();

void init_shell(); // hooks; from _PG_init

Oid shell_access_method(); // OID of the access method "panvel"

} // namespace panvel
