// The graph in the pages as extension/core/graph_search.h wants it.
#pragma once

#include "extension/core/graph_search.h"
#include "extension/core/rabitq.h"
#include "extension/hnsw/page.h"

namespace vec {

// Neighbours of an element on one level, copied out of a page.
struct NeighborCopy {
    uint32 capacity;
    ann::Link links[ann::kMaxSlots];
    float distances[ann::kMaxSlots];
    uint32 kept[ann::kMaxSlots / 32];

    bool is_kept(uint32 slot) const { return (kept[slot / 32] >> (slot % 32)) & 1; }
};

struct PageGraph {
    GraphIndex *graph;
    const float *query;                     // NULL: every distance is 0
    const ann::QueryTable *table = nullptr; // of the query; needed for expand() only

    bool distance(ann::Link link, ann::Candidate *out);
    uint32_t neighbors(ann::Link link, int level, ann::Link *out);
    bool expand(ann::Link link, ann::Expansion *out);
    void prepare(ann::Link link);
};

// The `ef` elements nearest to the query, by codes if the index has them, in search->results.
void search_level0(PageGraph *pages, ann::LayerSearch *search, ann::Arena arena,
                   const ann::Candidate *entries, size_t entry_count, size_t ef);

// The element that a search of `page_graph` enters by; false when the index is empty.
bool entry_candidate(PageGraph *page_graph, ann::Candidate *entry);

// Finds the side slot with the list of `element` on `level` > 0, following `upper` from the top;
// locked. False when it is gone.
bool open_upper(GraphIndex *graph, ann::Link element, ann::Link upper, int level, int lock,
                Buffer *buffer, ann::UpperSlot **slot);

// The distances of an upper list, which follow its m links.
inline float *upper_distances(const GraphIndex *graph, ann::UpperSlot *slot) {
    return reinterpret_cast<float *>(slot->links + graph->layout.m);
}

// The element's list on `level`; false when the element is gone or does not reach that level.
// With `vector`, the element's vector is copied there, too.
bool copy_neighbors(GraphIndex *graph, ann::Link link, int level, NeighborCopy *out,
                    float *vector = nullptr);

// Chooses at most `capacity` of `candidates`, sorted by distance, as neighbours
// (extension/core/neighbor_selection.h), and moves them to the front, nearest first. `kept` may
// be null. Returns their number. Needs memory for the vectors it looks at, in `arena`.
uint32 choose_neighbors(GraphIndex *graph, ann::Arena arena, ann::Candidate *candidates, bool *kept,
                        uint32 count, uint32 capacity, bool fill);

} // namespace vec
