// Choosing neighbours: algorithm 4 of Malkov and Yashunin (arXiv 1603.09320).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ann {

struct SelectionCandidate {
    float distance; // from the element whose neighbours are chosen
    bool kept;      // must be chosen
    uint32_t id;    // the caller's
};

// Chooses at most `capacity` of `candidates`, which are sorted by ascending distance, and writes
// their positions to `chosen` (room for `capacity`), returning how many.
//
// A candidate is chosen when it is nearer to the element than to every one chosen before it:
// that keeps links in all directions. Candidates marked kept are chosen first, whatever their
// distance; if places are left at the end and `fill` is set, the nearest of the others get them.
// covers(a, b, limit): whether the distance between candidates at positions a and b is below
// `limit`.
template <typename Covers>
uint32_t select_neighbors(const SelectionCandidate *candidates, uint32_t count, uint32_t capacity,
                          bool fill, uint32_t *chosen, Covers covers) {
    uint32_t chosen_count = 0;
    for (uint32_t i = 0; i < count && chosen_count < capacity; i++)
        if (candidates[i].kept)
            chosen[chosen_count++] = i;
    for (uint32_t i = 0; i < count && chosen_count < capacity; i++) {
        if (candidates[i].kept)
            continue;
        bool covered = false;
        for (uint32_t j = 0; j < chosen_count && !covered; j++)
            covered = covers(chosen[j], i, candidates[i].distance);
        if (!covered)
            chosen[chosen_count++] = i;
    }
    if (!fill || chosen_count == capacity)
        return chosen_count;
    uint32_t selected = chosen_count;
    for (uint32_t i = 0; i < count && chosen_count < capacity; i++) {
        bool already = false;
        for (uint32_t j = 0; j < selected && !already; j++)
            already = chosen[j] == i;
        if (!already)
            chosen[chosen_count++] = i;
    }
    return chosen_count;
}

} // namespace ann
