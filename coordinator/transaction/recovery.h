// Resolving distributed transactions that were left prepared.
#pragma once

#include "extension/pg/pg.h"

namespace panvel {

// Commits what is prepared on the nodes and has its commit record, rolls back what has none and
// whose transaction has ended; deletes the records that all nodes have confirmed. Returns the
// number of prepared transactions resolved. A node that cannot be reached is reported with a
// WARNING and skipped. Needs the rights of those who prepared: run by a superuser, who holds the
// lock of commit_record.h.
int64 recover_transactions();

} // namespace panvel
