// The table access method "panvel": what a distributed table is on its coordinator.
#pragma once

#include "extension/pg/pg.h"

namespace panvel {

// Whether a table is being turned into a shell, or back: storage of this access method may be
// created for a relation that is not distributed yet, and a shell be scanned, which finds nothing.
// create_distributed_table() and undistribute_table() alone do so, and reset this also on an error.
void allow_shell_conversion(bool allow);
bool shell_conversion_allowed();

// ALTER TABLE rewrites or checks a table's rows: while it is allowed, a scan of a shell finds none,
// and a new file may be made. Who allows it ends it also on an error, calls
// clear_freeze_horizon() afterwards, and has the shards do the same work.
void allow_shell_rewrite(bool allow);

// A rewrite leaves a freeze horizon; a shell has no rows that could age, and no VACUUM would ever
// move it.
void clear_freeze_horizon(Oid relid);

void init_shell(); // hooks; from _PG_init

Oid shell_access_method(); // OID of the access method "panvel"

} // namespace panvel
