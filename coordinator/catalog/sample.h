// Samples of a table's rows, fetched from its shards for ANALYZE of the shell: column statistics
// are then PostgreSQL's own (shell_am.cpp hands the rows out).
#pragma once

#include "coordinator/catalog/estimates.h"

extern "C" {
#include "access/htup.h"
}

namespace panvel {

struct TableSample {
    Oid relid;
    double total_rows; // of the whole table
    int count;
    HeapTuple *rows;
};

// Rows for statistics of the usual detail (300 for each unit of the largest statistics target), in
// CurrentMemoryContext. Values that ANALYZE looks at by their size alone are not fetched: they are
// stand-ins, of that size, that nobody must read.
TableSample *fetch_sample(const DistributedTable *table, const TableEstimates *estimates);

// Makes the samples (List of TableSample *) what ANALYZE finds in the shells; NIL: it finds
// nothing.
void offer_samples(List *samples);
const TableSample *offered_sample(Oid relid); // null: none

} // namespace panvel
