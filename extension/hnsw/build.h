// From a graph in memory to pages.
#pragma once

#include "extension/core/graph_builder.h"
#include "extension/hnsw/build_images.h"
#include "extension/hnsw/hnsw.h"

namespace vec {

// Writes the metapage of an empty index to `fork`, which is empty.
void write_empty_index(Relation index, ForkNumber fork, const Meta &meta);

// Appends the graph's pages to the index, which has a metapage only, and then makes its entry
// point known; `threads` are making the images. The graph is not empty. WAL-logged page by page; an
// error leaves an index without entry point.
void write_graph(GraphIndex *graph, ann::GraphBuilder *builder, const ann::BuildRows *rows,
                 BuildImages *images, ann::WorkerThreads *threads);

} // namespace vec
