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

// An element without rows. `component`: dead elements that the tree connects with each other have
// the same; one that cannot be bypassed is `retained` for this time.
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
    ann::Expansion *expansion; // of the element looked at

    // Set by bridge_tree(). Positions in `dead`, kNotDead where free: open addressing by link; and
    // four bits for each place of the table, few enough to stay in a near cache: one is set where
    // a link may be dead.
    static constexpr uint32 kNotDead = 0xFFFFFFFF;
    uint32 *dead_table = nullptr;
    uint64 *dead_bits = nullptr;
    uint64 dead_mask = 0;

    static uint64 hash(ann::Link link) { return (link.place() * 0x9E3779B97F4A7C15ull) >> 20; }
    uint64 bit_of(uint64 hashed) const { return hashed & (dead_mask * 4 + 3); }
    // NULL for an element that is not among the dead or is retained. REQUIRES: bridge_tree() has
    // been called.
    DeadElement *find_dead(ann::Link link);
    uint32 index_of(const DeadElement *element) {
        return static_cast<uint32>(element - dead.begin());
    }
    // The first of the component of dead[i].
    uint32 component_of(uint32 i);
    // What the tree has the element's list link to.
    std::span<Bridge> bridges_of(ann::Link link);
};

// Finds out how the tree goes on without the dead: fills `bridges` and the components.
void bridge_tree(VacuumState *vacuum);

// Replaces links to dead elements everywhere, so that only retained ones are still linked to.
// REQUIRES: inserts that could know dead elements as live have ended.
void repair_graph(VacuumState *vacuum);

// Makes another element the entry point if the present one is dead.
void replace_entry(VacuumState *vacuum);

// Frees dead elements that are not retained, left-over reservations, and what belonged to them;
// makes free slots known. REQUIRES: scans that could know of them have ended.
void free_slots(VacuumState *vacuum);

} // namespace vec
