// Inserting into the pages: search, choose neighbours, write the element, link back (README.md
// gives the locks).
#include "extension/hnsw/hnsw.h"
#include "extension/hnsw/write.h"

extern "C" {
#include "common/pg_prng.h"
#include "storage/lmgr.h"
}

namespace vec {
namespace {

// One insert under way; memory in a context that is reset afterwards.
struct Insertion {
    GraphIndex *graph;
    const void *vector;
    ann::Tid tid;
    int ef_construction;
    int level;
    ann::Arena arena;
    LevelNeighbors neighbors[ann::kMaxLevel + 1];
    // Of the vector, where the index has codes.
    const ann::QueryTable *table;
    const Rotated *rotated;
};

int random_level(uint32 m) {
    double uniform = 1 - pg_prng_double(&pg_global_prng_state); // in (0, 1]
    double level = -std::log(uniform) / std::log(static_cast<double>(m));
    return static_cast<int>(Min(level, static_cast<double>(ann::kMaxLevel)));
}

bool belongs_on_top(const Insertion &insertion) {
    return insertion.level > insertion.graph->meta.entry_level;
}

// Takes the shared fence, or the exclusive one when this element is to be the entry point.
LOCKMODE enter_fence(Insertion *insertion) {
    Relation index = insertion->graph->relation;
    LockPage(index, kInsertFence, ShareLock);
    refresh_meta(insertion->graph);
    if (!belongs_on_top(*insertion))
        return ShareLock;
    UnlockPage(index, kInsertFence, ShareLock);
    LockPage(index, kInsertFence, ExclusiveLock);
    refresh_meta(insertion->graph);
    return ExclusiveLock;
}

// Looks for an element of this very vector among the results and adds the row there.
bool add_to_duplicate(Insertion *insertion, const ann::LayerSearch &search) {
    GraphIndex *graph = insertion->graph;
    float self_distance = graph->distance(insertion->vector, insertion->vector);
    for (const ann::Candidate &found : search.results)
        if (found.distance == self_distance &&
            add_row(graph, found.link, insertion->vector, insertion->tid))
            return true;
    return false;
}

// So many places of a new list on level 0 are filled beyond the chosen neighbours; the others are
// for elements that come later.
uint32 places_to_fill(const ann::ElementLayout &layout, int level) {
    uint32 slots = layout.list_slots(level);
    return level == 0 ? slots - slots / 4 : slots;
}

void choose_level(Insertion *insertion, int level, const ann::LayerSearch &search) {
    LevelNeighbors &chosen = insertion->neighbors[level];
    uint32 found = static_cast<uint32>(search.results.size());
    chosen.list = insertion->arena.array<ann::Candidate>(found);
    memcpy(chosen.list, search.results.begin(), found * sizeof(ann::Candidate));
    const ann::ElementLayout &layout = insertion->graph->layout;
    chosen.count = choose_neighbors(insertion->graph, insertion->arena, chosen.list, nullptr, found,
                                    layout.m, false);
    chosen.filled = chosen.count;
    if (!layout.has_codes(level))
        return;
    // Codes make looking at a neighbour cheap: free places go to the nearest others.
    for (const ann::Candidate &other : search.results) {
        auto same = [&](const ann::Candidate &c) { return c.link == other.link; };
        if (chosen.filled < places_to_fill(layout, level) &&
            std::none_of(chosen.list, chosen.list + chosen.count, same))
            chosen.list[chosen.filled++] = other;
    }
}

// Fills insertion->neighbors; false when the row found its place in an element of equal vector.
// `nearest`: what the search on level 0 found, for choosing a parent.
bool find_neighbors(Insertion *insertion, ann::LayerSearch *search) {
    GraphIndex *graph = insertion->graph;
    PageGraph pages{graph, insertion->vector};
    ann::Candidate entry;
    if (!entry_candidate(&pages, &entry))
        return true;
    pages.use_codes();
    insertion->table = pages.table;
    int level = Min(insertion->level, graph->meta.entry_level);
    descend_to(&pages, search, &entry, insertion->ef_construction, level);
    const ann::Candidate *entries = &entry;
    size_t entry_count = 1;
    auto *below = insertion->arena.array<ann::Candidate>(insertion->ef_construction);
    for (; level >= 0; level--) {
        search_level(&pages, search, entries, entry_count, insertion->ef_construction, level);
        if (level == 0 && add_to_duplicate(insertion, *search))
            return false;
        choose_level(insertion, level, *search);
        if (!search->results.empty()) { // else all there are dead: go down from where we came
            entry_count = search->results.size();
            memcpy(below, search->results.begin(), entry_count * sizeof(ann::Candidate));
            entries = below;
        }
    }
    return true;
}

// NULL where the index has no codes.
const Rotated *rotate_for(GraphIndex *graph, const void *vector) {
    if (graph->meta.code_bits == 0)
        return nullptr;
    return new (palloc(sizeof(Rotated))) Rotated(graph, vector);
}

NewElement new_element(const Insertion *insertion, ann::Link self) {
    return {self, insertion->vector, insertion->rotated, insertion->table};
}

// Fills in the edges, looking at each neighbour once.
void meet_neighbors(Insertion *insertion) {
    GraphIndex *graph = insertion->graph;
    NewElement element = new_element(insertion, ann::Link::none());
    for (int level = 0; level <= Min(insertion->level, graph->meta.entry_level); level++) {
        LevelNeighbors &neighbors = insertion->neighbors[level];
        if (!graph->layout.has_codes(level))
            continue;
        neighbors.edges = insertion->arena.array<NewEdges>(neighbors.filled);
        PageGraph pages{graph, insertion->vector, insertion->table, nullptr, level};
        for (uint32 i = 0; i < neighbors.filled; i++) {
            if (i + 1 < neighbors.filled)
                pages.prepare(neighbors.list[i + 1].link);
            meet_neighbor(graph, neighbors.list[i].link, level, element, neighbors.list[i].distance,
                          &neighbors.edges[i]);
        }
    }
}

void set_entry(Insertion *insertion, ann::Link self) {
    GraphIndex *graph = insertion->graph;
    Buffer buffer = read_meta(graph->relation, BUFFER_LOCK_EXCLUSIVE);
    GenericXLogState *state = GenericXLogStart(graph->relation);
    Meta *meta = page_meta(GenericXLogRegisterBuffer(state, buffer, 0));
    meta->entry = self;
    meta->entry_level = insertion->level;
    GenericXLogFinish(state);
    UnlockReleaseBuffer(buffer);
}

// Makes a kept link that only one side has an ordinary one. Left alone it would be taken for one of
// the tree's when the element goes, and be replaced by more.
void unkeep(GraphIndex *graph, ann::Link element, ann::Link neighbor) {
    NeighborCopy before;
    for (bool done = false; !done;) {
        CHECK_FOR_INTERRUPTS();
        if (!copy_neighbors(graph, element, 0, &before))
            return;
        NeighborCopy after = before;
        for (uint32 i = 0; i < after.capacity; i++)
            if (after.links[i] == neighbor)
                after.kept[i / 32] &= ~(1u << (i % 32));
        done = replace_list(graph, element, 0, before, after);
    }
}

// Makes the tree's link to the new element from its parent, or where that has no room, from the
// next of the elements that were found; false when none has room.
bool adopt_by_found(Insertion *insertion, ann::Link self, const ann::LayerSearch &search) {
    GraphIndex *graph = insertion->graph;
    auto keep = [&](ann::Link from, const NewElement &to, float distance) {
        return add_link(graph, from, 0, to, distance, true, nullptr) == LinkResult::kLinked;
    };
    auto *parent_vector = insertion->arena.array<uint8>(graph->space.max_bytes());
    auto *list = insertion->arena.array<NeighborCopy>(1);
    for (size_t i = 0; i < search.results.size(); i++) {
        const ann::Candidate &parent = search.results[i];
        if (parent.link == self ||
            !keep(parent.link, new_element(insertion, self), parent.distance))
            continue;
        if (parent.link == insertion->neighbors[0].list[0].link) // written as kept with the element
            return true;
        if (!copy_neighbors(graph, parent.link, 0, list, parent_vector))
            continue;
        if (keep(self, {parent.link, parent_vector, rotate_for(graph, parent_vector), nullptr},
                 parent.distance)) {
            unkeep(graph, self, insertion->neighbors[0].list[0].link);
            return true;
        }
    }
    return false;
}

// Lists of few places may all be full of kept links near the new element: a tree has leaves, so
// looking farther finds room.
void adopt(Insertion *insertion, ann::Link self, const ann::LayerSearch &search) {
    GraphIndex *graph = insertion->graph;
    if (adopt_by_found(insertion, self, search))
        return;
    PageGraph pages{graph, insertion->vector};
    pages.use_codes();
    ann::LayerSearch wider(insertion->arena);
    for (size_t ef = 8 * search.results.size();; ef *= 8) {
        search_level(&pages, &wider, &search.results[0], 1, ef, 0);
        if (adopt_by_found(insertion, self, wider))
            return;
        if (wider.results.size() < ef)
            break; // that was all
    }
    ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
                    errmsg("no element in index \"%s\" has room for a link to a new one",
                           RelationGetRelationName(graph->relation))));
}

