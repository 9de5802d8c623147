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
    const void *query; // as the index keeps vectors; NULL: every distance is 0
    // For searching by codes: what use_codes() has made, and the level being searched.
    const ann::QueryTable *table = nullptr;
    ann::Expansion *expansion = nullptr;
    int level = 0;
    ann::Link prepared = ann::Link::none(); // last
    bool prepared_found = true;             // its page has been looked for
    const char *coming = nullptr;           // of its cache lines, those not asked for yet
    uint32 lines_coming = 0;
    uint32 lines_at_once = 0;

    // Makes the query's table, in CurrentMemoryContext, where the index has codes.
    void use_codes();
    bool has_codes(int on_level) const {
        return table != nullptr && graph->layout.has_codes(on_level);
    }

    bool distance(ann::Link link, ann::Candidate *out);
    uint32_t neighbors(ann::Link link, int level, ann::Link *out);
    bool expand(ann::Link link, ann::Expansion *out);
    void prepare(ann::Link link);
    void prepare_more();

  private:
    void find_prepared();
};

// The `ef` elements nearest to the query on `level`, in search->results: by codes where its lists
// have them and use_codes() was called.
void search_level(PageGraph *pages, ann::LayerSearch *search, const ann::Candidate *entries,
                  size_t entry_count, size_t ef, int level);

// Goes down to `level` from the levels above it, the entry point being on the highest one:
// afterwards `entry` is near the query. The wider (`ef`) the search on `level` will be, the more
// is looked at. Leaves `search` to be used again.
void descend_to(PageGraph *pages, ann::LayerSearch *search, ann::Candidate *entry, size_t ef,
                int level);

// The element that a search of `page_graph` enters by; false when the index is empty.
bool entry_candidate(PageGraph *page_graph, ann::Candidate *entry);

// Finds the side slot with the list of `element` on `level` > 0, following `upper` from the top;
// locked. False when it is gone.
bool open_upper(GraphIndex *graph, ann::Link element, ann::Link upper, int level, int lock,
                Buffer *buffer, ann::UpperImage *slot);

// Copies a list; `kept` are its bits, NULL above level 0.
void copy_list(const ann::NeighborList &list, const uint32 *kept, NeighborCopy *out);

// The element's list on `level`; false when the element is gone or does not reach that level.
// With `vector`, the element's vector is copied there, too: space.max_bytes() of room.
bool copy_neighbors(GraphIndex *graph, ann::Link link, int level, NeighborCopy *out,
                    void *vector = nullptr);

// Chooses at most `capacity` of `candidates`, sorted by distance, as neighbours
// (extension/core/neighbor_selection.h), and moves them to the front, nearest first. `kept` may
// be null. Returns their number. Needs memory for the vectors it looks at, in `arena`.
uint32 choose_neighbors(GraphIndex *graph, ann::Arena arena, ann::Candidate *candidates, bool *kept,
                        uint32 count, uint32 capacity, bool fill);

} // namespace vec
