// Adding a link to an element that others may be changing: read, decide, lock, check, write.
#include "extension/hnsw/codes.h"
#include "extension/hnsw/slot.h"
#include "extension/hnsw/write.h"
#include "extension/pg/page_delta.h"

namespace vec {
namespace {

// The new element's distance from every neighbour in the list: read, or estimated by their codes
// in `to`'s own page. A neighbour that is gone is infinitely far.
void distances_from_new(GraphIndex *graph, ann::Link to, int level, const NeighborCopy &list,
                        const NewElement &element, float *out) {
    PageGraph from_new{graph, element.vector, element.table, nullptr, level};
    ann::Expansion expansion;
    if (from_new.has_codes(level) && from_new.expand(to, &expansion) &&
        expansion.count == list.capacity) {
        memcpy(out, expansion.estimates, list.capacity * sizeof(float));
        return;
    }
    for (uint32 i = 0; i < list.capacity; i++) {
        ann::Candidate neighbor;
        bool there = from_new.distance(list.links[i], &neighbor);
        out[i] = there ? neighbor.distance : std::numeric_limits<float>::infinity();
    }
}

// The heuristic of Malkov and Yashunin (arXiv 1603.09320, algorithm 4) for one more link, at
// `distance`, of a list in which earlier choices are marked: it is chosen unless a chosen
// neighbour, nearer to the element, is nearer to the new one than the element is. `from_new`: the
// new one's distances from the neighbours.
void judge(const NeighborCopy &list, const float *from_new, float distance, Placement *out) {
    for (uint32 i = 0; i < list.capacity; i++)
        if (ann::is_chosen(list.distances[i]) && list.distances[i] < distance &&
            from_new[i] < distance)
            out->chosen = false;
    for (uint32 i = 0; out->chosen && i < list.capacity; i++)
        if (ann::is_chosen(list.distances[i]) && list.distances[i] > distance &&
            from_new[i] < list.distances[i])
            out->covered[i / 32] |= 1u << (i % 32);
}

// Finds a place in a list that has none free: the farthest neighbour that is not chosen goes. If
// all are, the farthest one goes for another that is chosen and nearer. `keep`: in any case.
void find_place(const NeighborCopy &list, float distance, bool keep, Placement *out) {
    int filler = kNowhere, farthest = kNowhere;
    for (uint32 i = 0; i < list.capacity; i++) {
        if (list.is_kept(i))
            continue;
        bool fills = !ann::is_chosen(list.distances[i]) || out->covers(i);
        int &worst = fills ? filler : farthest;
        if (worst == kNowhere || list.distances[i] > list.distances[worst])
            worst = static_cast<int>(i);
    }
    auto nearer_than = [&](int place) {
        return place != kNowhere && (keep || distance < list.distances[place]);
    };
    if (filler != kNowhere && (out->chosen || nearer_than(filler)))
        out->place = filler;
    else if ((out->chosen || keep) && nearer_than(farthest))
        out->place = farthest;
}

int find_link(const NeighborCopy &list, ann::Link link) {
    for (uint32 i = 0; i < list.capacity; i++)
        if (list.links[i] == link)
            return i;
    return kNowhere;
}

// Finds where a new link at `distance` goes in a list that does not hold it. `from_new` is called,
// where the list is full, for the new one's distances from the neighbours in it.
template <typename FromNew>
Placement find_placement(const NeighborCopy &list, float distance, bool keep, FromNew from_new) {
    Placement placement = {find_link(list, ann::Link::none()), ann::Link::none(), true, {}};
    if (placement.place != kNowhere)
        return placement;
    float distances[ann::kMaxSlots];
    from_new(distances);
    judge(list, distances, distance, &placement);
    find_place(list, distance, keep, &placement);
    if (placement.place != kNowhere)
        placement.expected = list.links[placement.place];
    return placement;
}

// The link's place in the list, other than `but`.
int find_in(const ann::NeighborList &list, ann::Link link, uint32 but) {
    for (uint32 i = 0; i < list.slots; i++)
        if (i != but && list.links[i] == link)
            return static_cast<int>(i);
    return kNowhere;
}

struct NewLink {
    ann::Link link;
    float distance;
    bool keep;
    Placement placement;
};

// Puts the link, with its code, in a list by `writer`: InPlace or pg::PageDelta.
template <typename Writer>
void put_link(GraphIndex *graph, const ann::NeighborList &list, const NewLink &link,
              const EdgeCode &edge, Writer *writer) {
    uint32 place = link.placement.place;
    if (list.blocks > 0)
        put_edge(graph, list, place, edge, writer);
    PANVEL_ASSERT(place < list.slots && find_in(list, link.link, place) == kNowhere);
    writer->set(&list.links[place], &link.link, sizeof(ann::Link));
    auto set_distance = [&](uint32 i, float distance) {
        writer->set(&list.distances[i], &distance, sizeof(distance));
    };
    for (uint32 i = 0; i < list.slots; i++)
        if (link.placement.covers(i))
            set_distance(i, ann::with_chosen(list.distances[i], false));
    set_distance(place, ann::with_chosen(link.distance, link.placement.chosen));
}

// The vector of the element, copied; false when it is gone. REQUIRES: vectors of one size.
bool copy_vector(GraphIndex *graph, ann::Link link, void *out) {
    OpenElement element;
    if (!open_element(graph, link, BUFFER_LOCK_SHARE, Parts::kVector, &element))
        return false;
    memcpy(out, element.image.vector(graph->layout), graph->space.bytes());
    close_element(element);
    return true;
}

// Opens an element for changing its level-0 list.
bool open_for_change(GraphIndex *graph, ann::Link link, OpenElement *element) {
    Parts parts = graph->layout.code_bytes > 0 ? Parts::kAll : Parts::kHead;
    return open_element(graph, link, BUFFER_LOCK_EXCLUSIVE, parts, element);
}

// Whether the link can be put where it was decided to.
bool is_as_expected(const ann::NeighborList &list, const NewLink &link) {
    const Placement &placement = link.placement;
    if (!(list.links[placement.place] == placement.expected))
        return false;
    return find_in(list, link.link, placement.place) == kNowhere;
}

// Puts the link in an element's list, in one record.
void change_level0(GraphIndex *graph, const OpenElement &element, ann::Link to, const NewLink &link,
                   const EdgeCode &edge) {
    const ann::ElementLayout &l = graph->layout;
    const ann::ElementImage &image = element.image;
    uint32 place = link.placement.place;
    bool keep = link.keep || image.kept(place);
    if (!l.spanned()) {
        pg::PageDelta delta(graph->relation, element.buffer);
        put_link(graph, image.list(l), link, edge, &delta);
        uint32 bit = 1U << (place % 32);
        uint32 &kept = image.header().kept[place / 32];
        uint32 bits = keep ? kept | bit : kept & ~bit;
        delta.set(&kept, &bits, sizeof(bits));
        delta.finish();
        return;
    }
    GenericXLogState *state;
    InPlace writer;
    ann::ElementImage changed = start_change(graph, element, to, &state);
    put_link(graph, changed.list(l), link, edge, &writer);
    changed.set_kept(place, keep);
    finish_change(graph, element, to, state);
}

bool store_level0(GraphIndex *graph, ann::Link to, const NewLink &link, const EdgeCode &edge) {
    OpenElement element;
    if (!open_for_change(graph, to, &element))
        return false;
    const ann::ElementImage &now = element.image;
    uint32 place = link.placement.place;
    bool allowed = is_as_expected(now.list(graph->layout), link) &&
                   (!now.kept(place) || link.placement.expected == link.link);
    if (allowed)
        change_level0(graph, element, to, link, edge);
    close_element(element);
    return allowed;
}

// The element's list on a level above 0, locked exclusively; false when there is none.
bool lock_upper(GraphIndex *graph, ann::Link to, int level, Buffer *buffer, ann::UpperImage *slot) {
    OpenElement element;
    if (!open_element(graph, to, BUFFER_LOCK_SHARE, Parts::kHead, &element))
        return false;
    ann::Link upper = element.image.header().upper;
    close_element(element);
    return open_upper(graph, to, upper, level, BUFFER_LOCK_EXCLUSIVE, buffer, slot);
}

// The same list in the copy of the page that `state` will log.
ann::NeighborList edit_upper(GraphIndex *graph, GenericXLogState *state, Buffer buffer,
                             const ann::UpperImage &slot) {
    size_t offset = slot.data - reinterpret_cast<uint8 *>(BufferGetPage(buffer));
    auto *page = reinterpret_cast<uint8 *>(GenericXLogRegisterBuffer(state, buffer, 0));
    return ann::UpperImage{page + offset}.list(graph->layout);
}

bool store_upper(GraphIndex *graph, ann::Link to, int level, const NewLink &link,
                 const EdgeCode &edge) {
    Buffer buffer;
    ann::UpperImage slot;
    if (!lock_upper(graph, to, level, &buffer, &slot))
        return false;
    ann::NeighborList list = slot.list(graph->layout);
    bool same = is_as_expected(list, link);
    if (same) {
        pg::PageDelta delta(graph->relation, buffer);
        put_link(graph, list, link, edge, &delta);
        delta.finish();
    }
    UnlockReleaseBuffer(buffer);
    return same;
}

struct PlacedEdge {
    uint32 place;
    EdgeCode edge;
};

// Encodes the neighbours that are new in `after`; returns how many. `out` is palloc'd.
uint32 encode_changes(GraphIndex *graph, ann::Link link, int level, const NeighborCopy &before,
                      const NeighborCopy &after, PlacedEdge **out) {
    alignas(8) uint8 vector[kMaxCodedBytes];
    if (!graph->layout.has_codes(level) || !copy_vector(graph, link, vector))
        return 0;
    Rotated from;
    rotate_element(graph, link, vector, &from);
    *out = static_cast<PlacedEdge *>(palloc(after.capacity * sizeof(PlacedEdge)));
    uint32 count = 0;
    for (uint32 i = 0; i < after.capacity; i++) {
        if (after.links[i].empty() || after.links[i] == before.links[i])
            continue;
        (*out)[count].place = i;
        encode_link(graph, from, after.links[i], &(*out)[count++].edge);
    }
    return count;
}

// Makes the list, in the page to be logged, what `after` is.
void put_list(GraphIndex *graph, const ann::NeighborList &list, const NeighborCopy &after,
              const PlacedEdge *edges, uint32 edge_count) {
    memcpy(list.links, after.links, list.slots * sizeof(ann::Link));
    memcpy(list.distances, after.distances, list.slots * sizeof(float));
    for (uint32 i = 0; i < edge_count; i++)
        put_edge(graph, list, edges[i].place, edges[i].edge);
}

bool replace_upper(GraphIndex *graph, ann::Link link, int level, const NeighborCopy &before,
                   const NeighborCopy &after) {
    PlacedEdge *edges = nullptr;
    uint32 edge_count = encode_changes(graph, link, level, before, after, &edges);
    Buffer buffer;
    ann::UpperImage slot;
    if (!lock_upper(graph, link, level, &buffer, &slot))
        return true;
    ann::NeighborList now = slot.list(graph->layout);
    bool same = memcmp(now.links, before.links, now.slots * sizeof(ann::Link)) == 0;
    if (same) {
        GenericXLogState *state = GenericXLogStart(graph->relation);
        put_list(graph, edit_upper(graph, state, buffer, slot), after, edges, edge_count);
        GenericXLogFinish(state);
    }
    UnlockReleaseBuffer(buffer);
    return same;
}

bool replace_level0(GraphIndex *graph, ann::Link link, const NeighborCopy &before,
                    const NeighborCopy &after) {
    const ann::ElementLayout &l = graph->layout;
    PlacedEdge *edges = nullptr;
    uint32 edge_count = encode_changes(graph, link, 0, before, after, &edges);
    OpenElement element;
    if (!open_for_change(graph, link, &element))
        return true;
    const ann::ElementImage &now = element.image;
    bool same = memcmp(now.links(l), before.links, l.slots * sizeof(ann::Link)) == 0 &&
                memcmp(now.header().kept, before.kept, sizeof(before.kept)) == 0;
    if (same) {
        GenericXLogState *state;
        ann::ElementImage image = start_change(graph, element, link, &state);
        put_list(graph, image.list(l), after, edges, edge_count);
        memcpy(image.header().kept, after.kept, sizeof(after.kept));
        finish_change(graph, element, link, state);
    }
    close_element(element);
    return same;
}

// Encodes the edge to the new neighbour, if the list has codes; false when `to` is gone.
bool encode_new(GraphIndex *graph, ann::Link to, int level, const NewElement &element,
                EdgeCode *edge) {
    if (!graph->layout.has_codes(level))
        return true;
    alignas(8) uint8 vector[kMaxCodedBytes];
    if (!copy_vector(graph, to, vector))
        return false;
    encode_edge(graph, Rotated(graph, vector), *element.rotated, edge);
    return true;
}

// Puts the link in the list, if that is as expected.
bool store(GraphIndex *graph, ann::Link to, int level, const NewLink &link, const EdgeCode &edge) {
    return level == 0 ? store_level0(graph, to, link, edge)
                      : store_upper(graph, to, level, link, edge);
}

// A list that others keep changing under us is left alone after so many tries, unless the link
// has to be made.
constexpr int kTries = 8;

} // namespace

void meet_neighbor(GraphIndex *graph, ann::Link neighbor, int level, const NewElement &element,
                   float distance, NewEdges *out) {
    const ann::ElementLayout &l = graph->layout;
    *out = {};
    out->placement.place = kNowhere;
    OpenElement open;
    if (!open_element(graph, neighbor, BUFFER_LOCK_SHARE, level == 0 ? Parts::kAll : Parts::kVector,
                      &open))
        return;
    const void *vector = open.image.vector(l);
    Rotated rotated(graph, vector);
    Origin origin(graph, vector, distance);
    ann::Link upper = open.image.header().upper;
    auto place = [&](const ann::NeighborList &list, const uint32 *kept) {
        NeighborCopy copy;
        copy_list(list, kept, &copy);
        out->placement = find_placement(copy, distance, false, [&](float *from_new) {
            estimate_neighbors(*element.table, list, origin, from_new);
        });
    };
    if (level == 0)
        place(open.image.list(l), open.image.header().kept);
    close_element(open);
    Buffer buffer;
    ann::UpperImage slot;
    if (level > 0 && open_upper(graph, neighbor, upper, level, BUFFER_LOCK_SHARE, &buffer, &slot)) {
        place(slot.list(l), nullptr);
        UnlockReleaseBuffer(buffer);
    }
    encode_edge(graph, *element.rotated, rotated, &out->there);
    encode_edge(graph, rotated, *element.rotated, &out->back);
}

LinkResult add_link(GraphIndex *graph, ann::Link to, int level, const NewElement &element,
                    float distance, bool keep, const NewEdges *edges) {
    ann::Link link = element.link;
    if (edges != nullptr && !keep) {
        if (edges->placement.place == kNowhere)
            return LinkResult::kDeclined;
        if (store(graph, to, level, {link, distance, keep, edges->placement}, edges->back))
            return LinkResult::kLinked;
    }
    NeighborCopy list;
    EdgeCode edge;
    bool encoded = edges != nullptr;
    if (encoded)
        edge = edges->back;
    for (int tries = 0; keep || tries < kTries; tries++) {
        CHECK_FOR_INTERRUPTS();
        if (!copy_neighbors(graph, to, level, &list))
            return LinkResult::kNoRoom;
        Placement placement = {find_link(list, link), link, true, {}};
        if (placement.place != kNowhere && (!keep || list.is_kept(placement.place)))
            return LinkResult::kLinked;
        if (placement.place == kNowhere)
            placement = find_placement(list, distance, keep, [&](float *from_new) {
                distances_from_new(graph, to, level, list, element, from_new);
            });
        if (placement.place == kNowhere)
            return keep ? LinkResult::kNoRoom : LinkResult::kDeclined;
        if (!encoded && !encode_new(graph, to, level, element, &edge))
            return LinkResult::kNoRoom;
        encoded = true;
        if (store(graph, to, level, {link, distance, keep, placement}, edge))
            return LinkResult::kLinked;
    }
    return LinkResult::kDeclined;
}

bool replace_list(GraphIndex *graph, ann::Link link, int level, const NeighborCopy &before,
                  const NeighborCopy &after) {
    return level == 0 ? replace_level0(graph, link, before, after)
                      : replace_upper(graph, link, level, before, after);
}

} // namespace vec
