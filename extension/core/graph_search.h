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
#include "extension/core/frontier.h"
#include "extension/core/later_list.h"

namespace ann {

// What a search by codes learns of an element in one look at it.
struct Expansion {
    Candidate element; // with its exact distance
    uint32_t count;
    Link links[kMaxSlots]; // some may be empty
    float estimates[kMaxSlots];
};

// The state of a search on one level; reused from level to level. What only a search that is
// resumed keeps is filled where kStream says so, and costs other searches nothing.
struct LayerSearch {
    explicit LayerSearch(Arena arena)
        : visited(arena), queue(arena), frontier(arena), results(arena), discarded(arena),
          expanded(arena), later(arena) {}

    KeySet visited;
    ArenaVector<Candidate> queue;   // min-heap: to be expanded
    Frontier frontier;              // the same, of a search by codes that is not resumed
    ArenaVector<Candidate> results; // max-heap of live ones, at most ef
    uint64_t distances = 0;         // computed, for cost and tests

    ArenaVector<Candidate>
        discarded;              // min-heap: live, of known distance, not among any results yet
    ArenaVector<Link> expanded; // on level 0
    bool lost = false;          // an element was gone when its turn came
    LaterList later;            // of a search by codes: what is not in the queue

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
    template <bool kStream = false> void accept(const Candidate &candidate, size_t ef) {
        if (!candidate.live)
            return;
        results.push_back(candidate);
        std::push_heap(results.begin(), results.end(), nearer);
        if (results.size() > ef) {
            std::pop_heap(results.begin(), results.end(), nearer);
            if constexpr (kStream)
                discard(results.back());
            results.pop_back();
        }
    }
    // Nothing at this distance can be among the results any more.
    bool beyond(float distance, size_t ef) {
        return results.size() >= ef && distance > results.front().distance;
    }
    // What is beyond it is.
    float limit(size_t ef) {
        return results.size() >= ef ? results.front().distance
                                    : std::numeric_limits<float>::infinity();
    }

    // Keeps a candidate for later results.
    void discard(const Candidate &candidate) {
        if (!candidate.live)
            return;
        discarded.push_back(candidate);
        std::push_heap(discarded.begin(), discarded.end(), farther);
    }
    // Replaces the results by the nearest `ef` of the discarded, sorted by distance.
    void take_discarded(size_t ef) {
        results.clear();
        while (results.size() < ef && !discarded.empty()) {
            std::pop_heap(discarded.begin(), discarded.end(), farther);
            results.push_back(discarded.back());
            discarded.pop_back();
        }
    }
    // Leaves nothing in the expansion's list but what is still to be expanded, and fills its last
    // block up.
    void skip_visited(Expansion *expansion) const {
        constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();
        for (; expansion->count % kNeighborBlock != 0; expansion->count++)
            expansion->links[expansion->count] = Link::none();
        for (uint32_t first = 0; first < expansion->count; first += kNeighborBlock) {
            const Link *links = expansion->links + first;
            uint32_t maybe = 0;
            for (uint32_t i = 0; i < kNeighborBlock; i++)
                maybe |=
                    static_cast<uint32_t>(links[i].empty() | visited.may_contain(links[i].key()))
                    << i;
            for (; maybe != 0; maybe &= maybe - 1) {
                auto i = static_cast<uint32_t>(std::countr_zero(maybe));
                if (links[i].empty() || visited.contains(links[i].key()))
                    expansion->estimates[first + i] = kNothing;
            }
        }
    }
    void clear() {
        visited.clear();
        queue.clear();
        frontier.clear();
        results.clear();
        discarded.clear();
        expanded.clear();
        later.clear();
        lost = false;
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
            if (search.visited.insert(list[i].key()) && graph.distance(list[i], &next) &&
                next.distance < from.distance) {
                from = next;
                moved = true;
            }
        }
    }
    return from;
}

