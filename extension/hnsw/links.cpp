// Adding a link to an element that others may be changing: read, decide, lock, check, write.
#include "extension/hnsw/codes.h"
#include "extension/hnsw/slot.h"
#include "extension/hnsw/write.h"

namespace vec {
namespace {

constexpr int kNowhere = -1;

// The new element's distance from every neighbour in the list: read, or estimated by their codes
// in `to`'s own page. A neighbour that is gone is infinitely far.
void distances_from_new(GraphIndex *graph, ann::Link to, const NeighborCopy &list,
                        const NewElement &element, float *out) {
    PageGraph from_new{graph, element.vector, element.table};
    ann::Expansion expansion;
    if (element.table != nullptr && list.capacity == graph->layout.slots &&
        from_new.expand(to, &expansion)) {
        memcpy(out, expansion.estimates, list.capacity * sizeof(float));
        return;
    }
    for (uint32 i = 0; i < list.capacity; i++) {
        ann::Candidate neighbor;
        bool there = from_new.distance(list.links[i], &neighbor);
        out[i] = there ? neighbor.distance : std::numeric_limits<float>::infinity();
    }
}

// The place for a link at `distance` from its element, in a list that has none free: instead of a
// neighbour that the new one covers, or the farthest; kNowhere when a neighbour covers the new
// one. `from_new`: the new one's distances from the neighbours. `keep`: find a place in any case.
int choose_place(const NeighborCopy &list, const float *from_new, float distance, bool keep) {
    int covered_place = kNowhere, farthest_place = kNowhere;
    for (uint32 i = 0; i < list.capacity; i++) {
        if (!keep && list.distances[i] < distance && from_new[i] < distance)
            return kNowhere;
        if (list.is_kept(i))
            continue;
        auto farther = [&](int place) {
            return place == kNowhere || list.distances[i] > list.distances[place];
        };
        if (from_new[i] < list.distances[i] && list.distances[i] > distance &&
            farther(covered_place))
            covered_place = i;
        if (farther(farthest_place))
            farthest_place = i;
    }
    if (covered_place != kNowhere)
        return covered_place;
    if (!keep && farthest_place != kNowhere && list.distances[farthest_place] <= distance)
        return kNowhere;
    return farthest_place;
}

int find_link(const NeighborCopy &list, ann::Link link) {
    for (uint32 i = 0; i < list.capacity; i++)
        if (list.links[i] == link)
            return i;
    return kNowhere;
}

struct NewLink {
    ann::Link link;
    const float *vector;
    float distance;
    bool keep;
};

// Puts the link at `place` of the element's level-0 list, if `expected` still is there.
bool store_level0(GraphIndex *graph, ann::Link to, int place, ann::Link expected,
                  const NewLink &link) {
    const ann::ElementLayout &l = graph->layout;
    OpenElement element;
    if (!open_element(graph, to, BUFFER_LOCK_EXCLUSIVE, Parts::kHead, &element))
        return false;
    const ann::ElementImage before = element.image;
    bool allowed =
        before.links(l)[place] == expected && (!before.kept(place) || expected == link.link);
    if (allowed) {
        EdgeCode edge;
        if (l.code_bytes > 0)
            encode_edge(graph, Rotated(graph, before.vector(l)), Rotated(graph, link.vector),
                        &edge);
        GenericXLogState *state = GenericXLogStart(graph->relation);
        ann::ElementImage image{edit_slot(graph, state, element.buffer, kElementPage, to.slot)};
        if (l.code_bytes > 0)
            put_edge(graph, image, place, edge);
        image.links(l)[place] = link.link;
        image.distances(l)[place] = link.distance;
        image.set_kept(place, link.keep || image.kept(place));
        GenericXLogFinish(state);
    }
    close_element(element);
    return allowed;
}

// The element's list on a level above 0, locked exclusively; false when there is none.
bool lock_upper(GraphIndex *graph, ann::Link to, int level, Buffer *buffer, ann::UpperSlot **slot) {
    OpenElement element;
    if (!open_element(graph, to, BUFFER_LOCK_SHARE, Parts::kHead, &element))
        return false;
    ann::Link upper = element.image.header().upper;
    close_element(element);
    return open_upper(graph, to, upper, level, BUFFER_LOCK_EXCLUSIVE, buffer, slot);
}

// The same slot in the copy of the page that `state` will log.
ann::UpperSlot *edit_upper(GenericXLogState *state, Buffer buffer, ann::UpperSlot *slot) {
    size_t offset =
        reinterpret_cast<char *>(slot) - reinterpret_cast<char *>(BufferGetPage(buffer));
    char *page = reinterpret_cast<char *>(GenericXLogRegisterBuffer(state, buffer, 0));
    return reinterpret_cast<ann::UpperSlot *>(page + offset);
}

bool store_upper(GraphIndex *graph, ann::Link to, int level, int place, ann::Link expected,
                 const NewLink &link) {
    Buffer buffer;
    ann::UpperSlot *slot;
    if (!lock_upper(graph, to, level, &buffer, &slot))
        return false;
    bool same = slot->links[place] == expected;
    if (same) {
        GenericXLogState *state = GenericXLogStart(graph->relation);
        slot = edit_upper(state, buffer, slot);
        slot->links[place] = link.link;
        upper_distances(graph, slot)[place] = link.distance;
        GenericXLogFinish(state);
    }
    UnlockReleaseBuffer(buffer);
    return same;
}

bool replace_upper(GraphIndex *graph, ann::Link link, int level, const NeighborCopy &before,
                   const NeighborCopy &after) {
    Buffer buffer;
    ann::UpperSlot *slot;
    if (!lock_upper(graph, link, level, &buffer, &slot))
        return true;
    size_t bytes = before.capacity * sizeof(ann::Link);
    bool same = memcmp(slot->links, before.links, bytes) == 0;
    if (same) {
        GenericXLogState *state = GenericXLogStart(graph->relation);
        slot = edit_upper(state, buffer, slot);
        memcpy(slot->links, after.links, bytes);
        memcpy(upper_distances(graph, slot), after.distances, after.capacity * sizeof(float));
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
uint32 encode_changes(GraphIndex *graph, ann::Link link, const NeighborCopy &before,
                      const NeighborCopy &after, PlacedEdge **out) {
    OpenElement element;
    if (graph->layout.code_bytes == 0 ||
        !open_element(graph, link, BUFFER_LOCK_SHARE, Parts::kVector, &element))
        return 0;
    Rotated from(graph, element.image.vector(graph->layout));
    close_element(element);
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

bool replace_level0(GraphIndex *graph, ann::Link link, const NeighborCopy &before,
                    const NeighborCopy &after) {
    const ann::ElementLayout &l = graph->layout;
    PlacedEdge *edges = nullptr;
    uint32 edge_count = encode_changes(graph, link, before, after, &edges);
    OpenElement element;
    if (!open_element(graph, link, BUFFER_LOCK_EXCLUSIVE, Parts::kHead, &element))
        return true;
    size_t bytes = l.slots * sizeof(ann::Link);
    const ann::ElementImage &now = element.image;
    bool same = memcmp(now.links(l), before.links, bytes) == 0 &&
                memcmp(now.header().kept, before.kept, sizeof(before.kept)) == 0;
    if (same) {
        GenericXLogState *state = GenericXLogStart(graph->relation);
        ann::ElementImage image{edit_slot(graph, state, element.buffer, kElementPage, link.slot)};
        memcpy(image.links(l), after.links, bytes);
        memcpy(image.distances(l), after.distances, l.slots * sizeof(float));
        memcpy(image.header().kept, after.kept, sizeof(after.kept));
        for (uint32 i = 0; i < edge_count; i++)
            put_edge(graph, image, edges[i].place, edges[i].edge);
        GenericXLogFinish(state);
    }
    close_element(element);
    return same;
}

bool store(GraphIndex *graph, ann::Link to, int level, int place, ann::Link expected,
           const NewLink &link) {
    return level == 0 ? store_level0(graph, to, place, expected, link)
                      : store_upper(graph, to, level, place, expected, link);
}

// A list that others keep changing under us is left alone after so many tries, unless the link
// has to be made.
constexpr int kTries = 8;

} // namespace

LinkResult add_link(GraphIndex *graph, ann::Link to, int level, const NewElement &element,
                    float distance, bool keep) {
    ann::Link link = element.link;
    NeighborCopy list;
    for (int tries = 0; keep || tries < kTries; tries++) {
        CHECK_FOR_INTERRUPTS();
        if (!copy_neighbors(graph, to, level, &list))
            return LinkResult::kNoRoom;
        int place = find_link(list, link);
        if (place != kNowhere && (!keep || list.is_kept(place)))
            return LinkResult::kLinked;
        if (place == kNowhere)
            place = find_link(list, ann::Link::none());
        if (place == kNowhere) {
            float from_new[ann::kMaxSlots];
            distances_from_new(graph, to, list, element, from_new);
            place = choose_place(list, from_new, distance, keep);
        }
        if (place == kNowhere)
            return keep ? LinkResult::kNoRoom : LinkResult::kDeclined;
        if (store(graph, to, level, place, list.links[place],
                  {link, element.vector, distance, keep}))
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
