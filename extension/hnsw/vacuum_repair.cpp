// The lists around dead elements: every list that has a dead neighbour gets others, found among
// that neighbour's neighbours.
#include "extension/hnsw/codes.h"
#include "extension/hnsw/slot.h"
#include "extension/hnsw/vacuum.h"
#include "extension/hnsw/write.h"

extern "C" {
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "storage/lmgr.h"
}

namespace vec {
namespace {

// Without codes: of the neighbours' neighbours, so many of the nearest are considered; and of dead
// elements that only dead ones lead to, so many are looked past (README.md).
constexpr uint32 kMaxNewCandidates = 256;
constexpr uint32 kMaxLookedPast = 32;
// With codes: so many more than there are free places, by estimated distances.
constexpr uint32 kSpareCandidates = 8;

// A list being repaired.
struct Repair {
    VacuumState *vacuum;
    ann::Link link;
    int level;
    void *vector;
    NeighborCopy before;
    ann::KeySet seen;
    ann::ArenaVector<ann::Candidate> candidates;
    ann::ArenaVector<ann::Candidate> further; // dead, not looked past yet
    ann::ArenaVector<uint64> kept;            // Link::key() of tree links
    ann::ArenaVector<uint64> own;             // of all live ones in the list

    explicit Repair(ann::Arena arena)
        : seen(arena), candidates(arena), further(arena), kept(arena), own(arena) {}

