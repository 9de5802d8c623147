// What an element of an hnsw index is, byte by byte; the page around it is extension/hnsw/page.h.
//
// An element is one run of bytes, its image:
//
//   ElementHeader | pieces | links | distances | factors | vector | codes
//
//   pieces     Link per piece of the image that lies outside the head's slot (large vectors)
//   links      Link per level-0 neighbour, Link::none() where free
//   distances  float per neighbour: the metric's distance from this element; in its lowest bit
//              whether the link was chosen or fills a place (link.h)
//   factors    2 floats per neighbour in two arrays, with codes only (rabitq.h)
//   vector     as VectorSpace has it; of a sparse one as much as fits, and before it a Link to the
//              first of the slots that have the rest (OverflowSlot)
//   codes      per 32 neighbours their codes of (neighbour - element) for FastScan, one or two
//              bits per dimension (rabitq.h); dim rounded up to 8, not to 2^n
//
// Everything up to the vector always lies in the head's slot. An image larger than a page's
// capacity is cut at the capacity; full pieces have pages of their own, the rest shares pages
// with other elements' rests.
#pragma once

#include <cstdint>

#include "extension/core/link.h"
#include "extension/core/vector_space.h"

namespace ann {

inline constexpr uint32_t kNeighborBlock = 32; // neighbours of one FastScan block
inline constexpr uint32_t kMaxM = 100;
inline constexpr uint32_t kMaxSlots = (2 * kMaxM + kNeighborBlock - 1) / kNeighborBlock * 32;
inline constexpr uint32_t kTidsPerElement = 10;
inline constexpr int kMaxLevel = 63;
inline constexpr uint32_t kMaxDim = 16000; // of vectors of floats or halves

// The greatest number of dimensions that an index can have.
constexpr uint32_t max_dim(VectorForm form) {
    switch (form) {
    case VectorForm::kBits:
        return kMaxDim * 32; // as many bytes as floats have
    case VectorForm::kSparse:
        return 1000000000;
    default:
        return kMaxDim;
    }
}

enum class SlotState : uint8_t {
    kFree = 0,
    kReserved = 1, // owned by an insert under way; nothing links here
    kLive = 2,
    kDead = 3, // holds no row any more; still a bridge until vacuum has rerouted its neighbours
};

// A heap row's place, the bytes of PostgreSQL's ItemPointerData.
struct Tid {
    uint16_t block_high;
    uint16_t block_low;
    uint16_t offset;
    bool operator==(const Tid &) const = default;
};
static_assert(sizeof(Tid) == 6);

// What every slot of every page begins with.
struct SlotHeader {
    uint16_t version; // changes whenever the slot is freed
    SlotState state;
    uint8_t detail;
};
static_assert(sizeof(SlotHeader) == 4);

struct ElementHeader {
    SlotHeader slot; // detail: the element's level
    uint8_t tid_count;
    uint8_t reserved[3];
    Link duplicates; // first of the chain of slots with further rows of this vector
    Link upper;      // this element's list on its highest level, if that is above 0
    Tid tids[kTidsPerElement];
    // One bit per neighbour: the link is part of the tree that keeps everything reachable, and
    // only vacuum takes it away.
    uint32_t kept[kMaxSlots / 32];
};
static_assert(sizeof(ElementHeader) == 112);

// A slot outside the element it belongs to.
struct PieceHeader {
    SlotHeader slot;   // detail: SideKind in side slots
    uint8_t tid_count; // duplicates
    uint8_t level;     // upper lists
    uint16_t reserved;
    Link owner; // the element
};
static_assert(sizeof(PieceHeader) == 16);

enum SideKind : uint8_t { kSideUpper = 1, kSideDuplicates = 2 };

// Up to ten further rows of an element's vector.
struct DuplicatesSlot {
    PieceHeader header;
    Link next;
    Tid tids[kTidsPerElement];
};
// A further part of a sparse element's vector; its bytes follow.
struct OverflowSlot {
    PieceHeader header;
    Link next;
};
// An element's list on one level above 0; links, distances, factors and codes follow as on
// level 0, ElementLayout has the offsets.
struct UpperSlot {
    PieceHeader header;
    Link next; // the list one level below; none on level 1
};

// A list of neighbours where it lies. Owns nothing.
struct NeighborList {
    uint32_t slots;
    uint32_t blocks; // of codes; 0: none
    Link *links;
    float *distances;
    float *factors; // two arrays of `slots`
    uint8_t *codes;
};

// Sizes and offsets, all in bytes from the start of the image unless named otherwise.
struct ElementLayout {
    uint32_t dim = 0;
    uint32_t m = 0;
    uint32_t slots = 0;      // neighbours on level 0
    uint32_t blocks = 0;     // of codes
    uint32_t code_bytes = 0; // of one block; 0 without codes
    uint32_t pieces_offset = 0;
    uint32_t links_offset = 0;
    uint32_t distances_offset = 0;
    uint32_t factors_offset = 0;
    uint32_t overflow_offset = 0; // sparse: of the Link to the first OverflowSlot; else 0
    uint32_t overflow_bytes = 0;  // of a vector in one of those
    uint32_t vector_offset = 0;
    uint32_t vector_bytes = 0; // in the image
    uint32_t codes_offset = 0;
    uint32_t size = 0;        // of the image
    uint32_t head_bytes = 0;  // of the image in the element's own slot
    uint32_t pieces = 0;      // full pieces, plus one when there is a rest
    uint32_t full_pieces = 0; // each piece_bytes of the image
    uint32_t piece_bytes = 0;
    uint32_t rest_bytes = 0;

