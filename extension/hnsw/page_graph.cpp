#include "extension/hnsw/page_graph.h"

#include "extension/core/neighbor_selection.h"
#include "extension/hnsw/codes.h"

namespace vec {

bool PageGraph::distance(ann::Link link, ann::Candidate *out) {
    OpenElement element;
    if (!open_element(graph, link, BUFFER_LOCK_SHARE, Parts::kVector, &element))
        return false;
    float distance = 0;
    if (query != nullptr)
        distance = graph->distance(query, element.image.vector(graph->layout));
    // Overflow gives infinity, and a damaged page may give NaN, which has no place in an order.
    if (std::isnan(distance))
        distance = std::numeric_limits<float>::infinity();
    *out = {distance, element.live(), link};
    close_element(element);
    return true;
}

uint32_t PageGraph::neighbors(ann::Link link, int level, ann::Link *out) {
    CHECK_FOR_INTERRUPTS();
    NeighborCopy list;
    if (!copy_neighbors(graph, link, level, &list))
        return 0;
    uint32 count = 0;
    for (uint32 i = 0; i < list.capacity; i++)
        if (!list.links[i].empty())
            out[count++] = list.links[i];
    return count;
}

bool PageGraph::expand(ann::Link link, ann::Expansion *out) {
    CHECK_FOR_INTERRUPTS();
    const ann::ElementLayout &l = graph->layout;
    OpenElement element;
    if (!open_element(graph, link, BUFFER_LOCK_SHARE, Parts::kAll, &element))
        return false;
    float distance = graph->distance(query, element.image.vector(l));
    if (std::isnan(distance))
        distance = std::numeric_limits<float>::infinity();
    out->element = {distance, element.live(), link};
    out->count = l.slots;
    memcpy(out->links, element.image.links(l), l.slots * sizeof(ann::Link));
    estimate_neighbors(graph, *table, element.image, distance, out->estimates);
    close_element(element);
    for (uint32 i = 0; i < l.slots; i++)
        if (std::isnan(out->estimates[i]))
            out->estimates[i] = distance;
    return true;
}

// A page that is not cached is asked of the kernel early; one that is comes into the processor's
// cache while the element before it is worked on. The buffer is not pinned, so its page may be
// another by now: then the hint was in vain.
void PageGraph::prepare(ann::Link link) {
    if (link.block >= graph->known_blocks ||
        link.slot >= slots_per_page(graph->layout, kElementPage))
        return;
    PrefetchBufferResult found = PrefetchBuffer(graph->relation, MAIN_FORKNUM, link.block);
    if (!BufferIsValid(found.recent_buffer))
        return;
    uint32 bytes = slot_bytes(graph->layout, kElementPage);
    const uint8 *slot =
        slot_at(graph->layout, BufferGetPage(found.recent_buffer), kElementPage, link.slot);
    for (uint32 offset = 0; offset < bytes; offset += 64)
        __builtin_prefetch(slot + offset);
}

void search_level0(PageGraph *pages, ann::LayerSearch *search, ann::Arena arena,
                   const ann::Candidate *entries, size_t entry_count, size_t ef) {
    if (pages->graph->meta.code_bits == 0 || pages->query == nullptr) {
        ann::search_layer(*pages, *search, entries, entry_count, ef, 0);
        return;
    }
    pages->table = make_query_table(pages->graph, pages->query);
    auto *expansion = arena.array<ann::Expansion>(1);
    // Estimates err, but all ef results are of elements expanded, as many as a search by exact
    // distances would have to find: recall is higher at the same ef (README.md).
    ann::search_coded(*pages, *search, expansion, entries, entry_count, ef);
    arena.release(arena.owner, expansion);
}

bool entry_candidate(PageGraph *page_graph, ann::Candidate *entry) {
    const Meta &meta = page_graph->graph->meta;
    if (meta.entry_level < 0)
        return false;
    return page_graph->distance(meta.entry, entry);
}

bool open_upper(GraphIndex *graph, ann::Link element, ann::Link upper, int level, int lock,
                Buffer *buffer, ann::UpperSlot **slot) {
    for (int steps = 0; !upper.empty() && steps <= ann::kMaxLevel; steps++) {
        uint8 *found;
        if (!open_side(graph, upper, element, ann::kSideUpper, lock, buffer, &found))
            return false;
        *slot = reinterpret_cast<ann::UpperSlot *>(found);
        if ((*slot)->header.level == level)
            return true;
        upper = (*slot)->next;
        UnlockReleaseBuffer(*buffer);
    }
    return false;
}

static bool copy_upper(GraphIndex *graph, ann::Link link, ann::Link upper, int level,
                       NeighborCopy *out) {
    Buffer buffer;
    ann::UpperSlot *slot;
    if (!open_upper(graph, link, upper, level, BUFFER_LOCK_SHARE, &buffer, &slot))
        return false;
    out->capacity = graph->layout.m;
    memcpy(out->links, slot->links, out->capacity * sizeof(ann::Link));
    memcpy(out->distances, upper_distances(graph, slot), out->capacity * sizeof(float));
    memset(out->kept, 0, sizeof(out->kept));
    UnlockReleaseBuffer(buffer);
    return true;
}

bool copy_neighbors(GraphIndex *graph, ann::Link link, int level, NeighborCopy *out,
                    float *vector) {
    const ann::ElementLayout &l = graph->layout;
    OpenElement element;
    Parts parts = vector == nullptr ? Parts::kHead : Parts::kVector;
    if (!open_element(graph, link, BUFFER_LOCK_SHARE, parts, &element))
        return false;
    const ann::ElementImage &image = element.image;
    if (vector != nullptr)
        memcpy(vector, image.vector(l), l.dim * sizeof(float));
    ann::Link upper = image.header().upper;
    if (level == 0) {
        out->capacity = l.slots;
        memcpy(out->links, image.links(l), l.slots * sizeof(ann::Link));
        memcpy(out->distances, image.distances(l), l.slots * sizeof(float));
        memcpy(out->kept, image.header().kept, sizeof(out->kept));
    }
    close_element(element);
    return level == 0 || copy_upper(graph, link, upper, level, out);
}

namespace {

// Vectors of candidates, read when first wanted; those of rejected ones make room for others.
struct CandidateVectors {
    GraphIndex *graph;
    ann::Arena arena;
    const ann::Candidate *candidates;
    float **vectors; // per candidate
    float *spare;