    GraphIndex *graph() const { return vacuum->graph; }
    bool coded() const { return vacuum->graph->layout.has_codes(level); }
};

bool contains(const ann::ArenaVector<uint64> &places, ann::Link link) {
    return std::find(places.begin(), places.end(), link.key()) != places.end();
}

void add_candidate(Repair *repair, ann::Link link) {
    PageGraph pages{repair->graph(), repair->vector};
    ann::Candidate candidate;
    if (link.empty() || !repair->seen.insert(link.key()) || !pages.distance(link, &candidate))
        return;
    if (candidate.live)
        repair->candidates.push_back(candidate);
    else if (repair->vacuum->find_dead(link) != nullptr)
        repair->further.push_back(candidate);
}

// The neighbours that stay, and those that the tree needs; returns whether there is anything to do.
bool collect_own(Repair *repair, std::span<Bridge> bridges) {
    bool changed = false;
    repair->seen.insert(repair->link.key());
    for (const Bridge &bridge : bridges) {
        add_candidate(repair, bridge.to);
        repair->kept.push_back(bridge.to.key());
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
            repair->kept.push_back(link.key());
        if (repair->seen.insert(link.key()))
            repair->candidates.push_back({repair->before.distances[i], true, link});
        repair->own.push_back(link.key());
    }
    return changed;
}

// Every dead element that this list goes on linking to.
void retain_dead(Repair *repair, std::span<Bridge> bridges) {
    VacuumState *vacuum = repair->vacuum;
    for (uint32 i = 0; i < repair->before.capacity; i++)
        if (DeadElement *dead = vacuum->find_dead(repair->before.links[i]); dead != nullptr)
            vacuum->dead[vacuum->component_of(vacuum->index_of(dead))].retained = true;
    for (const Bridge &bridge : bridges)
        vacuum->dead[bridge.component].retained = true;
}

// ---------------------------------------------------------------- by exact distances
// Adds what a dead element's list leads to: live ones as candidates, dead ones to be looked past.
void look_past(Repair *repair, ann::Link dead, NeighborCopy *list) {
    if (!copy_neighbors(repair->graph(), dead, repair->level, list))
        return;
    for (uint32 i = 0; i < list->capacity; i++)
        add_candidate(repair, list->links[i]);
}

// The live elements that the dead neighbours lead to, also past further dead ones, the nearest
// first: where a cluster's few links to others are gone with their elements, those of the others
// may be, too.
void collect_beyond_dead(Repair *repair) {
    ann::ArenaVector<ann::Candidate> &further = repair->further;
    auto *list = static_cast<NeighborCopy *>(palloc(sizeof(NeighborCopy)));
    for (uint32 i = 0; i < repair->before.capacity; i++)
        if (repair->vacuum->find_dead(repair->before.links[i]) != nullptr)
            repair->seen.insert(repair->before.links[i].key());
    for (uint32 i = 0; i < repair->before.capacity; i++)
        if (repair->vacuum->find_dead(repair->before.links[i]) != nullptr)
            look_past(repair, repair->before.links[i], list);
    for (uint32 passed = 0; passed < kMaxLookedPast && !further.empty(); passed++) {
        ann::Candidate *nearest = std::min_element(further.begin(), further.end(), ann::nearer);
        ann::Link dead = nearest->link;
        *nearest = further.back();
        further.pop_back();
        look_past(repair, dead, list);
    }
}

// Of the new ones no more than are considered stay. Sorted by distance.
void limit_candidates(Repair *repair) {
    ann::ArenaVector<ann::Candidate> &candidates = repair->candidates;
    std::sort(candidates.begin(), candidates.end(), ann::nearer);
    uint32 count = 0, others = 0;
    for (const ann::Candidate &candidate : candidates)
        if (contains(repair->own, candidate.link) || contains(repair->kept, candidate.link) ||
            others++ < kMaxNewCandidates)
            candidates[count++] = candidate;
    candidates.truncate(count);
}

// Chooses the new list: the tree's links, then by the heuristic, which gives places to other
// directions that it would give to more of the same; then those of before that still have room.
uint32 choose_list(Repair *repair) {
    limit_candidates(repair);
    auto count = static_cast<uint32>(repair->candidates.size());
    uint32 capacity = repair->before.capacity;
    auto *chosen = static_cast<ann::Candidate *>(palloc((count + 1) * sizeof(ann::Candidate)));
    auto *kept = static_cast<bool *>(palloc(count + 1));
    memcpy(chosen, repair->candidates.begin(), count * sizeof(ann::Candidate));
    for (uint32 i = 0; i < count; i++)
        kept[i] = contains(repair->kept, chosen[i].link);
    uint32 chosen_count = choose_neighbors(repair->graph(), arena_in(CurrentMemoryContext), chosen,
                                           kept, count, capacity, false);
    auto is_chosen = [&](const ann::Candidate &candidate) {
        return std::any_of(chosen, chosen + chosen_count,
                           [&](const ann::Candidate &c) { return c.link == candidate.link; });
    };
    ann::ArenaVector<ann::Candidate> rest(arena_in(CurrentMemoryContext));
    for (const ann::Candidate &candidate : repair->candidates)
        if (contains(repair->own, candidate.link) && !is_chosen(candidate))
            rest.push_back(candidate);
    repair->candidates.truncate(chosen_count);
    memcpy(repair->candidates.begin(), chosen, chosen_count * sizeof(ann::Candidate));
    for (size_t i = 0; i < rest.size() && repair->candidates.size() < capacity; i++)
        repair->candidates.push_back(rest[i]);
    return static_cast<uint32>(repair->candidates.size());
}

// ---------------------------------------------------------------- by codes
// Removes the candidates that have no place beside the tree's links, the farthest first; returns
// how many places are left.
uint32 fit_own(Repair *repair) {
    ann::ArenaVector<ann::Candidate> &candidates = repair->candidates;
    std::sort(candidates.begin(), candidates.end(), ann::nearer);
    uint32 room = repair->before.capacity - static_cast<uint32>(repair->kept.size());
    uint32 count = 0;
    for (const ann::Candidate &candidate : candidates) {
        if (!contains(repair->kept, candidate.link)) {
            if (room == 0)
                continue;
            room--;
        }
        candidates[count++] = candidate;
    }
    candidates.truncate(count);
    return room;
}

// Estimates the distances of the dead neighbours' neighbours; each by the first that leads to it.
void estimate_two_hops(Repair *repair, ann::ArenaVector<ann::Candidate> *out) {
    VacuumState *vacuum = repair->vacuum;
    Rotated rotated;
    rotate_element(repair->graph(), repair->link, repair->vector, &rotated);
    PageGraph pages{repair->graph(), repair->vector, make_query_table(repair->graph(), rotated),
                    nullptr, repair->level};
    ann::Link dead[ann::kMaxSlots];
    uint32 dead_count = 0;
    for (uint32 i = 0; i < repair->before.capacity; i++)
        if (vacuum->find_dead(repair->before.links[i]) != nullptr)
            dead[dead_count++] = repair->before.links[i];
    for (uint32 i = 0; i < dead_count; i++) {
        if (i + 1 < dead_count)
            pages.prepare(dead[i + 1]);
        if (!pages.expand(dead[i], vacuum->expansion))
            continue;
        for (uint32 j = 0; j < vacuum->expansion->count; j++) {
            ann::Link link = vacuum->expansion->links[j];
            if (!link.empty() && repair->seen.insert(link.key()) &&
                vacuum->find_dead(link) == nullptr)
                out->push_back({vacuum->expansion->estimates[j], true, link});
        }
    }
}

// Fills free places with the nearest of the dead neighbours' neighbours.
void add_estimated(Repair *repair, uint32 room) {
    ann::ArenaVector<ann::Candidate> estimated(arena_in(CurrentMemoryContext));
    estimate_two_hops(repair, &estimated);
    size_t wanted = std::min<size_t>(room + kSpareCandidates, estimated.size());
    std::partial_sort(estimated.begin(), estimated.begin() + wanted, estimated.end(), ann::nearer);
    size_t own = repair->candidates.size();
    PageGraph pages{repair->graph(), repair->vector};
    for (size_t i = 0; i < wanted; i++) {
        ann::Candidate candidate;
        if (i + 1 < wanted)
            pages.prepare(estimated[i + 1].link);
        if (pages.distance(estimated[i].link, &candidate) && candidate.live)
            repair->candidates.push_back(candidate);
    }
    std::sort(repair->candidates.begin() + own, repair->candidates.end(), ann::nearer);
    if (repair->candidates.size() > own + room)
        repair->candidates.truncate(own + room);
}

// ---------------------------------------------------------------- the new list
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
        list->distances[place] = ann::with_chosen(candidate.distance, !repair->coded());
    }
    for (uint32 i = 0; i < list->capacity; i++)
        if (!list->links[i].empty() && contains(repair->kept, list->links[i]))
            list->kept[i / 32] |= 1u << (i % 32);
}