// A neighbour that only fills a place is not told of the new element unless that is a choice there
// or finds a free place: each link back is a WAL record.
bool is_worth_offering(const LevelNeighbors &neighbors, uint32 i) {
    if (neighbors.edges == nullptr || i < neighbors.count)
        return true;
    const Placement &placement = neighbors.edges[i].placement;
    return placement.place != kNowhere && (placement.chosen || placement.expected.empty());
}

void link_back(Insertion *insertion, ann::Link self, const ann::LayerSearch &search) {
    GraphIndex *graph = insertion->graph;
    adopt(insertion, self, search);
    for (int level = Min(insertion->level, graph->meta.entry_level); level >= 0; level--) {
        const LevelNeighbors &neighbors = insertion->neighbors[level];
        for (uint32 i = 0; i < neighbors.filled; i++)
            if (is_worth_offering(neighbors, i))
                add_link(graph, neighbors.list[i].link, level, new_element(insertion, self),
                         neighbors.list[i].distance, false,
                         neighbors.edges == nullptr ? nullptr : &neighbors.edges[i]);
    }
}

// REQUIRES: the fence of mode `fence` is held. False when it has to be the exclusive one.
bool insert_fenced(Insertion *insertion, LOCKMODE fence) {
    GraphIndex *graph = insertion->graph;
    ann::LayerSearch search(insertion->arena);
    if (!find_neighbors(insertion, &search))
        return true;
    bool alone = search.results.empty(); // nothing alive can be reached
    if (alone && fence != ExclusiveLock)
        return false;
    insertion->rotated = rotate_for(graph, insertion->vector);
    meet_neighbors(insertion);
    ann::Link self = write_element(graph, insertion->vector, insertion->tid, insertion->level,
                                   insertion->neighbors, alone ? -1 : 0);
    if (!alone)
        link_back(insertion, self, search);
    if (alone || belongs_on_top(*insertion))
        set_entry(insertion, self);
    return true;
}

