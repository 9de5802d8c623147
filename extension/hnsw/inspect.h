// Looking at a whole index: hnsw_index_info() and hnsw_index_check().
#pragma once

#include "extension/hnsw/page_graph.h"

namespace vec {

// An index opened for looking at; raises 42809 for what is not an hnsw index, 42501 without
// SELECT on its table.
struct InspectedIndex {
    Relation index;
    Relation heap;
    GraphIndex *graph;
};
InspectedIndex open_inspected(Oid relation);
void close_inspected(const InspectedIndex &inspected);

// Why `link` is no element's, or NULL. `level`: the target has to reach it. kLinkToGone: it was
// one's that vacuum has freed since.
inline constexpr char kLinkToGone[] = "links to an element that is gone";
const char *link_problem(GraphIndex *graph, ann::Link link, int level);

} // namespace vec