// Expands what is nearest until nothing in the queue can be among the results. With kStream, what
// is not among them is kept for the next call.
template <bool kStream, typename Graph>
void run_layer(Graph &graph, LayerSearch &search, size_t ef, int level) {
    Link list[kMaxSlots];
    while (!search.queue.empty() && !search.beyond(search.queue.front().distance, ef)) {
        Candidate nearest = search.pop();
        uint32_t count = graph.neighbors(nearest.link, level, list);
        if constexpr (kStream) {
            search.expanded.push_back(nearest.link);
            search.lost |= count == 0;
        }
        for (uint32_t i = 0; i < count; i++) {
            Candidate next;
            if (!search.visited.insert(list[i].key()))
                continue;
            if (!graph.distance(list[i], &next)) {
                if constexpr (kStream)
                    search.lost = true;
                continue;
            }
            search.distances++;
            if (search.beyond(next.distance, ef)) {
                if constexpr (kStream) {
                    search.push(next);
                    search.discard(next);
                }
                continue;
            }
            search.push(next);
            search.accept<kStream>(next, ef);
        }
    }
}

// Leaves the `ef` elements nearest to the query in `search.results`, sorted by distance.
template <bool kStream = false, typename Graph>
void search_layer(Graph &graph, LayerSearch &search, const Candidate *entries, size_t entry_count,
                  size_t ef, int level) {
    search.clear();
    for (size_t i = 0; i < entry_count; i++) {
        if (!search.visited.insert(entries[i].link.key()))
            continue;
        search.push(entries[i]);
        search.accept<kStream>(entries[i], ef);
    }
    run_layer<kStream>(graph, search, ef, level);
    std::sort(search.results.begin(), search.results.end(), nearer);
}

// Takes the nearest element out of the frontier that has not been taken yet; none when nothing in
// it can be among the results.
inline Candidate take_nearest(LayerSearch &search, size_t ef) {
    Frontier &frontier = search.frontier;
    while (!frontier.empty() && !search.beyond(frontier.distance(), ef)) {
        Candidate nearest = {frontier.distance(), false, frontier.nearest()};
        frontier.pop(search.limit(ef));
        if (search.visited.insert(nearest.link.key()))
            return nearest;
    }
    return {0, false, Link::none()};
}

// As search_layer(), by estimated distances (SymphonyQG, arXiv 2411.12229): what is estimated near
// is expanded, and only then is its exact distance known. An element may be estimated from several
// neighbours; the lowest estimate decides when it is expanded. The Graph also gives
//   bool expand(Link link, Expansion *out)
//   void prepare(Link link)                       a hint that it may be expanded next
//   void prepare_more()                           go on with that, in between
//
// Once the search has come near, the next element is taken before the one at hand is expanded, and
// so is on its way from memory meanwhile. One that turns out to be nearer has to wait for one turn,
// but what was taken would have been expanded anyway, unless it is beyond the results by then.
template <typename Graph>
void search_coded(Graph &graph, LayerSearch &search, Expansion *expansion, const Candidate *entries,
                  size_t entry_count, size_t ef) {
    constexpr size_t kNear = 6; // so many elements expanded
    Frontier &frontier = search.frontier;
    search.clear();
    for (size_t i = 0; i < entry_count; i++)
        frontier.add(entries[i].link, entries[i].distance);
    Candidate next = {0, false, Link::none()};
    for (;;) {
        Candidate nearest = next;
        if (nearest.link.empty() || search.beyond(nearest.distance, ef))
            nearest = take_nearest(search, ef);
        if (nearest.link.empty())
            break;
        next.link = Link::none();
        if (search.results.size() >= kNear)
            next = take_nearest(search, ef);
        if (!next.link.empty())
            graph.prepare(next.link);
        else if (!frontier.empty())
            graph.prepare(frontier.nearest());
        if (!graph.expand(nearest.link, expansion))
            continue;
        search.distances++;
        search.accept(expansion->element, ef);
        graph.prepare_more();
        search.skip_visited(expansion);
        graph.prepare_more();
        frontier.add(expansion->links, expansion->estimates, expansion->count, search.limit(ef));
        graph.prepare_more();
        if (next.link.empty() && !frontier.empty())
            graph.prepare(frontier.nearest());
    }
    std::sort(search.results.begin(), search.results.end(), nearer);
}

// ---------------------------------------------------------------- resuming
// Fetches into the queue what comes before everything in it. False when nothing is left that can be
// among the results.
inline bool fill_queue(LayerSearch &search, size_t ef) {
    float limit = search.limit(ef);
    while (!search.later.empty() && search.later.nearest() <= limit &&
           (search.queue.empty() || search.queue.front().distance > search.later.nearest()))
        search.later.take_nearest(search.visited, limit,
                                  [&](const Candidate &candidate) { search.push(candidate); });
    return !search.queue.empty() && search.queue.front().distance <= limit;
}