// Offers the element to those that it has chosen anew, as an insert does: else searches that come
// from there do not find it.
void link_back(Repair *repair, uint32 chosen) {
    NewElement element = {repair->link, repair->vector, nullptr, nullptr};
    const ann::Link *first = repair->before.links;
    const ann::Link *last = first + repair->before.capacity;
    for (uint32 i = 0; i < chosen; i++) {
        const ann::Candidate &neighbor = repair->candidates[i];
        if (std::find(first, last, neighbor.link) == last)
            add_link(repair->graph(), neighbor.link, repair->level, element, neighbor.distance,
                     false, nullptr);
    }
}

// False when others changed the list meanwhile or it cannot hold the tree's links, which then is
// not tried again.
bool try_repair(VacuumState *vacuum, ann::Link link, int level, std::span<Bridge> bridges) {
    Repair repair(arena_in(CurrentMemoryContext));
    repair.vacuum = vacuum;
    repair.link = link;
    repair.level = level;
    repair.vector = palloc(vacuum->graph->space.max_bytes());
    if (!copy_neighbors(vacuum->graph, link, level, &repair.before, repair.vector) ||
        !collect_own(&repair, bridges))
        return true;
    if (repair.kept.size() > repair.before.capacity) {
        retain_dead(&repair, bridges);
        return true;
    }
    uint32 chosen;
    if (repair.coded()) {
        add_estimated(&repair, fit_own(&repair));
        chosen = static_cast<uint32>(repair.candidates.size());
    } else {
        collect_beyond_dead(&repair);
        chosen = choose_list(&repair);
    }
    auto *list = static_cast<NeighborCopy *>(palloc(sizeof(NeighborCopy)));
    place_list(&repair, chosen, list);
    if (!replace_list(vacuum->graph, link, level, repair.before, *list))
        return false;
    if (!repair.coded())
        link_back(&repair, chosen);
    return true;
}

