#include "extension/hnsw/page_graph.h"

#include "extension/core/neighbor_selection.h"
#include "extension/hnsw/codes.h"
#include "extension/pg/recent_buffers.h"

namespace vec {

// How many elements are followed on the level above the one that is searched, where there are
// codes: one would end beside the right one of many clusters more often (README.md).
constexpr size_t kEfPerDescent = 16;
constexpr size_t kMaxDescentWidth = 4;

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

void PageGraph::use_codes() {
    if (query == nullptr || graph->meta.code_bits == 0)
        return;
    table = make_query_table(graph, query);
    expansion = static_cast<ann::Expansion *>(palloc(sizeof(ann::Expansion)));
}

namespace {

void take_list(const ann::QueryTable &table, const ann::NeighborList &list, const Origin &origin,
               ann::Expansion *out) {
    out->count = list.slots;
    memcpy(out->links, list.links, list.slots * sizeof(ann::Link));
    estimate_neighbors(table, list, origin, out->estimates);
    for (uint32 i = 0; i < list.slots; i++)
        if (std::isnan(out->estimates[i]))
            out->estimates[i] = origin.distance;
}

constexpr uint32 kCacheLine = 64;
// A search asks so often for more of what it has been told to prepare, from one expansion to the
// next: a whole element's lines at once are more than the processor has on their way, and whatever
// it does next waits for them (README.md).
constexpr uint32 kPortions = 6;

uint32 lines_of(uint32 bytes) {
    return (bytes + kCacheLine - 1) / kCacheLine;
}

// Where the slot is if its page has been seen lately; what finds it there comes into the
// processor's cache. It is not pinned, so the page may be another by now: then the hint was in
// vain.
const uint8 *find_slot(GraphIndex *graph, PageKind kind, ann::Link link) {
    if (link.block >= graph->known_blocks || link.slot >= graph->page_slots[kind])
        return nullptr;
    const char *page = pg::prefetch_page(graph->relation, link.block);
    if (page == nullptr)
        return nullptr;
    __builtin_prefetch(page);
    __builtin_prefetch(page_tail(const_cast<char *>(page)));
    return slot_at(graph->layout, const_cast<char *>(page), kind, link.slot);
}

void prepare_slot(GraphIndex *graph, PageKind kind, ann::Link link, uint32 bytes) {
    const uint8 *slot = find_slot(graph, kind, link);
    for (uint32 i = 0; slot != nullptr && i < lines_of(bytes); i++)
        __builtin_prefetch(slot + i * kCacheLine);
}

} // namespace

bool PageGraph::expand(ann::Link link, ann::Expansion *out) {
    CHECK_FOR_INTERRUPTS();
    const ann::ElementLayout &l = graph->layout;
    OpenElement element;
    if (!open_element(graph, link, BUFFER_LOCK_SHARE, level == 0 ? Parts::kAll : Parts::kVector,
                      &element))
        return false;
    ann::Link upper = element.image.header().upper;
    if (level > 0)
        prepare_slot(graph, kUpperPage, upper, l.upper_bytes);
    prepare_more();
    float distance = graph->distance(query, element.image.vector(l));
    if (std::isnan(distance))
        distance = std::numeric_limits<float>::infinity();
    prepare_more();
    out->element = {distance, element.live(), link};
    out->count = 0;
    Origin origin(graph, element.image.vector(l), distance);
    if (level == 0)
        take_list(*table, element.image.list(l), origin, out);
    close_element(element);
    Buffer buffer;
    ann::UpperImage slot;
    if (level > 0 && open_upper(graph, link, upper, level, BUFFER_LOCK_SHARE, &buffer, &slot)) {
        take_list(*table, slot.list(l), origin, out);
        UnlockReleaseBuffer(buffer);
    }
    prepare_more();
    return true;
}

void PageGraph::prepare(ann::Link link) {
    if (link == prepared)
        return;
    prepared = link;
    lines_coming = 0;
    prepared_found = false;
    pg::prepare_place(graph->relation, link.block);
}

void PageGraph::find_prepared() {
    prepared_found = true;
    const uint8 *slot = find_slot(graph, kElementPage, prepared);
    if (slot == nullptr)
        return;
    const ann::ElementLayout &l = graph->layout;
    coming = reinterpret_cast<const char *>(slot);
    lines_coming = lines_of(level == 0 ? l.head_bytes : Min(l.head_bytes, l.codes_offset));
    lines_at_once = (lines_coming + kPortions - 1) / kPortions;
}

void PageGraph::prepare_more() {
    if (!prepared_found)
        find_prepared();
    uint32 lines = Min(lines_at_once, lines_coming);
    for (uint32 i = 0; i < lines; i++)
        __builtin_prefetch(coming + i * kCacheLine);
    coming += lines * kCacheLine;
    lines_coming -= lines;
}

void search_level(PageGraph *pages, ann::LayerSearch *search, const ann::Candidate *entries,
                  size_t entry_count, size_t ef, int level) {
    pages->level = level;
    // Estimates err, but all ef results are of elements expanded, as many as a search by exact
    // distances would have to find: recall is higher at the same ef (README.md).
    if (pages->has_codes(level))
        ann::search_coded(*pages, *search, pages->expansion, entries, entry_count, ef);
    else
        ann::search_layer(*pages, *search, entries, entry_count, ef, level);
}

void descend_to(PageGraph *pages, ann::LayerSearch *search, ann::Candidate *entry, size_t ef,
                int level) {
    size_t width = Min(1 + ef / kEfPerDescent, kMaxDescentWidth);
    for (int above = pages->graph->meta.entry_level; above > level; above--) {
        if (!pages->has_codes(above)) {
            *entry = ann::descend(*pages, *search, *entry, above);
            continue;
        }
        search_level(pages, search, entry, 1, above == level + 1 ? width : 1, above);
        if (!search->results.empty()) // else all there are dead: go down from where we came
            *entry = search->results[0];
    }
}

bool entry_candidate(PageGraph *page_graph, ann::Candidate *entry) {
    const Meta &meta = page_graph->graph->meta;
    if (meta.entry_level < 0)
        return false;
    return page_graph->distance(meta.entry, entry);
}

bool open_upper(GraphIndex *graph, ann::Link element, ann::Link upper, int level, int lock,
                Buffer *buffer, ann::UpperImage *slot) {
    for (int steps = 0; !upper.empty() && steps <= ann::kMaxLevel; steps++) {
        if (!open_side(graph, upper, element, ann::kSideUpper, lock, buffer, &slot->data))
            return false;
        if (slot->header().header.level == level)
            return true;
        upper = slot->header().next;
        UnlockReleaseBuffer(*buffer);
    }
    return false;
}

void copy_list(const ann::NeighborList &list, const uint32 *kept, NeighborCopy *out) {
    out->capacity = list.slots;
    memcpy(out->links, list.links, list.slots * sizeof(ann::Link));
    memcpy(out->distances, list.distances, list.slots * sizeof(float));
    if (kept == nullptr)
        memset(out->kept, 0, sizeof(out->kept));
    else
        memcpy(out->kept, kept, sizeof(out->kept));
}

static bool copy_upper(GraphIndex *graph, ann::Link link, ann::Link upper, int level,
                       NeighborCopy *out) {
    Buffer buffer;
    ann::UpperImage slot;
    if (!open_upper(graph, link, upper, level, BUFFER_LOCK_SHARE, &buffer, &slot))
        return false;
    copy_list(slot.list(graph->layout), nullptr, out);
    UnlockReleaseBuffer(buffer);
    return true;
}

bool copy_neighbors(GraphIndex *graph, ann::Link link, int level, NeighborCopy *out, void *vector) {
    const ann::ElementLayout &l = graph->layout;
    OpenElement element;
    Parts parts = vector == nullptr ? Parts::kHead : Parts::kVector;
    if (!open_element(graph, link, BUFFER_LOCK_SHARE, parts, &element))
        return false;
    const ann::ElementImage &image = element.image;
    if (vector != nullptr)
        memcpy(vector, image.vector(l), graph->space.bytes(image.vector(l)));
    ann::Link upper = image.header().upper;
    if (level == 0)
        copy_list(image.list(l), image.header().kept, out);
    close_element(element);
    return level == 0 || copy_upper(graph, link, upper, level, out);
}

namespace {

// Vectors of candidates, read when first wanted; those of rejected ones make room for others.
struct CandidateVectors {
    GraphIndex *graph;
    ann::Arena arena;
    const ann::Candidate *candidates;
    uint8 **vectors; // per candidate
    uint8 *spare;    // where all have one size

    const void *get(uint32 i) {
        if (vectors[i] != nullptr)
            return vectors[i];
        OpenElement element;
        if (!open_element(graph, candidates[i].link, BUFFER_LOCK_SHARE, Parts::kVector, &element))
            return nullptr;
        const void *vector = element.image.vector(graph->layout);
        size_t bytes = graph->space.bytes(vector);
        vectors[i] = spare != nullptr ? spare : arena.array<uint8>(bytes);
        spare = nullptr;
        memcpy(vectors[i], vector, bytes);
        close_element(element);
        return vectors[i];
    }
    void reject(uint32 i) {
        bool keep = spare == nullptr && graph->space.fixed_size();
        if (!keep && vectors[i] != nullptr)
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
    CandidateVectors vectors{graph, arena, candidates, arena.array<uint8 *>(count), nullptr};
    memset(vectors.vectors, 0, count * sizeof(uint8 *));
    uint32 chosen[ann::kMaxSlots];
    uint32 chosen_count = ann::select_neighbors(
        selection, count, capacity, fill, chosen, [&](uint32 a, uint32 b, float limit) {
            const void *va = vectors.get(a);
            const void *vb = vectors.get(b);
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