// As search_coded(), for a search that is resumed: whatever is met is kept.
template <typename Graph>
void run_coded(Graph &graph, LayerSearch &search, Expansion *expansion, size_t ef) {
    while (fill_queue(search, ef)) {
        Candidate nearest = search.pop();
        if (!search.visited.insert(nearest.link.key()))
            continue;
        if (!search.queue.empty())
            graph.prepare(search.queue.front().link);
        if (!graph.expand(nearest.link, expansion)) {
            search.lost = true;
            continue;
        }
        search.expanded.push_back(nearest.link);
        search.distances++;
        search.accept<true>(expansion->element, ef);
        graph.prepare_more();
        float near = std::max(search.limit(ef), search.later.horizon());
        for (uint32_t i = 0; i < expansion->count; i++) {
            Candidate candidate = {expansion->estimates[i], false, expansion->links[i]};
            if (candidate.link.empty() || search.visited.contains(candidate.link.key()))
                continue;
            if (candidate.distance <= near)
                search.push(candidate);
            else
                search.later.add(candidate);
        }
    }
}

template <typename Graph>
void start_coded(Graph &graph, LayerSearch &search, Expansion *expansion, const Candidate *entries,
                 size_t entry_count, size_t ef) {
    search.clear();
    for (size_t i = 0; i < entry_count; i++)
        search.push(entries[i]);
    run_coded(graph, search, expansion, ef);
    std::sort(search.results.begin(), search.results.end(), nearer);
}

// A search started by start_coded(), or search_layer() with kStream, is resumed by resume_search(),
// any number of times, also after the graph has changed. Every live element that was in the graph
// from the start to the end comes out in the results of exactly one call; with a new ef each time,
// if wanted.

// Elements that were gone when their turn came may have led to others, which by now are linked
// from elsewhere (vacuum sees to that): looks again at the lists of all that has been expanded,
// and at `entries`, for what has not been seen. False when there is nothing.
template <typename Graph>
bool find_missed(Graph &graph, LayerSearch &search, bool coded, const Candidate *entries,
                 size_t entry_count) {
    auto found = [&](const Candidate &candidate) {
        search.distances++;
        search.push(candidate);
        if (!coded)
            search.discard(candidate);
    };
    auto is_new = [&](Link link) {
        return coded ? !search.visited.contains(link.key()) : search.visited.insert(link.key());
    };
    search.lost = false;
    for (size_t i = 0; i < entry_count; i++)
        if (is_new(entries[i].link))
            found(entries[i]);
    Link list[kMaxSlots];
    for (size_t i = 0; i < search.expanded.size(); i++) {
        uint32_t count = graph.neighbors(search.expanded[i], 0, list);
        for (uint32_t n = 0; n < count; n++) {
            Candidate next;
            if (is_new(list[n]) && graph.distance(list[n], &next))
                found(next);
        }
    }
    return !search.queue.empty();
}

// Leaves the next `ef` elements in `search.results`, sorted by distance; fewer, or none, when there
// are no more. `expansion` is null for a search that is not by codes. `entry` finds where a search
// enters the graph now: bool entry(Candidate *).
template <typename Graph, typename Entry>
void resume_search(Graph &graph, LayerSearch &search, Expansion *expansion, size_t ef,
                   const Entry &entry) {
    bool coded = expansion != nullptr;
    search.take_discarded(ef);
    std::make_heap(search.results.begin(), search.results.end(), nearer);
    do {
        if (coded)
            run_coded(graph, search, expansion, ef);
        else
            run_layer<true>(graph, search, ef, 0);
        Candidate entries[1];
        if (!search.queue.empty() || !search.lost || search.results.size() >= ef ||
            !find_missed(graph, search, coded, entries, entry(entries) ? 1 : 0))
            break;
        // What was found of known distance may belong to these results.
        while (search.results.size() < ef && !search.discarded.empty()) {
            std::pop_heap(search.discarded.begin(), search.discarded.end(), farther);
            search.accept<true>(search.discarded.back(), ef);
            search.discarded.pop_back();
        }
    } while (true);
    std::sort(search.results.begin(), search.results.end(), nearer);
}

} // namespace ann
