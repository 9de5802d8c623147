// The distributed transaction: which nodes take part in the local transaction, and its end on all
// of them. See README.md in this directory for the protocol and what happens at each crash.
#pragma once

#include "extension/pg/pg.h"

namespace panvel {

void init_transaction(); // transaction callbacks; from _PG_init

// Whether the local transaction has written on the node (it then takes part in the commit).
bool transaction_wrote_on(int32 node_id);

// Raises 25001 when any remote transaction is open: for statements that cannot run inside one.
void prevent_in_distributed_transaction(const char *statement);

} // namespace panvel
