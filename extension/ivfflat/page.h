// The pages of an ivfflat index; README.md draws them, extension/core/list_layout.h what is in
// them. What is read from a page is checked before it is used as an address: a damaged page raises
// XX002.
#pragma once

#include "extension/core/list_layout.h"
#include "extension/ivfflat/form.h"

extern "C" {
#include "access/generic_xlog.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
}

namespace ivf {

static_assert(BLCKSZ == ann::kListPageBytes);
static_assert(MAXALIGN(SizeOfPageHeaderData) == ann::kGroupHeaderOffset);

inline constexpr BlockNumber kMetaBlock = 0;
inline constexpr uint32 kMagic = 0x50564956;
inline constexpr uint32 kFormatVersion = 1;
inline constexpr uint16 kPageId = 0xFFA1;

// What a page is; values are on disk. The root is a list, too: of the centroids, whose TIDs say
// where their lists begin.
enum PageKind : uint16 {
    kRootGroup = 1,
    kRootVectors = 2,
    kListGroup = 3,
    kListVectors = 4,
    kMetaPage = 0x4D,
};
inline bool is_group(PageKind kind) {
    return kind == kRootGroup || kind == kListGroup;
}

struct PageTail {
    BlockNumber owner; // of a group: its list's first group; of vectors: their group
    uint16 kind;
    uint16 number; // of vectors: place in the group's table
    uint16 page_id;
    uint16 reserved[3];
};
static_assert(ann::kListPageEnd + sizeof(PageTail) == BLCKSZ);

struct Meta {
    uint32 magic;
    uint32 version;
    uint32 dim;
    uint32 lists;    // there are so many, perhaps fewer than the option says
    uint8 metric;    // ann::Metric
    uint8 element;   // Element
    uint8 root_bits; // of the codes of centroids and of members; 0: none
    uint8 list_bits;
    BlockNumber root; // first group of the root
    uint64 rotation_seed;
};

// Which list's layout: the root's or that of all others.
enum class Tier { kRoot, kList };

// An open index. In palloc'd memory.
struct IvfIndex {
    Relation relation;
    Meta meta;
    Form form;
    ann::ListLayout root, list;
    BlockNumber known_blocks; // the relation has at least so many

    const ann::ListLayout &layout(Tier tier) const { return tier == Tier::kRoot ? root : list; }
};
inline PageKind group_kind(Tier tier) {
    return tier == Tier::kRoot ? kRootGroup : kListGroup;
}
inline PageKind vectors_kind(Tier tier) {
    return tier == Tier::kRoot ? kRootVectors : kListVectors;
}

// Raises XX002. `what` says what was found, `block` where.
[[noreturn]] void report_corruption(Relation index, BlockNumber block, const char *what);

// Reads and checks the metapage. The result lives in CurrentMemoryContext.
IvfIndex *open_index(Relation index);
Buffer read_meta(Relation index, int lock);
Meta *page_meta(Page page);
// Layouts and form as `meta` says; for an index that is being built.
void set_layouts(IvfIndex *index);

PageTail *page_tail(Page page);
uint32 page_end(const IvfIndex *index, PageKind kind); // pd_lower
// Makes an empty page of that kind of `page` (BLCKSZ bytes).
void init_page(const IvfIndex *index, Page page, PageKind kind, BlockNumber owner, uint16 number);
void init_meta_page(Page page, const Meta &meta);

// Why the page is not one of an ivfflat index, or NULL.
const char *page_problem(const IvfIndex *index, Page page);
// The page, locked and checked to be of that kind and that owner's.
Buffer read_page(IvfIndex *index, BlockNumber block, PageKind kind, BlockNumber owner, int lock);

// A walk over a list's groups that ends even when the chain is damaged.
struct GroupWalk {
    BlockNumber first;
    BlockNumber next;
    BlockNumber passed;
};
inline GroupWalk walk_list(BlockNumber first) {
    return {first, first, 0};
}
// The next group, locked; InvalidBuffer at the end. The caller unlocks and releases it.
Buffer next_group(IvfIndex *index, Tier tier, GroupWalk *walk, int lock);

// Member's vector or piece in its group's pages; `table` is the group's.
Buffer read_vectors(IvfIndex *index, Tier tier, BlockNumber group, const BlockNumber *table,
                    uint32 member, uint32 piece, int lock, ann::VectorHeader **slot);

// The header of a list's first group.
ann::GroupHeader read_list_header(IvfIndex *index, BlockNumber first);

// The row of a group's member; offset 0 where there is none.
inline ann::Tid member_tid(const ann::ListLayout &layout, Page page, uint32 member) {
    if (!layout.has_codes())
        return ann::vector_slot(layout, page, member)->tid;
    ann::ListBlock block = ann::list_block(layout, page, member / ann::kBlock);
    bool live = block.live() >> (member % ann::kBlock) & 1;
    return live ? block.tids()[member % ann::kBlock] : ann::Tid{};
}

// Where a list begins that a centroid's TID names, and such a TID.
inline BlockNumber list_block(ann::Tid tid) {
    return static_cast<BlockNumber>(tid.block_high) << 16 | tid.block_low;
}
inline ann::Tid list_tid(BlockNumber block) {
    return {static_cast<uint16>(block >> 16), static_cast<uint16>(block), 1};
}

// A list as the root has it.
struct RootEntry {
    BlockNumber first; // group of the list
    BlockNumber group; // of the root, and the centroid's place there
    uint32 member;
};
// All of them, index->meta.lists, palloc'd. Adds the root's pages to *pages unless that is NULL.
RootEntry *read_root(IvfIndex *index, uint64 *pages);
// Of a group and its vectors.
uint64 count_pages(const ann::ListLayout &layout, Page page);

// Sets a list's insert_page if it still is `from`.
void move_insert_page(IvfIndex *index, BlockNumber first, BlockNumber from, BlockNumber to);

// A page nobody has, locked exclusively; all zeros, to be initialised in a WAL record.
Buffer new_page(IvfIndex *index);

} // namespace ivf
