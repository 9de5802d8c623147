// The graph around dead elements: first, in memory, how the tree goes on without them, then every
// list that has a dead neighbour gets others, found among that neighbour's neighbours.
#include "extension/hnsw/slot.h"
#include "extension/hnsw/vacuum.h"
#include "extension/hnsw/write.h"

extern "C" {
#include "commands/vacuum.h"
#include "storage/lmgr.h"
}

namespace vec {
namespace {

// ---------------------------------------------------------------- the tree
uint32 find_component(VacuumState *vacuum, uint32 index) {
    ann::ArenaVector<DeadElement> &dead = vacuum->dead;
    while (dead[index].component != index)
        index = dead[index].component = dead[dead[index].component].component;
    return index;
}

uint32 index_of(VacuumState *vacuum, const DeadElement *element) {
    return static_cast<uint32>(element - vacuum->dead.begin());
}

bool exists(GraphIndex *graph, ann::Link link) {
    OpenElement element;
    if (!open_element(graph, link, BUFFER_LOCK_SHARE, Parts::kHead, &element))
        return false;
    close_element(element);
    return true;
}

// Unites the dead that the tree links, and notes their living neighbours in the tree as
// (component's element, neighbour) in vacuum->bridges.
void find_boundaries(VacuumState *vacuum, NeighborCopy *list) {
    for (uint32 i = 0; i < vacuum->dead.size(); i++) {
        vacuum_delay_point();
        if (!copy_neighbors(vacuum->graph, vacuum->dead[i].link, 0, list))
            continue;
        for (uint32 j = 0; j < list->capacity; j++) {
            if (list->links[j].empty() || !list->is_kept(j))
                continue;
            if (DeadElement *other = vacuum->find_dead(list->links[j]); other != nullptr)
                vacuum->dead[find_component(vacuum, i)].component =
                    find_component(vacuum, index_of(vacuum, other));
            else if (exists(vacuum->graph, list->links[j]))
                vacuum->bridges.push_back({list->links[j], ann::Link::none(), i});
        }
    }
}

// Turns the boundaries into links between each component's living neighbours, one after another.
void make_bridges(VacuumState *vacuum) {
    ann::ArenaVector<Bridge> &boundary = vacuum->bridges;
    for (Bridge &b : boundary)
        b.component = find_component(vacuum, b.component);
    auto order = [](const Bridge &a, const Bridge &b) {
        return a.component != b.component ? a.component < b.component
                                          : a.from.place() < b.from.place();
    };
    std::sort(boundary.begin(), boundary.end(), order);
    ann::ArenaVector<Bridge> bridges(vacuum->arena);
    for (size_t i = 1; i < boundary.size(); i++) {
        const Bridge &a = boundary[i - 1], &b = boundary[i];
        if (a.component != b.component || a.from == b.from)
            continue;
        bridges.push_back({a.from, b.from, a.component});
        bridges.push_back({b.from, a.from, a.component});
    }
    std::sort(bridges.begin(), bridges.end(),
              [](const Bridge &a, const Bridge &b) { return a.from.place() < b.from.place(); });
    vacuum->bridges = bridges;
}

std::span<Bridge> bridges_of(VacuumState *vacuum, ann::Link link) {
    auto by_place = [](const Bridge &a, const Bridge &b) {
        return a.from.place() < b.from.place();
    };
    auto [first, last] = std::equal_range(vacuum->bridges.begin(), vacuum->bridges.end(),
                                          Bridge{link, link, 0}, by_place);
    return {first, last};
}

// ---------------------------------------------------------------- lists
// Of the neighbours' neighbours, so many of the nearest are considered.
constexpr uint32 kMaxNewCandidates = 64;

// A list being repaired.
struct Repair {
    VacuumState *vacuum;
    ann::Link link;
    int level;
    float *vector;
    NeighborCopy before;
    ann::KeySet seen;
    ann::ArenaVector<ann::Candidate> candidates;
    ann::ArenaVector<uint64> kept;   // places of tree links
    ann::ArenaVector<uint64> forced; // places that stay in the list

