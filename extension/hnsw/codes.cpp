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

RotationCache::RotationCache(const GraphIndex *graph, ann::Arena arena, size_t max_bytes)
    : padded_(ann::padded_dim(graph->layout.dim)), page_slots_(graph->page_slots[kElementPage]) {
    size_t elements = static_cast<size_t>(RelationGetNumberOfBlocks(graph->relation)) * page_slots_;
    places_ = std::min(elements, max_bytes / (sizeof(uint64) + padded_ * sizeof(float)));
    keys_ = arena.array<uint64>(places_);
    std::fill_n(keys_, places_, ann::Link::none().key());
    vectors_ = arena.array<float>(places_ * padded_);
}

size_t RotationCache::place_of(ann::Link link) const {
    return (static_cast<uint64>(link.block) * page_slots_ + link.slot) % places_;
}

const float *RotationCache::find(ann::Link link) const {
    if (places_ == 0)
        return nullptr;
    size_t place = place_of(link);
    return keys_[place] == link.key() ? vectors_ + place * padded_ : nullptr;
}

void RotationCache::put(ann::Link link, const float *rotated) {
    if (places_ == 0)
        return;
    size_t place = place_of(link);
    keys_[place] = link.key();
    memcpy(vectors_ + place * padded_, rotated, padded_ * sizeof(float));
}

void rotate_element(const GraphIndex *graph, ann::Link link, const void *vector, Rotated *out) {
    RotationCache *cache = graph->rotations;
    if (const float *known = cache != nullptr ? cache->find(link) : nullptr; known != nullptr) {
        memcpy(out->x, known, ann::padded_dim(graph->layout.dim) * sizeof(float));
        return;
    }
    *out = Rotated(graph, vector);
    if (cache != nullptr)
        cache->put(link, out->x);
}

void encode_link(GraphIndex *graph, const Rotated &from, ann::Link link, EdgeCode *out) {
    RotationCache *cache = graph->rotations;
    if (const float *known = cache != nullptr ? cache->find(link) : nullptr; known != nullptr) {
        encode_edge(graph, from.x, known, out);
        return;
    }
    OpenElement element;
    *out = {};
    if (!open_element(graph, link, BUFFER_LOCK_SHARE, Parts::kVector, &element))
        return;
    Rotated to(graph, element.image.vector(graph->layout));
    close_element(element);
    if (cache != nullptr)
        cache->put(link, to.x);
    encode_edge(graph, from, to, out);
}

namespace {

// The table that was made last: the scans of several indexes for one query vector, as of a node's
// shards, ask for it one after the other. For as long as the backend lives.
struct LastTable {
    uint64 seed;
    uint32 dim;
    uint8 bits; // 0: there is none
    ann::VectorForm form;
    ann::QueryTable table;
    uint8 query[kMaxCodedBytes];
    uint8 sums[ann::table_bytes(kMaxCodedDim)];
};
LastTable *last_table;

bool is_last(const GraphIndex *graph, const void *query) {
    return last_table != nullptr && last_table->bits == graph->meta.code_bits &&
           last_table->dim == graph->layout.dim && last_table->form == graph->space.form &&
           last_table->seed == graph->meta.rotation_seed &&
           memcmp(last_table->query, query, graph->space.bytes()) == 0;
}

void remember(const GraphIndex *graph, const void *query, const ann::QueryTable &table) {
    if (last_table == nullptr)
        last_table =
            static_cast<LastTable *>(MemoryContextAlloc(TopMemoryContext, sizeof(LastTable)));
    last_table->seed = graph->meta.rotation_seed;
    last_table->dim = graph->layout.dim;
    last_table->bits = graph->meta.code_bits;
    last_table->form = graph->space.form;
    last_table->table = table;
    memcpy(last_table->query, query, graph->space.bytes());
    memcpy(last_table->sums, table.sums, ann::table_bytes(table.padded));
}

ann::QueryTable *copy_last() {
    auto *table = static_cast<ann::QueryTable *>(palloc(sizeof(ann::QueryTable)));
    size_t bytes = ann::table_bytes(last_table->table.padded);
    auto *sums = static_cast<uint8 *>(palloc(bytes));
    *table = last_table->table;
    memcpy(sums, last_table->sums, bytes);
    table->sums = sums;
    return table;
}

} // namespace

ann::QueryTable *make_query_table(GraphIndex *graph, const void *query) {
    if (is_last(graph, query))
        return copy_last();
    ann::QueryTable *table = make_query_table(graph, Rotated(graph, query));
    remember(graph, query, *table);
    return table;
}

ann::QueryTable *make_query_table(GraphIndex *graph, const Rotated &query) {
    uint32 padded = ann::padded_dim(graph->layout.dim);
    auto *table = static_cast<ann::QueryTable *>(palloc(sizeof(ann::QueryTable)));
    auto *sums = static_cast<uint8 *>(palloc(ann::table_bytes(padded)));
    *table = ann::make_table(query.x, padded, graph->meta.code_bits, sums);
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