void repair_level(VacuumState *vacuum, ann::Link link, int level, std::span<Bridge> bridges) {
    MemoryContext before = MemoryContextSwitchTo(vacuum->working);
    while (!try_repair(vacuum, link, level, bridges))
        CHECK_FOR_INTERRUPTS();
    MemoryContextReset(vacuum->working);
    MemoryContextSwitchTo(before);
}

// ---------------------------------------------------------------- pages
struct PageElement {
    ann::Link link;
    int level;
    bool touched; // has a dead neighbour on level 0
};

bool has_dead_neighbor(VacuumState *vacuum, const ann::ElementImage &image) {
    const ann::ElementLayout &l = vacuum->graph->layout;
    const ann::Link *links = image.links(l);
    for (uint32 i = 0; i < l.slots; i++)
        if (!links[i].empty() && vacuum->find_dead(links[i]) != nullptr)
            return true;
    return false;
}

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
            ann::ElementImage image{slot_at(graph->layout, page, kElementPage, i)};
            const ann::SlotHeader &header = image.header().slot;
            if (header.state == ann::SlotState::kLive)
                out[count++] = {{block, i, header.version},
                                Min(header.detail, ann::kMaxLevel),
                                has_dead_neighbor(vacuum, image)};
        }
    }
    UnlockReleaseBuffer(buffer);
    return count;
}

// Half of the memory that a vacuum may use; PostgreSQL's list of dead rows is the other.
void remember_rotations(VacuumState *vacuum) {
    GraphIndex *graph = vacuum->graph;
    if (graph->meta.code_bits == 0)
        return;
    int kilobytes = IsAutoVacuumWorkerProcess() && autovacuum_work_mem != -1 ? autovacuum_work_mem
                                                                             : maintenance_work_mem;
    graph->rotations = vacuum->arena.array<RotationCache>(1);
    new (graph->rotations)
        RotationCache(graph, vacuum->arena, static_cast<size_t>(kilobytes) * 1024 / 2);
}

void repair_element(VacuumState *vacuum, const PageElement &element) {
    std::span<Bridge> bridges = vacuum->bridges_of(element.link);
    if (element.touched || !bridges.empty())
        repair_level(vacuum, element.link, 0, bridges);
    for (int level = 1; level <= element.level; level++)
        repair_level(vacuum, element.link, level, {});
    if (element.level > vacuum->best_level) {
        vacuum->best_level = element.level;
        vacuum->best_entry = element.link;
    }
}

} // namespace

void repair_graph(VacuumState *vacuum) {
    if (vacuum->dead.empty())
        return;
    bridge_tree(vacuum);
    remember_rotations(vacuum);
    vacuum->expansion = vacuum->arena.array<ann::Expansion>(1);
    auto *elements =
        vacuum->arena.array<PageElement>(slots_per_page(vacuum->graph->layout, kElementPage));
    BlockNumber blocks = RelationGetNumberOfBlocks(vacuum->graph->relation);
    for (BlockNumber block = kMetaBlock + 1; block < blocks; block++) {
        vacuum_delay_point();
        uint32 count = live_elements(vacuum, block, elements);
        for (uint32 i = 0; i < count; i++)
            repair_element(vacuum, elements[i]);
    }
    for (uint32 i = 0; i < vacuum->dead.size(); i++)
        vacuum->dead[i].retained = vacuum->dead[vacuum->component_of(i)].retained;
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
