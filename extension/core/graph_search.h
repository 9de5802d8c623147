// Searching a layered graph by exact distances (algorithms 2 and 5 of arXiv 1603.09320).
//
// A Graph gives:
//   bool distance(Link link, Candidate *out)      exact distance of the query; false when the
//                                                 element is gone
//   uint32_t neighbors(Link link, int level, Link *out)
//                                                 its list, at most kMaxSlots; 0 when gone
// Both may raise the Graph owner's errors: nothing here has a destructor.
#pragma once

#include "extension/core/arena.h"
#include "extension/core/element.h"

namespace ann {

// The state of a search on one level; reused from level to level.
struct LayerSearch {
    explicit LayerSearch(Arena arena) : visited(arena), queue(arena), results(arena) {}

    KeySet visited;
    ArenaVector<Candidate> queue;   // min-heap: to be expanded
    ArenaVector<Candidate> results; // max-heap of live ones, at most ef
    uint64_t distances = 0;         // computed, for cost and tests

    void push(const Candidate &candidate) {
        queue.push_back(candidate);
        std::push_heap(queue.begin(), queue.end(), farther);
    }
    Candidate pop() {
        std::pop_heap(queue.begin(), queue.end(), farther);
        Candidate nearest = queue.back();
        queue.pop_back();
        return nearest;
    }
    void accept(const Candidate &candidate, size_t ef) {
        if (!candidate.live)
            return;
        results.push_back(candidate);
        std::push_heap(results.begin(), results.end(), nearer);
        if (results.size() > ef) {
            std::pop_heap(results.begin(), results.end(), nearer);
            results.pop_back();
        }
    }
    // Nothing at this distance can be among the results any more.
    bool beyond(float distance, size_t ef) {
        return results.size() >= ef && distance > results.front().distance;
    }
};

// The element nearest to the query that a walk from `from` on `level` ends at.
template <typename Graph>
Candidate descend(Graph &graph, LayerSearch &search, Candidate from, int level) {
    Link list[kMaxSlots];
    search.visited.clear();
    for (bool moved = true; moved;) {
        moved = false;
        uint32_t count = graph.neighbors(from.link, level, list);
        for (uint32_t i = 0; i < count; i++) {
            Candidate next;
            if (search.visited.insert(list[i].place()) && graph.distance(list[i], &next) &&
                next.distance < from.distance) {
                from = next;
                moved = true;
            }
        }
    }
    return from;
}

// Leaves the `ef` elements nearest to the query in `search.results`, sorted by distance.
template <typename Graph>
void search_layer(Graph &graph, LayerSearch &search, const Candidate *entries, size_t entry_count,
                  size_t ef, int level) {
    search.visited.clear();
    search.queue.clear();
    ArenaVector<Candidate> &results = search.results;
    results.clear();
    for (size_t i = 0; i < entry_count; i++) {
        if (!search.visited.insert(entries[i].link.place()))
            continue;
        search.push(entries[i]);
        search.accept(entries[i], ef);
    }
    Link list[kMaxSlots];
    while (!search.queue.empty()) {
        Candidate nearest = search.pop();
        if (search.beyond(nearest.distance, ef))
            break;
        uint32_t count = graph.neighbors(nearest.link, level, list);
        for (uint32_t i = 0; i < count; i++) {
            Candidate next;
            if (!search.visited.insert(list[i].place()) || !graph.distance(list[i], &next))
                continue;
            search.distances++;
            if (search.beyond(next.distance, ef))
                continue;
            search.push(next);
            search.accept(next, ef);
        }
    }
    std::sort(results.begin(), results.end(), nearer);
}

// What a search by codes learns of an element in one look at it.
struct Expansion {
    Candidate element; // with its exact distance
    uint32_t count;
    Link links[kMaxSlots]; // some may be empty
    float estimates[kMaxSlots];
};

// As search_layer() on level 0, by estimated distances (SymphonyQG, arXiv 2411.12229): what is
// estimated near is expanded, and only then is its exact distance known. An element may be
// estimated from several neighbours; the lowest estimate decides when it is expanded. The Graph
// also gives
//   bool expand(Link link, Expansion *out)
//   void prepare(Link link)                       a hint that it may be expanded next
template <typename Graph>
void search_coded(Graph &graph, LayerSearch &search, Expansion *expansion, const Candidate *entries,
                  size_t entry_count, size_t ef) {
    search.visited.clear();
    search.queue.clear();
    search.results.clear();
    for (size_t i = 0; i < entry_count; i++)
        search.push(entries[i]);
    while (!search.queue.empty()) {
        Candidate nearest = search.pop();
        if (search.beyond(nearest.distance, ef))
            break;
        if (!search.visited.insert(nearest.link.place()))
            continue;
        if (!search.queue.empty())
            graph.prepare(search.queue.front().link);
        if (!graph.expand(nearest.link, expansion))
            continue;
        search.distances++;
        search.accept(expansion->element, ef);
        for (uint32_t i = 0; i < expansion->count; i++) {
            Link link = expansion->links[i];
            if (!link.empty() && !search.beyond(expansion->estimates[i], ef) &&
                !search.visited.contains(link.place()))
                search.push({expansion->estimates[i], false, link});
        }
    }
    std::sort(search.results.begin(), search.results.end(), nearer);
}

} // namespace ann
