// Members of lists in the order of their distances from a query, found lazily.
//
// A list's codes give each member a distance that it most likely exceeds. Members wait by these
// bounds; the one with the least gets its exact distance from its vector; whoever has an exact
// distance below all bounds is next. So however many are wanted, only as many vectors are read as
// their order needs. README.md, "Searching".
#pragma once

#include "extension/core/frontier.h"
#include "extension/core/member_code.h"
#include "extension/ivfflat/page.h"

namespace ivf {

// A query, ready for both tiers.
struct Query {
    IndexedValue value; // of the operator class's element
    const float *floats;
    double squared_norm;
    ann::QueryTable root_table, list_table;
};
// In CurrentMemoryContext. `floats`: of the value, or zeros.
Query make_query(const IvfIndex *index, const IndexedValue &value);

// Where a list is, and its centroid's distance from the query.
struct ListPlace {
    BlockNumber first;
    float distance;
};

struct Member {
    float distance;
    ann::Tid tid;
    uint32 group; // number of the scanned group, and the member's in it
    uint16 member;
};

class ListSearch {
  public:
    // Its memory is `arena`'s, and kept by clear().
    ListSearch(IvfIndex *index, Tier tier, ann::Arena arena);

    void clear();
    // Takes another query; clear() first. exhaustive: every member's exact distance is found.
    void start(const Query *query, bool exhaustive);
    // Adds a list's members.
    void add_list(const ListPlace &list);
    // Adds the centroids. REQUIRES: this is of the root's tier.
    void add_root();
    // The next member; false when there are no more.
    bool next(Member *member);
    // The one that next() will most likely give, if its exact distance is known; else NULL.
    const Member *coming() const { return exact_.empty() ? nullptr : exact_.begin(); }
    BlockNumber group_page(const Member &member) const { return groups_[member.group].page; }
    // Numbers of the pages of vectors of a scanned group.
    const BlockNumber *table(const Member &member) const {
        return tables_.begin() + groups_[member.group].table;
    }
    uint64 looked_at() const { return looked_at_; }

  private:
    struct Group {
        BlockNumber page;
        BlockNumber list; // its first group
        size_t table;     // in tables_
    };

    const ann::ListLayout &layout() const { return index_->layout(tier_); }
    const ann::QueryTable &query_table() const;
    float distance(const ann::VectorHeader *slot, const uint8 *vector) const;
    uint32 add_group(BlockNumber block, BlockNumber list, Page page);
    void add_members(BlockNumber first, const ann::MemberQuery *query);
    void add_blocks(uint32 group, Page page, const ann::MemberQuery &query);
    void add_slots(uint32 group, Page page);
    void add_bounds(uint32 group, uint32 first, const float *bounds);
    ann::MemberQuery member_query(float distance, float squared_norm) const;
    void look(ann::Link link);
    void look_at_vector(const Group &group, Member *member);
    void prefetch(ann::Link link) const;
    void push(const Member &member);

    IvfIndex *index_;
    Tier tier_;
    const Query *query_ = nullptr;
    bool exhaustive_ = false;
    uint64 looked_at_ = 0;   // vectors
    ann::Frontier frontier_; // links: number of the group, member
    ann::ArenaVector<Group> groups_;
    ann::ArenaVector<BlockNumber> tables_;
    ann::ArenaVector<Member> exact_;   // heap, the nearest first
    ann::ArenaVector<uint8> gathered_; // a vector of several pieces
};

// Copies a member's vector out of its group's pages to `out` (layout.vector_bytes); its header.
ann::VectorHeader copy_vector(IvfIndex *index, Tier tier, BlockNumber group,
                              const BlockNumber *table, uint32 member, uint8 *out);

// A list found in the root.
struct FoundList {
    BlockNumber first;
    BlockNumber root_group; // of its centroid
    uint32 member;
    float distance; // of the centroid
};
// The list where a vector belongs; `centroid` gets the centroid (dim floats).
FoundList nearest_list(IvfIndex *index, const float *floats, ann::Arena arena, float *centroid);

ann::Arena arena_in(MemoryContext context);

} // namespace ivf
