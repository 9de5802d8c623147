// CREATE INDEX, DROP INDEX and REINDEX CONCURRENTLY on a distributed table. As in PostgreSQL each
// is several transactions, and what fails in the middle leaves an invalid index, which can be seen
// and dropped: on the coordinator it is valid only while all shards have it.
#pragma once

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "nodes/parsenodes.h"
}

namespace panvel {

// Runs the statement on the shell, as PostgreSQL would.
struct OnShell {
    void (*run)(const void *argument);
    const void *argument;
};

void create_index_concurrently(const IndexStmt *statement, bool is_top_level,
                               const OnShell *on_shell);
void drop_index_concurrently(const DropStmt *statement, bool is_top_level, const OnShell *on_shell);
void reindex_concurrently(const ReindexStmt *statement, bool is_top_level);

// Ends the transaction and begins another one, for statements that are several; what is allocated
// in `context`, which is current then, stays.
void next_transaction(MemoryContext context);

// The mark of a shell's index.
bool is_index_valid(Oid index);
void set_index_valid(Oid index, bool valid);

} // namespace panvel
