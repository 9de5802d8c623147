#include "extension/hnsw/codes.h"

namespace vec {

uint8 choose_code_bits(const ann::VectorSpace &space, uint32 m) {
    if (!space.dense() || space.metric == ann::Metric::kL1 || space.dim < kMinCodedDim ||
        space.dim > kMaxCodedDim)
        return 0;
    for (uint8 bits = ann::kMaxCodeBits; bits > 1; bits--)
        if (!ann::ElementLayout::make(space, m, bits, kPageCapacity).spanned())
            return bits;
    return can_have_codes(ann::ElementLayout::make(space, m, 1, kPageCapacity)) ? 1 : 0;
}

void encode_edge(const GraphIndex *graph, const float *from, const float *to, EdgeCode *out) {
    out->factors = ann::encode_edge(graph->metric, from, to, ann::padded_dim(graph->layout.dim),
                                    graph->meta.code_bits, out->code);
}

void put_edge(const GraphIndex *graph, const ann::NeighborList &list, uint32 place,
              const EdgeCode &edge) {
    InPlace writer;
    put_edge(graph, list, place, edge, &writer);
}

void encode_link(GraphIndex *graph, const Rotated &from, ann::Link link, EdgeCode *out) {
    OpenElement element;
    *out = {};
    if (!open_element(graph, link, BUFFER_LOCK_SHARE, Parts::kVector, &element))
        return;
    Rotated to(graph, element.image.vector(graph->layout));
    close_element(element);
    encode_edge(graph, from, to, out);
}

ann::QueryTable *make_query_table(GraphIndex *graph, const void *query) {
    uint32 padded = ann::padded_dim(graph->layout.dim);
    Rotated rotated(graph, query);
    auto *table = static_cast<ann::QueryTable *>(palloc(sizeof(ann::QueryTable)));
    auto *sums = static_cast<uint8 *>(palloc(ann::table_bytes(padded)));
    *table = ann::make_table(rotated.x, padded, graph->meta.code_bits, sums);
    return table;
}

Origin::Origin(const GraphIndex *graph, const void *vector, float exact_distance)
    : distance(exact_distance) {
    float squared_norm = 0;
    if (ann::needs_norm(graph->metric))
        squared_norm = -graph->distance(vector, vector);
    weight = ann::edge_weight(graph->metric, distance, squared_norm);
}

void estimate_neighbors(const ann::QueryTable &table, const ann::NeighborList &list,
                        const Origin &origin, float *out) {
    uint32 block_bytes = ann::block_bytes(table.padded, table.bits);
    for (uint32 block = 0; block < list.blocks; block++) {
        const float *constants = list.factors + block * ann::kBlock;
        ann::estimate_block(table, list.codes + static_cast<size_t>(block) * block_bytes, constants,
                            constants + list.slots, origin.distance, origin.weight,
                            out + block * ann::kBlock);
    }
}

} // namespace vec
