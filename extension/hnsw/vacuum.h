// Vacuum: what its passes share. README.md has the whole and why it is safe.
#pragma once

#include "extension/hnsw/hnsw.h"
#include "extension/hnsw/page_graph.h"

namespace vec {

struct ReservedSlot {
    ann::Link link;
    PageKind kind;
};

// A link of the tree that has to replace a way through dead elements.
struct Bridge {
    ann::Link from;
    ann::Link to;
    uint32 component;
};

// Elements without rows, sorted by place. `component`: dead elements that the tree connects with
// each other have the same; one that cannot be bypassed is `retained` for this time.
struct DeadElement {
    ann::Link link;
    uint32 component;
    bool retained; // of the component's first
};

struct VacuumState {
    explicit VacuumState(ann::Arena memory)
        : arena(memory), dead(memory), reserved(memory), bridges(memory) {}

    IndexVacuumInfo *info;
    IndexBulkDeleteResult *stats;
    IndexBulkDeleteCallback callback;
    void *callback_state;
    GraphIndex *graph;
    ann::Arena arena;
    MemoryContext working; // reset after every element
    ann::ArenaVector<DeadElement> dead;
    ann::ArenaVector<ReservedSlot> reserved;
    ann::ArenaVector<Bridge> bridges; // sorted by from.place()
    ann::Link best_entry;             // a live element of the highest level seen
    int best_level;

    DeadElement *find_dead(ann::Link link);
};

// Replaces links to dead elements everywhere, so that only retained ones are still linked to.
// REQUIRES: inserts that could know dead elements as live have ended.
void repair_graph(VacuumState *vacuum);

// Makes another element the entry point if the present one is dead.
void replace_entry(VacuumState *vacuum);

// Frees dead elements that are not retained, left-over reservations, and what belonged to them;
// makes free slots known. REQUIRES: scans that could know of them have ended.
void free_slots(VacuumState *vacuum);

} // namespace vec
