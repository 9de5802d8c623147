// The pages of an hnsw index; README.md draws them.
//
//   block 0    metapage
//   others     PageHeaderData | slots of one kind, all of one size | PageTail (special space)
//
// pd_lower covers all slots of the page, so that WAL keeps them; there are no line pointers.
// What is read from a page is checked before it is used as an address: a damaged page raises
// XX002.
#pragma once

#include "extension/core/arena.h"
#include "extension/core/built_graph.h"
#include "extension/core/element.h"
#include "extension/pg/pg.h"

extern "C" {
#include "access/genam.h"
#include "access/generic_xlog.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
}

namespace vec {

static_assert(sizeof(ann::Tid) == sizeof(ItemPointerData));

inline constexpr BlockNumber kMetaBlock = 0;
inline constexpr uint32 kMagic = 0x50564857;
inline constexpr uint32 kFormatVersion = 2;

// What the slots of a page are. Values are on disk.
enum PageKind : uint16 {
    kElementPage = 0, // elements (of large vectors: their heads)
    kPiecePage = 1,   // full pieces of large vectors, one a page
    kRestPage = 2,    // the rests of large vectors, and of long sparse ones
    kSidePage = 3,    // further rows of elements
    kUpperPage = 4,   // lists of levels above 0
    kPageKinds = 5,
    kMetaPage = 0x4D,
};

// Of the codes of every index that is built: so the searches of several for one query vector, as of
// a node's shards, need one rotation and one table (codes.cpp).
inline constexpr uint64 kRotationSeed = 0x9D2C5680EFC60000;

struct PageTail {
    BlockNumber next_free; // next page of the chain of pages with free slots
    uint16 kind;
    uint16 slots;
    uint16 flags; // kInFreeChain
    uint16 page_id;
    uint32 reserved;
};
inline constexpr uint16 kInFreeChain = 1;
inline constexpr uint16 kPageId = 0xFFA0;

inline constexpr uint32 kSlotsOffset = MAXALIGN(SizeOfPageHeaderData);
inline constexpr uint32 kPageCapacity = BLCKSZ - kSlotsOffset - MAXALIGN(sizeof(PageTail));

struct Meta {
    uint32 magic;
    uint32 version;
    uint32 dim;
    uint16 m;
    uint16 ef_construction;
    uint8 metric;    // ann::Metric
    uint8 code_bits; // bits per dimension of a neighbour's code; 0: no codes
    uint8 form;      // ann::VectorForm
    uint8 reserved;
    uint64 rotation_seed; // of the codes' rotation
    ann::Link entry;
    int32 entry_level;                  // -1: the index is empty
    BlockNumber free_pages[kPageKinds]; // heads of the chains of pages with free slots
};

// An open index: what the metapage said, and how its pages are laid out. In palloc'd memory.
class RotationCache; // extension/hnsw/codes.h

struct GraphIndex {
    Relation relation;
    Meta meta;
    ann::ElementLayout layout;
    ann::Metric metric;
    BlockNumber known_blocks; // the relation has at least so many
    ann::VectorSpace space;
    uint8 *gathered;               // image of a large element, NULL where elements fit a page
    size_t gathered_bytes;         // room there
    RotationCache *rotations;      // of a vacuum, else NULL
    uint16 page_slots[kPageKinds]; // slots_per_page()

    float distance(const void *a, const void *b) const { return space.distance(a, b); }
};

// Raises XX002. `what` says what was found, `block` where.
[[noreturn]] void report_corruption(Relation index, BlockNumber block, const char *what);

// Reads and checks the metapage. The result lives in CurrentMemoryContext.
GraphIndex *open_graph(Relation index);
// Reads the metapage again: entry point and free pages move.
void refresh_meta(GraphIndex *graph);
// The metapage, locked; checked.
Buffer read_meta(Relation index, int lock);
Meta *page_meta(Page page);

uint32 slot_bytes(const ann::ElementLayout &layout, PageKind kind);
uint32 slots_per_page(const ann::ElementLayout &layout, PageKind kind);
PageTail *page_tail(Page page);

// Makes an empty page of that kind of `page` (BLCKSZ bytes).
void init_page(Page page, const ann::ElementLayout &layout, PageKind kind);
void init_meta_page(Page page, const Meta &meta);

// The page, locked and checked to be of that kind.
Buffer read_page(GraphIndex *graph, BlockNumber block, PageKind kind, int lock);
// What is wrong with the page, which is not new, or NULL.
const char *page_problem(GraphIndex *graph, Page page);
// The same check for a page that is already locked, and for any kind, which it returns.
PageKind check_page(GraphIndex *graph, BlockNumber block, Page page);

inline uint8 *slot_at(const ann::ElementLayout &layout, Page page, PageKind kind, uint16 slot) {
    return reinterpret_cast<uint8 *>(page) + kSlotsOffset + slot * slot_bytes(layout, kind);
}
inline ann::SlotHeader &slot_header(uint8 *slot) {
    return *reinterpret_cast<ann::SlotHeader *>(slot);
}

// A record changes the head of an element and so many pieces.
inline constexpr uint32 kMaxCodePieces = MAX_GENERIC_XLOG_PAGES - 1;
inline constexpr uint32 kMaxCodedDim = 4096;
// Whether elements of this layout can have codes: all of a list's codes must fit one record.
bool can_have_codes(const ann::ElementLayout &layout);
ann::ElementLayout meta_layout(const Meta &meta);
inline ann::VectorSpace meta_space(const Meta &meta) {
    return {static_cast<ann::VectorForm>(meta.form), static_cast<ann::Metric>(meta.metric),
            meta.dim};
}

// How much of an element is wanted: a large one lies in several pages.
enum class Parts { kHead, kVector, kAll };

// An element found, its head's page locked. `image` is the element in the page, or the gathered
// copy when it spans pages and more than the head was asked for.
struct OpenElement {
    Buffer buffer;
    uint8 *slot; // in the page
    ann::ElementImage image;

    bool live() const { return image.header().slot.state == ann::SlotState::kLive; }
};

// False, with nothing locked, when the link's element is gone. Locks at most one page of elements;
// pieces are read under the head's lock. REQUIRES: the caller holds no lock on an index page.
bool open_element(GraphIndex *graph, ann::Link link, int lock, Parts parts, OpenElement *element);
inline void close_element(const OpenElement &element) {
    UnlockReleaseBuffer(element.buffer);
}

// A slot in a side or upper page by its link, checked against its owner; false when it is gone.
bool open_side(GraphIndex *graph, ann::Link link, ann::Link owner, ann::SideKind kind, int lock,
               Buffer *buffer, uint8 **slot);

// Changes an element that was opened exclusively. Returns the image to be changed, of which only
// the parts that were opened may be: the page's copy that is to be logged or, of a large element
// that was gathered, the gathered one, from which head and pieces with codes are written back in
// one record. Never the page itself: what is changed there first is not logged.
ann::ElementImage start_change(GraphIndex *graph, const OpenElement &element, ann::Link link,
                               GenericXLogState **state);
void finish_change(GraphIndex *graph, const OpenElement &element, ann::Link link,
                   GenericXLogState *state);

// An Arena in `context`.
ann::Arena arena_in(MemoryContext context);

// Locks by which inserts, scans and vacuum keep out of each other's way (README.md).
inline constexpr BlockNumber kInsertFence = 0;
inline constexpr BlockNumber kScanFence = 1;

} // namespace vec
