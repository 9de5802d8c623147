// How the tree of kept links goes on without dead elements, found out in memory.
#include "extension/hnsw/vacuum.h"

extern "C" {
#include "commands/vacuum.h"
}

namespace vec {
namespace {

// A living neighbour of dead elements in the tree.
struct Survivor {
    ann::Link link;
    uint32 room; // for kept links, once those to dead elements are gone
};

struct Boundary {
    uint32 component;
    uint32 survivor;
};

// The survivors, sorted by link, and which components they border on.
struct Boundaries {
    explicit Boundaries(ann::Arena arena) : survivors(arena), pairs(arena) {}

    ann::ArenaVector<Survivor> survivors;
    ann::ArenaVector<Boundary> pairs;
};

bool by_link(const Survivor &a, const Survivor &b) {
    return a.link.key() < b.link.key();
}

// Unites the dead that the tree links, and notes the tree's links to others in vacuum->bridges as
// (other, a dead element's number).
void find_tree_links(VacuumState *vacuum, NeighborCopy *list) {
    for (uint32 i = 0; i < vacuum->dead.size(); i++) {
        vacuum_delay_point();
        if (!copy_neighbors(vacuum->graph, vacuum->dead[i].link, 0, list))
            continue;
        for (uint32 j = 0; j < list->capacity; j++) {
            if (list->links[j].empty() || !list->is_kept(j))
                continue;
            if (DeadElement *other = vacuum->find_dead(list->links[j]); other != nullptr)
                vacuum->dead[vacuum->component_of(i)].component =
                    vacuum->component_of(vacuum->index_of(other));
            else
                vacuum->bridges.push_back({list->links[j], ann::Link::none(), i});
        }
    }
}

// Reads what room the element has; false when it is gone.
bool measure_room(VacuumState *vacuum, ann::Link link, NeighborCopy *list, uint32 *room) {
    if (!copy_neighbors(vacuum->graph, link, 0, list))
        return false;
    *room = list->capacity;
    for (uint32 j = 0; j < list->capacity; j++)
        if (!list->links[j].empty() && list->is_kept(j) &&
            vacuum->find_dead(list->links[j]) == nullptr)
            (*room)--;
    return true;
}

void find_boundaries(VacuumState *vacuum, NeighborCopy *list, Boundaries *out) {
    find_tree_links(vacuum, list);
    ann::ArenaVector<Bridge> &links = vacuum->bridges;
    std::sort(links.begin(), links.end(),
              [](const Bridge &a, const Bridge &b) { return a.from.key() < b.from.key(); });
    bool there = false;
    for (size_t i = 0; i < links.size(); i++) {
        if (i == 0 || !(links[i].from == links[i - 1].from)) {
            vacuum_delay_point();
            uint32 room;
            there = measure_room(vacuum, links[i].from, list, &room);
            if (there)
                out->survivors.push_back({links[i].from, room});
        }
        if (there)
            out->pairs.push_back({vacuum->component_of(links[i].component),
                                  static_cast<uint32>(out->survivors.size() - 1)});
    }
    links.clear();
    auto order = [&](const Boundary &a, const Boundary &b) {
        if (a.component != b.component)
            return a.component < b.component;
        uint32 room_a = out->survivors[a.survivor].room, room_b = out->survivors[b.survivor].room;
        return room_a != room_b ? room_a > room_b : a.survivor < b.survivor;
    };
    std::sort(out->pairs.begin(), out->pairs.end(), order);
}

// Connects the survivors around one component, each with the last one before it that has room;
// those with the most room come first, so that others need a single place. False, with nothing
// changed, when there is no room.
bool connect_survivors(VacuumState *vacuum, Boundaries *boundaries, const Boundary *first,
                       size_t count) {
    ann::ArenaVector<Survivor> &survivors = boundaries->survivors;
    size_t bridges_before = vacuum->bridges.size();
    for (size_t i = 1; i < count; i++) {
        Survivor &self = survivors[first[i].survivor];
        size_t host = i;
        while (host > 0 && survivors[first[host - 1].survivor].room == 0)
            host--;
        if (host == 0 || self.room == 0) {
            for (size_t j = bridges_before; j < vacuum->bridges.size(); j++) {
                const Survivor wanted = {vacuum->bridges[j].from, 0};
                std::lower_bound(survivors.begin(), survivors.end(), wanted, by_link)->room++;
            }
            vacuum->bridges.truncate(bridges_before);
            return false;
        }
        Survivor &other = survivors[first[host - 1].survivor];
        self.room--;
        other.room--;
        vacuum->bridges.push_back({self.link, other.link, first[i].component});
        vacuum->bridges.push_back({other.link, self.link, first[i].component});
    }
    return true;
}

// Decides, component by component, on the links that replace it, or that it has to stay.
void make_bridges(VacuumState *vacuum, Boundaries *boundaries) {
    ann::ArenaVector<Boundary> &pairs = boundaries->pairs;
    auto same = [](const Boundary &a, const Boundary &b) {
        return a.component == b.component && a.survivor == b.survivor;
    };
    pairs.truncate(
        static_cast<size_t>(std::unique(pairs.begin(), pairs.end(), same) - pairs.begin()));
    for (size_t i = 0, end; i < pairs.size(); i = end) {
        for (end = i; end < pairs.size() && pairs[end].component == pairs[i].component;)
            end++;
        if (!connect_survivors(vacuum, boundaries, &pairs[i], end - i))
            vacuum->dead[pairs[i].component].retained = true;
    }
    std::sort(vacuum->bridges.begin(), vacuum->bridges.end(),
              [](const Bridge &a, const Bridge &b) { return a.from.place() < b.from.place(); });
}

// Makes find_dead() work.
void index_dead(VacuumState *vacuum) {
    ann::ArenaVector<DeadElement> &dead = vacuum->dead;
    uint64 size = 64;
    while (size < dead.size() * 2)
        size *= 2;
    vacuum->dead_table = vacuum->arena.array<uint32>(size);
    vacuum->dead_mask = size - 1;
    memset(vacuum->dead_table, 0xFF, size * sizeof(uint32));
    vacuum->dead_bits = vacuum->arena.array<uint64>(size / 16);
    memset(vacuum->dead_bits, 0, size / 16 * sizeof(uint64));
    for (uint32 i = 0; i < dead.size(); i++) {
        dead[i].component = i;
        uint64 at = VacuumState::hash(dead[i].link);
        uint64 bit = vacuum->bit_of(at);
        vacuum->dead_bits[bit / 64] |= uint64{1} << (bit % 64);
        while (vacuum->dead_table[at & vacuum->dead_mask] != VacuumState::kNotDead)
            at++;
        vacuum->dead_table[at & vacuum->dead_mask] = i;
    }
}

} // namespace

DeadElement *VacuumState::find_dead(ann::Link link) {
    uint64 at = hash(link), bit = bit_of(at);
    if (dead_table == nullptr || (dead_bits[bit / 64] >> (bit % 64) & 1) == 0)
        return nullptr;
    for (;; at++) {
        uint32 i = dead_table[at & dead_mask];
        if (i == kNotDead)
            return nullptr;
        if (dead[i].link == link)
            return dead[component_of(i)].retained ? nullptr : &dead[i];
    }
}

uint32 VacuumState::component_of(uint32 i) {
    while (dead[i].component != i)
        i = dead[i].component = dead[dead[i].component].component;
    return i;
}

std::span<Bridge> VacuumState::bridges_of(ann::Link link) {
    auto by_place = [](const Bridge &a, const Bridge &b) {
        return a.from.place() < b.from.place();
    };
    auto [first, last] =
        std::equal_range(bridges.begin(), bridges.end(), Bridge{link, link, 0}, by_place);
    return {first, last};
}

void bridge_tree(VacuumState *vacuum) {
    index_dead(vacuum);
    Boundaries boundaries(vacuum->arena);
    find_boundaries(vacuum, vacuum->arena.array<NeighborCopy>(1), &boundaries);
    make_bridges(vacuum, &boundaries);
}

} // namespace vec
