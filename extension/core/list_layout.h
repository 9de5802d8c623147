// How the members of an inverted list lie in pages, byte by byte; the page around it is
// extension/ivfflat/page.h.
//
// A list is a chain of groups. With codes, a group is a page of blocks of 32 members and some pages
// with these members' vectors, at places that follow from a member's number in the group; without,
// the vectors lie in the group's page itself.
//
//   group page    GroupHeader | with codes: blocks, then the numbers of the group's vector pages
//                             | without codes: a slot per member
//   block         codes for FastScan | constants, slopes, errors (32 floats each) | 32 TIDs |
//                 a bit per member that is live
//   vector page   slots
//   slot          VectorHeader | the vector's bytes, or one of the equal pieces of a large vector
#pragma once

#include <cstdint>
#include <cstring>

#include "extension/core/element.h"
#include "extension/core/rabitq.h"

namespace ann {

inline constexpr uint32_t kListPageBytes = 8192;
inline constexpr uint32_t kGroupHeaderOffset = 24; // behind PostgreSQL's page header
inline constexpr uint32_t kBlocksOffset = 64;      // codes are read in whole cache lines,
inline constexpr uint32_t kListSlotsOffset = 48;   // and so are the vectors behind slots' headers
inline constexpr uint32_t kListPageEnd = kListPageBytes - 16;
inline constexpr uint32_t kMinListCodedDim = 64; // below, a vector is as quick to read as its code

struct GroupHeader {
    uint32_t next; // group of the list, or kNoPage
    // Of the list's first group only:
    uint32_t insert_page; // groups before it are full
    float scale;          // the centre of the codes is so many times the centroid
    float squared_norm;   // of that centre
    uint32_t reserved[2];
};
static_assert(kGroupHeaderOffset + sizeof(GroupHeader) <= kListSlotsOffset);
inline constexpr uint32_t kNoPage = 0xFFFFFFFF;

// In front of a vector, or of a piece of it.
struct VectorHeader {
    Tid tid; // without codes: offset 0 where the place is free
    uint16_t piece;
    float multiplier; // of inner products: under cosine 1 / length, else 1
    uint32_t reserved;
};
static_assert(sizeof(VectorHeader) == 16);

struct ListLayout {
    uint32_t vector_bytes;
    uint32_t dim;
    uint32_t padded; // dimensions of rotated vectors; 0 without codes
    uint32_t coded;  // how many of these the codes have: all, or what fits a page
    uint32_t bits;
    uint32_t members; // of a group
    uint32_t blocks;  // of a group; 0 without codes
    uint32_t block_bytes;
    uint32_t table_offset; // of the vector pages' numbers
    uint32_t vector_pages; // of a group
    uint32_t pieces;       // of a vector
    uint32_t piece_bytes;
    uint32_t slots; // of a vector page; without codes: of a group page
    uint32_t slot_bytes;
    uint32_t group_end; // of what lies in a page
    uint32_t vector_end;

    // bits: of codes, 0 for none. A vector without codes has to fit a page.
    static ListLayout make(uint32_t dim, uint32_t vector_bytes, uint32_t bits);

    bool has_codes() const { return bits > 0; }
    // Where member `member`'s piece lies: the group's page number `page` of vectors, and the slot.
    uint32_t page_of(uint32_t member, uint32_t piece) const {
        return (member * pieces + piece) / slots;
    }
    uint32_t slot_of(uint32_t member, uint32_t piece) const {
        return (member * pieces + piece) % slots;
    }
};

// A block in its page.
struct ListBlock {
    uint8_t *data;
    const ListLayout *layout;

    uint8_t *codes() const { return data; }
    float *constants() const {
        return reinterpret_cast<float *>(data + ann::block_bytes(layout->coded, layout->bits));
    }
    float *slopes() const { return constants() + kBlock; }
    float *errors() const { return constants() + 2 * kBlock; }
    Tid *tids() const { return reinterpret_cast<Tid *>(constants() + 3 * kBlock); }
    uint32_t &live() const { return *reinterpret_cast<uint32_t *>(tids() + kBlock); }
};

inline GroupHeader &group_header(void *page) {
    return *reinterpret_cast<GroupHeader *>(static_cast<uint8_t *>(page) + kGroupHeaderOffset);
}
inline ListBlock list_block(const ListLayout &layout, void *page, uint32_t block) {
    return {static_cast<uint8_t *>(page) + kBlocksOffset + block * layout.block_bytes, &layout};
}
inline uint32_t *vector_table(const ListLayout &layout, void *page) {
    return reinterpret_cast<uint32_t *>(static_cast<uint8_t *>(page) + layout.table_offset);
}
inline VectorHeader *vector_slot(const ListLayout &layout, void *page, uint32_t slot) {
    return reinterpret_cast<VectorHeader *>(static_cast<uint8_t *>(page) + kListSlotsOffset +
                                            slot * layout.slot_bytes);
}
inline uint8_t *slot_vector(VectorHeader *slot) {
    return reinterpret_cast<uint8_t *>(slot + 1);
}

} // namespace ann
