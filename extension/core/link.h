// Where an element of a graph lies.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>

namespace ann {

// An element's place and the version it had when the link was made. A slot that is used again
// gets another version, so that a link kept too long is recognised and not followed.
struct Link {
    uint32_t block;
    uint16_t slot;
    uint16_t version;

    static constexpr uint32_t kNoBlock = 0xFFFFFFFF;
    static constexpr Link none() { return {kNoBlock, 0, 0}; }
    bool empty() const { return block == kNoBlock; }
    // The place alone, as a key for sets.
    uint64_t place() const { return (static_cast<uint64_t>(block) << 16) | slot; }
    // Place and version, as a key for sets.
    uint64_t key() const { return std::bit_cast<uint64_t>(*this); }
    bool operator==(const Link &) const = default;
};
static_assert(sizeof(Link) == 8);

// An element met in a search and its distance from the query.
struct Candidate {
    float distance;
    bool live; // false: on its way out of the graph, passed through but never a result
    Link link;
};

// Orders of the two heaps of a search. Ties by place, so that equal searches give equal answers.
inline bool nearer(const Candidate &a, const Candidate &b) {
    if (a.distance != b.distance)
        return a.distance < b.distance;
    return a.link.place() < b.link.place();
}
inline bool farther(const Candidate &a, const Candidate &b) {
    return nearer(b, a);
}

// The lowest bit of a distance kept with a link says how the link came into its list: chosen (an
// edge of the graph proper), or filling a place that would be free. Inserts give way to the
// former and replace the latter.
inline bool is_chosen(float distance) {
    return (std::bit_cast<uint32_t>(distance) & 1) != 0;
}
inline float with_chosen(float distance, bool chosen) {
    uint32_t bits = std::bit_cast<uint32_t>(distance);
    constexpr uint32_t kExponent = 0x7F800000; // all set: infinity, which has to stay that
    if ((bits & kExponent) == kExponent)
        return distance;
    return std::bit_cast<float>(chosen ? bits | 1u : bits & ~1u);
}

} // namespace ann