// An insert's memory comes and goes in large pieces. Having seen a larger one come and go, glibc
// keeps twice as much before it gives memory back to the system (mallopt(3), M_MMAP_THRESHOLD);
// else every insert asks for its pages anew.
void keep_memory() {
    static bool done = false;
    if (!done)
        pfree(MemoryContextAllocHuge(CurrentMemoryContext, 1 << 20));
    done = true;
}

} // namespace

void insert_row(GraphIndex *graph, const void *vector, ann::Tid tid, int ef_construction,
                MemoryContext context) {
    MemoryContext before = MemoryContextSwitchTo(context);
    keep_memory();
    auto *insertion = static_cast<Insertion *>(palloc0(sizeof(Insertion)));
    insertion->graph = graph;
    insertion->vector = vector;
    insertion->tid = tid;
    insertion->ef_construction = ef_construction;
    insertion->level = random_level(graph->layout.m);
    insertion->arena = arena_in(context);
    LOCKMODE fence = enter_fence(insertion);
    if (!insert_fenced(insertion, fence)) {
        UnlockPage(graph->relation, kInsertFence, fence);
        fence = ExclusiveLock;
        LockPage(graph->relation, kInsertFence, fence);
        refresh_meta(graph);
        memset(insertion->neighbors, 0, sizeof(insertion->neighbors));
        insert_fenced(insertion, fence);
    }
    UnlockPage(graph->relation, kInsertFence, fence);
    MemoryContextSwitchTo(before);
    MemoryContextReset(context);
}

bool hnsw_insert(Relation index, Datum *values, bool *is_null, ItemPointer heap_tid, Relation,
                 IndexUniqueCheck, bool, IndexInfo *) {
    if (is_null[0])
        return false;
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "hnsw insert", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    GraphIndex *graph = open_graph(index);
    const void *vector = index_vector(graph->space, values[0]);
    if (vector != nullptr) {
        MemoryContext working =
            AllocSetContextCreate(context, "hnsw insert search", ALLOCSET_DEFAULT_SIZES);
        insert_row(graph, vector, to_tid(*heap_tid), graph->meta.ef_construction, working);
    }
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
    return false;
}

} // namespace vec
