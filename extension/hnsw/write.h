// Writing elements and their links, each step one WAL record that leaves the index valid.
#pragma once

#include "extension/hnsw/codes.h"

namespace vec {

// Where a new link goes in a list, and what it changes there.
struct Placement {
    int place;          // kNowhere: it has none
    ann::Link expected; // what is at that place
    bool chosen;        // ann::is_chosen()
    // Chosen neighbours that are nearer to the new one than to the element: no longer chosen.
    uint32 covered[ann::kMaxSlots / 32];

    bool covers(uint32 i) const { return (covered[i / 32] >> (i % 32)) & 1; }
};
inline constexpr int kNowhere = -1;

// The edges between a new element and a neighbour, where the index has codes; as meet_neighbor()
// finds them in one look at the neighbour.
struct NewEdges {
    EdgeCode there;
    EdgeCode back;
    Placement placement; // of the one back, in the neighbour's list as it was
};

// The neighbours of a new element on one of its levels.
struct LevelNeighbors {
    ann::Candidate *list;
    uint32 count;    // chosen ones, which come first
    uint32 filled;   // with those that fill free places
    NewEdges *edges; // of each; NULL where the level has no codes
};

// Puts the vector in an image, as much of a sparse one as fits, and clears what follows.
void put_vector(const GraphIndex *graph, const ann::ElementImage &image, const void *vector);

// Writes an element with these neighbours (levels + 1 lists, nearest first) and one row. The link
// at position `parent` of level 0 is marked kept; -1: none. Nothing links to it yet.
ann::Link write_element(GraphIndex *graph, const void *vector, ann::Tid tid, int level,
                        const LevelNeighbors *neighbors, int parent);

enum class LinkResult { kLinked, kDeclined, kNoRoom };

// An element that others are to link to. Where the index has codes, its rotated vector, and the
// table of it for estimating neighbours' distances from it; the table may be NULL.
struct NewElement {
    ann::Link link;
    const void *vector;
    const Rotated *rotated;
    const ann::QueryTable *table;
};

// Makes the edges between the element, whose link is not known yet, and its neighbour at
// `distance`. REQUIRES: the level has codes.
void meet_neighbor(GraphIndex *graph, ann::Link neighbor, int level, const NewElement &element,
                   float distance, NewEdges *out);

// Adds a link to the new element, at `distance`, to the list of `to` on `level`, if it is a good
// neighbour there; with `keep` in any case, as a kept link, where there is room for one. `edges`:
// what meet_neighbor() found, or NULL.
LinkResult add_link(GraphIndex *graph, ann::Link to, int level, const NewElement &element,
                    float distance, bool keep, const NewEdges *edges);

// Replaces the element's list on `level`; false when it is not `before` any more. True also when
// the element is gone.
bool replace_list(GraphIndex *graph, ann::Link link, int level, const NeighborCopy &before,
                  const NeighborCopy &after);

// Adds a row to the live element that has this very vector; false when it no longer is live or
// has another vector.
bool add_row(GraphIndex *graph, ann::Link link, const void *vector, ann::Tid tid);

} // namespace vec