    // Lists above level 0. They have codes where a slot with them fits a page.
    uint32_t upper_slots = 0;
    uint32_t upper_blocks = 0;
    uint32_t upper_distances_offset = 0;
    uint32_t upper_factors_offset = 0;
    uint32_t upper_codes_offset = 0;
    uint32_t upper_bytes = 0; // an upper list's slot
    uint32_t side_bytes = 0;  // a slot of further rows

    // `capacity`: bytes a page has for slots. REQUIRES: 1 <= dim <= max_dim(form),
    // 2 <= m <= kMaxM. Without codes there are 2*m neighbours, with codes as many as their blocks
    // hold.
    static ElementLayout make(const VectorSpace &space, uint32_t m, uint32_t code_bits,
                              uint32_t capacity);

    bool spanned() const { return pieces > 0; }
    bool sparse() const { return overflow_bytes > 0; }
    // How many OverflowSlots a vector of so many bytes needs.
    uint32_t overflow_slots(size_t bytes) const {
        if (!sparse() || bytes <= vector_bytes)
            return 0;
        return static_cast<uint32_t>((bytes - vector_bytes + overflow_bytes - 1) / overflow_bytes);
    }
    uint32_t list_slots(int level) const { return level == 0 ? slots : upper_slots; }
    bool has_codes(int level) const { return (level == 0 ? blocks : upper_blocks) > 0; }
};

// Read and write access to the parts of an image. Owns nothing.
struct ElementImage {
    uint8_t *data;

    ElementHeader &header() const { return *reinterpret_cast<ElementHeader *>(data); }
    Link *pieces(const ElementLayout &l) const { return at<Link>(l.pieces_offset); }
    Link *links(const ElementLayout &l) const { return at<Link>(l.links_offset); }
    float *distances(const ElementLayout &l) const { return at<float>(l.distances_offset); }
    // The first array of `slots` factors; the second follows it.
    float *factors(const ElementLayout &l) const { return at<float>(l.factors_offset); }
    void *vector(const ElementLayout &l) const { return data + l.vector_offset; }
    // Of a sparse vector.
    Link &overflow(const ElementLayout &l) const { return *at<Link>(l.overflow_offset); }
    uint8_t *codes(const ElementLayout &l, uint32_t block) const {
        return data + l.codes_offset + static_cast<size_t>(block) * l.code_bytes;
    }
    NeighborList list(const ElementLayout &l) const {
        return {l.slots, l.blocks, links(l), distances(l), factors(l), codes(l, 0)};
    }
    bool kept(uint32_t slot) const { return (header().kept[slot / 32] >> (slot % 32)) & 1; }
    void set_kept(uint32_t slot, bool kept) const {
        uint32_t bit = 1u << (slot % 32);
        header().kept[slot / 32] =
            kept ? header().kept[slot / 32] | bit : header().kept[slot / 32] & ~bit;
    }

    // An element of no rows and no neighbours, in state `state`.
    void clear(const ElementLayout &layout, uint16_t version, SlotState state, uint8_t level) const;

  private:
    template <typename T> T *at(uint32_t offset) const {
        return reinterpret_cast<T *>(data + offset);
    }
};

// The same of an upper list's slot.
struct UpperImage {
    uint8_t *data;

    UpperSlot &header() const { return *reinterpret_cast<UpperSlot *>(data); }
    NeighborList list(const ElementLayout &l) const {
        return {l.upper_slots,
                l.upper_blocks,
                reinterpret_cast<Link *>(data + sizeof(UpperSlot)),
                reinterpret_cast<float *>(data + l.upper_distances_offset),
                reinterpret_cast<float *>(data + l.upper_factors_offset),
                data + l.upper_codes_offset};
    }
    // A list without neighbours.
    void clear(const ElementLayout &layout) const;
};

} // namespace ann