    const float *get(uint32 i) {
        if (vectors[i] != nullptr)
            return vectors[i];
        float *room = spare != nullptr ? spare : arena.array<float>(graph->layout.dim);
        spare = nullptr;
        OpenElement element;
        if (!open_element(graph, candidates[i].link, BUFFER_LOCK_SHARE, Parts::kVector, &element)) {
            spare = room;
            return nullptr;
        }
        memcpy(room, element.image.vector(graph->layout), graph->layout.dim * sizeof(float));
        close_element(element);
        return vectors[i] = room;
    }
    void reject(uint32 i) {
        if (spare != nullptr && vectors[i] != nullptr)
            arena.release(arena.owner, vectors[i]);
        else if (vectors[i] != nullptr)
            spare = vectors[i];
        vectors[i] = nullptr;
    }
    void release(uint32 count) {
        for (uint32 i = 0; i < count; i++)
            if (vectors[i] != nullptr)
                arena.release(arena.owner, vectors[i]);
        if (spare != nullptr)
            arena.release(arena.owner, spare);
        arena.release(arena.owner, vectors);
    }
};

} // namespace

uint32 choose_neighbors(GraphIndex *graph, ann::Arena arena, ann::Candidate *candidates, bool *kept,
                        uint32 count, uint32 capacity, bool fill) {
    if (count == 0)
        return 0;
    auto *selection = arena.array<ann::SelectionCandidate>(count);
    for (uint32 i = 0; i < count; i++)
        selection[i] = {candidates[i].distance, kept != nullptr && kept[i], i};
    CandidateVectors vectors{graph, arena, candidates, arena.array<float *>(count), nullptr};
    memset(vectors.vectors, 0, count * sizeof(float *));
    uint32 chosen[ann::kMaxSlots];
    uint32 chosen_count = ann::select_neighbors(
        selection, count, capacity, fill, chosen, [&](uint32 a, uint32 b, float limit) {
            const float *va = vectors.get(a);
            const float *vb = vectors.get(b);
            bool covered = vb == nullptr || (va != nullptr && graph->distance(va, vb) < limit);
            if (covered)
                vectors.reject(b);
            return covered;
        });
    vectors.release(count);
    std::sort(chosen, chosen + chosen_count);
    for (uint32 i = 0; i < chosen_count; i++) {
        candidates[i] = candidates[chosen[i]];
        if (kept != nullptr)
            kept[i] = kept[chosen[i]];
    }
    arena.release(arena.owner, selection);
    return chosen_count;
}

} // namespace vec
