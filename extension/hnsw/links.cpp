// Adding a link to an element that others may be changing: read, decide, lock, check, write.
#include "extension/hnsw/codes.h"
#include "extension/hnsw/slot.h"
#include "extension/hnsw/write.h"

namespace vec {
namespace {

constexpr int kNowhere = -1;

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

// Where a new link goes in a list, and what it changes there.
struct Placement {
    int place;   // kNowhere: it has none
    bool chosen; // ann::is_chosen()
    // Chosen neighbours that are nearer to the new one than to the element: no longer chosen.
    uint32 covered[ann::kMaxSlots / 32];

    bool covers(uint32 i) const { return (covered[i / 32] >> (i % 32)) & 1; }
};

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

struct NewLink {
    ann::Link link;
    float distance;
    bool keep;
    Placement placement;
};

// Puts the link, with its code, in a list that is being changed.
void put_link(GraphIndex *graph, const ann::NeighborList &list, uint32 place, const NewLink &link,
              const EdgeCode &edge) {
    if (list.blocks > 0)
        put_edge(graph, list, place, edge);
    list.links[place] = link.link;
    for (uint32 i = 0; i < list.slots; i++)
        if (link.placement.covers(i))
            list.distances[i] = ann::with_chosen(list.distances[i], false);
    list.distances[place] = ann::with_chosen(link.distance, link.placement.chosen);
}

// The vector of the element, copied; false when it is gone.
bool copy_vector(GraphIndex *graph, ann::Link link, float *out) {
    OpenElement element;
    if (!open_element(graph, link, BUFFER_LOCK_SHARE, Parts::kVector, &element))
        return false;
    memcpy(out, element.image.vector(graph->layout), graph->layout.dim * sizeof(float));
    close_element(element);
    return true;
}

// Opens an element for changing its level-0 list.
bool open_for_change(GraphIndex *graph, ann::Link link, OpenElement *element) {
    Parts parts = graph->layout.code_bytes > 0 ? Parts::kAll : Parts::kHead;
    return open_element(graph, link, BUFFER_LOCK_EXCLUSIVE, parts, element);
}

// Puts the link at `place` of the element's level-0 list, if `expected` still is there.
bool store_level0(GraphIndex *graph, ann::Link to, int place, ann::Link expected,
                  const NewLink &link, const EdgeCode &edge) {
    const ann::ElementLayout &l = graph->layout;
    OpenElement element;
    if (!open_for_change(graph, to, &element))
        return false;
    const ann::ElementImage before = element.image;
    bool allowed =
        before.links(l)[place] == expected && (!before.kept(place) || expected == link.link);
    if (allowed) {
        GenericXLogState *state;
        ann::ElementImage image = start_change(graph, element, to, &state);
        put_link(graph, image.list(l), place, link, edge);
        image.set_kept(place, link.keep || image.kept(place));
        finish_change(graph, element, to, state);
    }
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

bool store_upper(GraphIndex *graph, ann::Link to, int level, int place, ann::Link expected,
                 const NewLink &link, const EdgeCode &edge) {
    Buffer buffer;
    ann::UpperImage slot;
    if (!lock_upper(graph, to, level, &buffer, &slot))
        return false;
    bool same = slot.list(graph->layout).links[place] == expected;
    if (same) {
        GenericXLogState *state = GenericXLogStart(graph->relation);
        put_link(graph, edit_upper(graph, state, buffer, slot), place, link, edge);
        GenericXLogFinish(state);
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
    float vector[kMaxCodedDim];
    if (!graph->layout.has_codes(level) || !copy_vector(graph, link, vector))
        return 0;
    Rotated from(graph, vector);
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
    float vector[kMaxCodedDim];
    if (!copy_vector(graph, to, vector))
        return false;
    encode_edge(graph, Rotated(graph, vector), *element.rotated, edge);
    return true;
}

bool store(GraphIndex *graph, ann::Link to, int level, int place, ann::Link expected,
           const NewLink &link, const EdgeCode &edge) {
    return level == 0 ? store_level0(graph, to, place, expected, link, edge)
                      : store_upper(graph, to, level, place, expected, link, edge);
}

// A list that others keep changing under us is left alone after so many tries, unless the link
// has to be made.
constexpr int kTries = 8;

} // namespace

LinkResult add_link(GraphIndex *graph, ann::Link to, int level, const NewElement &element,
                    float distance, bool keep) {
    ann::Link link = element.link;
    NeighborCopy list;
    EdgeCode edge;
    bool encoded = false;
    for (int tries = 0; keep || tries < kTries; tries++) {
        CHECK_FOR_INTERRUPTS();
        if (!copy_neighbors(graph, to, level, &list))
            return LinkResult::kNoRoom;
        Placement placement = {find_link(list, link), true, {}};
        if (placement.place != kNowhere && (!keep || list.is_kept(placement.place)))
            return LinkResult::kLinked;
        if (placement.place == kNowhere)
            placement.place = find_link(list, ann::Link::none());
        if (placement.place == kNowhere) {
            float from_new[ann::kMaxSlots];
            distances_from_new(graph, to, level, list, element, from_new);
            judge(list, from_new, distance, &placement);
            find_place(list, distance, keep, &placement);
        }
        int place = placement.place;
        if (place == kNowhere)
            return keep ? LinkResult::kNoRoom : LinkResult::kDeclined;
        if (!encoded && !encode_new(graph, to, level, element, &edge))
            return LinkResult::kNoRoom;
        encoded = true;
        if (store(graph, to, level, place, list.links[place], {link, distance, keep, placement},
                  edge))
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
