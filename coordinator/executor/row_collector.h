// The rows that a child plan names, collected and locked before any of them is changed.
#pragma once

#include "coordinator/executor/row_writer.h"

extern "C" {
#include "utils/hsearch.h"
#include "utils/tuplestore.h"
}

namespace panvel {

struct RowCollector {
    ModifyState *modify;
    PlanState *child;
    const char *strength;  // of the locks: "UPDATE", "NO KEY UPDATE"
    Tuplestorestate *rows; // the child's
    TupleTableSlot *slot;  // a row of it
    HTAB *seen;            // the table's rows that note_row() has seen
    RowWriter *locker;
};

// In CurrentMemoryContext, at executor start.
RowCollector *make_row_collector(ModifyState *modify, PlanState *child, const char *strength);

// Executes the child and gives each of its rows to `each`, which collects it or does not; again
// from the start, after `restart`, while another transaction has changed a row since the child read
// it. When it returns, the rows that lock_row() was called for are locked in the version that was
// read.
struct RowVisitor {
    void (*restart)(ModifyState *); // may be null
    void (*each)(ModifyState *, TupleTableSlot *);
};
void collect_rows(RowCollector *collector, const RowVisitor *visitor);

// For `each`. All columns of its slot are there.
int shard_of_row(RowCollector *collector, TupleTableSlot *slot);
bool note_row(RowCollector *collector, int shard, TupleTableSlot *slot); // false: seen before
void lock_row(RowCollector *collector, int shard, TupleTableSlot *slot);
void collect_row(RowCollector *collector, TupleTableSlot *slot);

// An error (0A000) unless the row stays in its shard, under its key.
void check_row_key(RowCollector *collector, Datum old_key, Datum new_key, bool new_is_null);

// The next of the collected rows, or null.
TupleTableSlot *next_collected(RowCollector *collector);

void end_row_collector(RowCollector *collector);

} // namespace panvel
