// The search of an index scan: batch after batch of elements.
#pragma once

#include "extension/hnsw/hnsw.h"
#include "extension/hnsw/page_graph.h"

namespace vec {

// Its memory is kept from one query vector to the next, up to a bound.
struct ScanSearch {
    MemoryContext kept;  // everything below
    MemoryContext query; // what belongs to one query vector; reset for the next
    GraphIndex *graph;   // NULL before the first search
    ann::LayerSearch *layer;
    ann::KeySet *chain_read; // slots of an element's chain of rows that have been read
    PageGraph pages;
    bool no_direction; // a zero query vector under cosine: distances are NaN

    // Settings as they were when the query began.
    IterativeScan iterative;
    size_t ef;
    uint64 max_tuples;
    size_t max_memory;
};

// A search without memory of its own yet, in CurrentMemoryContext.
ScanSearch *make_scan_search();

// Leaves the first ef_search elements in layer->results. `query` may be the key of an earlier
// search; memory of an earlier search is reused.
void first_batch(ScanSearch *search, IndexScanDesc scan);

// Leaves further elements in layer->results, none when there are no more or when
// hnsw.iterative_scan is off. Once a limit is reached, these are only such as have been met.
void next_batch(ScanSearch *search);

} // namespace vec
