// The table access method "panvel": what a distributed table is on its coordinator.
#pragma once

#include "extension/pg/pg.h"

namespace panvel {

// Whether storage of this access method may be created for a relation that is not distributed
// yet: create_distributed_table() alone makes shells, and resets this also on an error.
void allow_shell_creation(bool allow);
bool shell_creation_allowed();

void init_shell(); // hooks; from _PG_init

Oid shell_access_method(); // OID of the access method "panvel"

} // namespace panvel