    explicit Repair(ann::Arena arena)
        : seen(arena), candidates(arena), kept(arena), forced(arena) {}
};

bool contains(const ann::ArenaVector<uint64> &places, ann::Link link) {
    return std::find(places.begin(), places.end(), link.place()) != places.end();
}

void add_candidate(Repair *repair, ann::Link link) {
    PageGraph pages{repair->vacuum->graph, repair->vector};
    ann::Candidate candidate;
    if (link.empty() || !repair->seen.insert(link.place()) ||
        repair->vacuum->find_dead(link) != nullptr)
        return;
    if (pages.distance(link, &candidate) && candidate.live)
        repair->candidates.push_back(candidate);
}

// The neighbours that stay, and those that the tree needs; returns whether there is anything to do.
bool collect_own(Repair *repair, std::span<Bridge> bridges) {
    bool changed = false;
    repair->seen.insert(repair->link.place());
    for (const Bridge &bridge : bridges) {
        add_candidate(repair, bridge.to);
        repair->kept.push_back(bridge.to.place());
        changed = true;
    }
    for (uint32 i = 0; i < repair->before.capacity; i++) {
        ann::Link link = repair->before.links[i];
        if (link.empty())
            continue;
        if (repair->vacuum->find_dead(link) != nullptr) {
            changed = true;
            continue;
        }
        if (repair->before.is_kept(i) && !contains(repair->kept, link))
            repair->kept.push_back(link.place());
        if (repair->seen.insert(link.place()))
            repair->candidates.push_back({repair->before.distances[i], true, link});
        repair->forced.push_back(link.place());
    }
    return changed;
}

void collect_two_hops(Repair *repair) {
    auto *list = static_cast<NeighborCopy *>(palloc(sizeof(NeighborCopy)));
    for (uint32 i = 0; i < repair->before.capacity; i++) {
        ann::Link link = repair->before.links[i];
        if (link.empty() || repair->vacuum->find_dead(link) == nullptr ||
            !copy_neighbors(repair->vacuum->graph, link, repair->level, list))
            continue;
        for (uint32 j = 0; j < list->capacity; j++)
            add_candidate(repair, list->links[j]);
    }
}

// Every dead element that this list goes on linking to.
void retain_dead(Repair *repair, std::span<Bridge> bridges) {
    VacuumState *vacuum = repair->vacuum;
    for (uint32 i = 0; i < repair->before.capacity; i++)
        if (DeadElement *dead = vacuum->find_dead(repair->before.links[i]); dead != nullptr)
            vacuum->dead[find_component(vacuum, index_of(vacuum, dead))].retained = true;
    for (const Bridge &bridge : bridges)
        vacuum->dead[bridge.component].retained = true;
}

// Chooses the new list: tree links, then those that stay as far as there is room, then new ones.
uint32 choose_list(Repair *repair) {
    ann::ArenaVector<ann::Candidate> &candidates = repair->candidates;
    std::sort(candidates.begin(), candidates.end(), ann::nearer);
    uint32 capacity = repair->before.capacity;
    uint32 room = capacity - static_cast<uint32>(repair->kept.size());
    auto *forced = static_cast<bool *>(palloc0(candidates.size() + 1));
    uint32 count = 0, others = 0;
    for (const ann::Candidate &candidate : candidates) {
        bool stays = contains(repair->kept, candidate.link);
        if (!stays && room > 0 && contains(repair->forced, candidate.link)) {
            stays = true;
            room--;
        }
        if (!stays && others++ >= kMaxNewCandidates)
            continue;
        forced[count] = stays;
        candidates[count++] = candidate;
    }
    bool fill = repair->level == 0 && repair->vacuum->graph->meta.code_bits > 0;
    return choose_neighbors(repair->vacuum->graph, arena_in(CurrentMemoryContext),
                            candidates.begin(), forced, count, capacity, fill);
}

// Puts the chosen into `list`, each where it was before if it was there.
void place_list(Repair *repair, uint32 chosen, NeighborCopy *list) {
    *list = repair->before;
    memset(list->kept, 0, sizeof(list->kept));
    auto is_chosen = [&](ann::Link link) {
        for (uint32 j = 0; j < chosen; j++)
            if (repair->candidates[j].link == link)
                return true;
        return false;
    };
    for (uint32 i = 0; i < list->capacity; i++)
        if (!is_chosen(list->links[i]))
            list->links[i] = ann::Link::none();
    uint32 place = 0;
    for (uint32 j = 0; j < chosen; j++) {
        const ann::Candidate &candidate = repair->candidates[j];
        if (std::find(list->links, list->links + list->capacity, candidate.link) !=
            list->links + list->capacity)
            continue;
        while (!list->links[place].empty())
            place++;
        list->links[place] = candidate.link;
        list->distances[place] = candidate.distance;
    }
    for (uint32 i = 0; i < list->capacity; i++)
        if (!list->links[i].empty() && contains(repair->kept, list->links[i]))
            list->kept[i / 32] |= 1u << (i % 32);
}

// False when others changed the list meanwhile or it cannot hold the tree's links, which then is
// not tried again.
bool try_repair(VacuumState *vacuum, ann::Link link, int level, std::span<Bridge> bridges) {
    Repair repair(arena_in(CurrentMemoryContext));
    repair.vacuum = vacuum;
    repair.link = link;
    repair.level = level;
    repair.vector = static_cast<float *>(palloc(vacuum->graph->layout.dim * sizeof(float)));
    if (!copy_neighbors(vacuum->graph, link, level, &repair.before, repair.vector) ||
        !collect_own(&repair, bridges))
        return true;
    if (repair.kept.size() > repair.before.capacity) {
        retain_dead(&repair, bridges);
        return true;
    }
    collect_two_hops(&repair);
    auto *list = static_cast<NeighborCopy *>(palloc(sizeof(NeighborCopy)));
    place_list(&repair, choose_list(&repair), list);
    return replace_list(vacuum->graph, link, level, repair.before, *list);
}

void repair_element(VacuumState *vacuum, ann::Link link, int level) {
    MemoryContext before = MemoryContextSwitchTo(vacuum->working);
    for (int l = 0; l <= level; l++) {
        std::span<Bridge> bridges = l == 0 ? bridges_of(vacuum, link) : std::span<Bridge>{};
        while (!try_repair(vacuum, link, l, bridges))
            CHECK_FOR_INTERRUPTS();
        MemoryContextReset(vacuum->working);
    }
    MemoryContextSwitchTo(before);
    if (level > vacuum->best_level) {
        vacuum->best_level = level;
        vacuum->best_entry = link;
    }
}

struct PageElement {
    ann::Link link;
    int level;
};

// The live elements of a page; `out` has room for a page's slots.
uint32 live_elements(VacuumState *vacuum, BlockNumber block, PageElement *out) {
    GraphIndex *graph = vacuum->graph;
    Buffer buffer = ReadBufferExtended(graph->relation, MAIN_FORKNUM, block, RBM_NORMAL,
                                       vacuum->info->strategy);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    uint32 count = 0;
    if (!PageIsNew(page) && check_page(graph, block, page) == kElementPage) {
        for (uint16 i = 0; i < page_tail(page)->slots; i++) {
            const ann::SlotHeader &header =
                slot_header(slot_at(graph->layout, page, kElementPage, i));
            if (header.state == ann::SlotState::kLive)
                out[count++] = {{block, i, header.version}, Min(header.detail, ann::kMaxLevel)};
        }
    }
    UnlockReleaseBuffer(buffer);
    return count;
}

} // namespace

void repair_graph(VacuumState *vacuum) {
    std::sort(
        vacuum->dead.begin(), vacuum->dead.end(),
        [](const DeadElement &a, const DeadElement &b) { return a.link.place() < b.link.place(); });
    for (uint32 i = 0; i < vacuum->dead.size(); i++)
        vacuum->dead[i].component = i;
    if (vacuum->dead.empty())
        return;
    find_boundaries(vacuum, vacuum->arena.array<NeighborCopy>(1));
    make_bridges(vacuum);
    auto *elements =
        vacuum->arena.array<PageElement>(slots_per_page(vacuum->graph->layout, kElementPage));
    BlockNumber blocks = RelationGetNumberOfBlocks(vacuum->graph->relation);
    for (BlockNumber block = kMetaBlock + 1; block < blocks; block++) {
        vacuum_delay_point();
        uint32 count = live_elements(vacuum, block, elements);
        for (uint32 i = 0; i < count; i++)
            repair_element(vacuum, elements[i].link, elements[i].level);
    }
    for (DeadElement &dead : vacuum->dead)
        dead.retained = vacuum->dead[find_component(vacuum, index_of(vacuum, &dead))].retained;
}

void replace_entry(VacuumState *vacuum) {
    Relation index = vacuum->graph->relation;
    LockPage(index, kInsertFence, ExclusiveLock);
    Buffer buffer = read_meta(index, BUFFER_LOCK_EXCLUSIVE);
    const Meta *before = page_meta(BufferGetPage(buffer));
    if (before->entry_level >= 0 && vacuum->find_dead(before->entry) != nullptr) {
        GenericXLogState *state = GenericXLogStart(index);
        Meta *meta = page_meta(GenericXLogRegisterBuffer(state, buffer, 0));
        meta->entry = vacuum->best_entry;
        meta->entry_level = vacuum->best_level;
        GenericXLogFinish(state);
    }
    UnlockReleaseBuffer(buffer);
    UnlockPage(index, kInsertFence, ExclusiveLock);
}

} // namespace vec
