// The codes of an element's neighbours (extension/core/rabitq.h) in its image.
#pragma once

#include "extension/core/rabitq.h"
#include "extension/hnsw/page_graph.h"

namespace vec {

// Codes exist where an element with them fits a page, so dimensions are bounded.
inline constexpr uint32 kMaxCodedDim = 1024;
inline constexpr uint32 kMinCodedDim = 64; // below, reading a neighbour is as quick as its code

// Bits per dimension that an index of these options gets; 0: no codes.
uint8 choose_code_bits(ann::Metric metric, uint32 dim, uint32 m);

// A vector rotated, for several edges from or to it.
struct Rotated {
    alignas(64) float x[kMaxCodedDim];

    Rotated(const GraphIndex *graph, const float *vector) {
        ann::rotate(graph->meta.rotation_seed, vector, graph->layout.dim, x);
    }
};

struct EdgeCode {
    ann::EdgeFactors factors;
    uint8 code[kMaxCodedDim / 8 * ann::kMaxCodeBits];
};

// REQUIRES for all below: graph->meta.code_bits > 0.
void encode_edge(const GraphIndex *graph, const Rotated &from, const Rotated &to, EdgeCode *out);
void put_edge(const GraphIndex *graph, const ann::ElementImage &image, uint32 place,
              const EdgeCode &edge);
// Encodes the edge from `from` to the element at `link`; a zero code when that is gone.
void encode_link(GraphIndex *graph, const Rotated &from, ann::Link link, EdgeCode *out);

// The table of a query, in CurrentMemoryContext.
ann::QueryTable *make_query_table(GraphIndex *graph, const float *query);

// Estimates the distances of all the element's neighbours: layout.slots floats. `distance`: the
// query's from the element.
void estimate_neighbors(const GraphIndex *graph, const ann::QueryTable &table,
                        const ann::ElementImage &image, float distance, float *out);

} // namespace vec
