// The codes of an element's neighbours (extension/core/rabitq.h) in its image.
#pragma once

#include "extension/core/rabitq.h"
#include "extension/hnsw/page_graph.h"

namespace vec {

inline constexpr uint32 kMinCodedDim = 64; // below, reading a neighbour is as quick as its code

// Bits per dimension that an index of these options gets; 0: no codes.
uint8 choose_code_bits(const ann::VectorSpace &space, uint32 m);

// Bytes of the largest vector in an index with codes.
inline constexpr size_t kMaxCodedBytes = kMaxCodedDim * sizeof(float);

// A vector rotated, for several edges from or to it.
struct Rotated {
    float x[kMaxCodedDim];

    Rotated() = default;
    Rotated(const GraphIndex *graph, const void *vector) {
        float room[kMaxCodedDim];
        ann::rotate(graph->meta.rotation_seed, graph->space.floats(vector, room), graph->layout.dim,
                    x);
    }
};

// Rotated vectors of elements, for a vacuum, which encodes about seven edges to each: rotating was
// a fifth of its time. Direct-mapped by place; what is at a link of one version never changes.
class RotationCache {
  public:
    // Of `max_bytes` at most.
    RotationCache(const GraphIndex *graph, ann::Arena arena, size_t max_bytes);

    // The element's vector, NULL when it is not here.
    const float *find(ann::Link link) const;
    void put(ann::Link link, const float *rotated);

  private:
    size_t place_of(ann::Link link) const;

    uint32 padded_;
    uint32 page_slots_;
    size_t places_; // may be 0
    uint64 *keys_;
    float *vectors_; // places_ x padded_
};

struct EdgeCode {
    ann::EdgeFactors factors;
    uint8 code[kMaxCodedDim / 8 * ann::kMaxCodeBits];
};

// REQUIRES for all below: graph->meta.code_bits > 0.
// Of rotated vectors.
void encode_edge(const GraphIndex *graph, const float *from, const float *to, EdgeCode *out);
inline void encode_edge(const GraphIndex *graph, const Rotated &from, const Rotated &to,
                        EdgeCode *out) {
    encode_edge(graph, from.x, to.x, out);
}
void put_edge(const GraphIndex *graph, const ann::NeighborList &list, uint32 place,
              const EdgeCode &edge);
// Writes where it is told to, as pg::PageDelta::set() will.
struct InPlace {
    void set(const void *place, const void *bytes, uint32 size) {
        memcpy(const_cast<void *>(place), bytes, size);
    }
};
// The same by `writer`: InPlace or pg::PageDelta.
template <typename Writer>
void put_edge(const GraphIndex *graph, const ann::NeighborList &list, uint32 place,
              const EdgeCode &edge, Writer *writer) {
    const ann::ElementLayout &l = graph->layout;
    writer->set(&list.factors[place], &edge.factors.constant, sizeof(float));
    writer->set(&list.factors[list.slots + place], &edge.factors.slope, sizeof(float));
    ann::for_code_bytes(
        list.codes + static_cast<size_t>(place / ann::kBlock) * l.code_bytes, place % ann::kBlock,
        edge.code, ann::padded_dim(l.dim), graph->meta.code_bits,
        [writer](const uint8 *at, uint8 value) { writer->set(at, &value, sizeof(value)); });
}
// Encodes the edge from `from` to the element at `link`; a zero code when that is gone.
void encode_link(GraphIndex *graph, const Rotated &from, ann::Link link, EdgeCode *out);

// The rotated vector of the element, which has this `vector`; by way of graph->rotations, if any.
void rotate_element(const GraphIndex *graph, ann::Link link, const void *vector, Rotated *out);

// The table of a query, in CurrentMemoryContext.
ann::QueryTable *make_query_table(GraphIndex *graph, const void *query);
ann::QueryTable *make_query_table(GraphIndex *graph, const Rotated &query);

// The query's distance from an element as far as estimates need it.
struct Origin {
    float distance;
    float weight; // ann::edge_weight()

    Origin(const GraphIndex *graph, const void *vector, float exact_distance);
};

// Estimates the distances of a list's neighbours, one for each of its slots.
void estimate_neighbors(const ann::QueryTable &table, const ann::NeighborList &list,
                        const Origin &origin, float *out);

} // namespace vec
