#include "extension/hnsw/codes.h"

namespace vec {

uint8 choose_code_bits(ann::Metric metric, uint32 dim, uint32 m) {
    if (metric == ann::Metric::kL1 || dim < kMinCodedDim || dim > kMaxCodedDim)
        return 0;
    for (uint8 bits = ann::kMaxCodeBits; bits > 0; bits--)
        if (!ann::ElementLayout::make(dim, m, bits, kPageCapacity).spanned())
            return bits;
    return 0;
}

void encode_edge(const GraphIndex *graph, const Rotated &from, const Rotated &to, EdgeCode *out) {
    out->factors = ann::encode_edge(graph->metric, from.x, to.x, ann::padded_dim(graph->layout.dim),
                                    graph->meta.code_bits, out->code);
}

void put_edge(const GraphIndex *graph, const ann::ElementImage &image, uint32 place,
              const EdgeCode &edge) {
    const ann::ElementLayout &l = graph->layout;
    image.factors(l)[place] = edge.factors.constant;
    image.factors(l)[l.slots + place] = edge.factors.slope;
    ann::put_code(image.codes(l, place / ann::kBlock), place % ann::kBlock, edge.code,
                  ann::padded_dim(l.dim), graph->meta.code_bits);
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

ann::QueryTable *make_query_table(GraphIndex *graph, const float *query) {
    uint32 padded = ann::padded_dim(graph->layout.dim);
    Rotated rotated(graph, query);
    auto *table = static_cast<ann::QueryTable *>(palloc(sizeof(ann::QueryTable)));
    auto *sums = static_cast<uint8 *>(palloc(ann::table_bytes(padded)));
    *table = ann::make_table(rotated.x, padded, graph->meta.code_bits, sums);
    return table;
}

void estimate_neighbors(const GraphIndex *graph, const ann::QueryTable &table,
                        const ann::ElementImage &image, float distance, float *out) {
    const ann::ElementLayout &l = graph->layout;
    float norm = 0;
    if (ann::needs_norm(graph->metric))
        norm = -graph->distance(image.vector(l), image.vector(l));
    float weight = ann::edge_weight(graph->metric, distance, norm);
    for (uint32 block = 0; block < l.blocks; block++) {
        const float *constants = image.factors(l) + block * ann::kBlock;
        ann::estimate_block(table, image.codes(l, block), constants, constants + l.slots, distance,
                            weight, out + block * ann::kBlock);
    }
}

} // namespace vec
