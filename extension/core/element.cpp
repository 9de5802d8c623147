#include "extension/core/element.h"

#include <cstring>

#include "extension/core/rabitq.h"

namespace ann {
namespace {

constexpr uint32_t align8(uint32_t bytes) {
    return (bytes + 7) & ~7u;
}

// How many pieces an image of `size` bytes has beyond its head.
void cut(ElementLayout &l, uint32_t capacity) {
    l.piece_bytes = (capacity - sizeof(PieceHeader)) & ~7u;
    l.pieces = l.full_pieces = l.rest_bytes = 0;
    l.head_bytes = l.size;
    if (l.size <= capacity)
        return;
    l.head_bytes = capacity & ~7u;
    uint32_t outside = l.size - l.head_bytes;
    l.full_pieces = outside / l.piece_bytes;
    l.rest_bytes = outside % l.piece_bytes;
    l.pieces = l.full_pieces + (l.rest_bytes > 0);
}

// Offsets with room for `pieces` pieces.
void place(ElementLayout &l, uint32_t pieces) {
    l.pieces_offset = sizeof(ElementHeader);
    l.links_offset = l.pieces_offset + pieces * sizeof(Link);
    l.distances_offset = l.links_offset + l.slots * sizeof(Link);
    l.factors_offset = l.distances_offset + l.slots * sizeof(float);
    l.vector_offset = l.factors_offset + (l.code_bytes > 0 ? 2 * l.slots * sizeof(float) : 0);
    l.codes_offset = l.vector_offset + (l.vector_bytes + 3) / 4 * 4;
    l.size = align8(l.codes_offset + l.blocks * l.code_bytes);
}

// Elements of sparse vectors all have one size, which holds the vectors of most; a few share a
// page. The rest of a longer one is in slots of a quarter of a page.
void place_sparse(ElementLayout &l, uint32_t capacity) {
    constexpr uint32_t kLeast = 128; // elements that are not 0
    place(l, 0);
    l.overflow_offset = l.vector_offset;
    l.vector_offset += sizeof(Link);
    uint32_t least = l.vector_offset + static_cast<uint32_t>(VectorSpace::sparse_bytes(kLeast));
    l.size = capacity / (capacity / least) & ~7u;
    l.vector_bytes = l.size - l.vector_offset;
    l.codes_offset = l.head_bytes = l.size;
    l.overflow_bytes = (capacity / 4 & ~7u) - sizeof(OverflowSlot);
}

// The parts of an upper list's slot of `slots` neighbours and `blocks` blocks of codes.
void place_upper(ElementLayout &l, uint32_t slots, uint32_t blocks) {
    l.upper_slots = slots;
    l.upper_blocks = blocks;
    l.upper_distances_offset = sizeof(UpperSlot) + slots * sizeof(Link);
    l.upper_factors_offset = l.upper_distances_offset + slots * sizeof(float);
    l.upper_codes_offset = l.upper_factors_offset + (blocks > 0 ? 2 * slots * sizeof(float) : 0);
    l.upper_bytes = align8(l.upper_codes_offset + blocks * l.code_bytes);
}

} // namespace

ElementLayout ElementLayout::make(const VectorSpace &space, uint32_t m, uint32_t code_bits,
                                  uint32_t capacity) {
    ElementLayout l;
    l.dim = space.dim;
    l.vector_bytes = space.fixed_size() ? static_cast<uint32_t>(space.bytes()) : 0;
    l.m = m;
    l.slots = 2 * m;
    if (code_bits > 0) {
        l.blocks = (l.slots + kNeighborBlock - 1) / kNeighborBlock;
        l.slots = l.blocks * kNeighborBlock;
        l.code_bytes = block_bytes(padded_dim(space.dim), code_bits);
    }
    place(l, 0);
    cut(l, capacity);
    // The list of pieces is part of the image: room for it may add one.
    for (uint32_t pieces = 0; l.pieces > pieces;) {
        pieces = l.pieces;
        place(l, pieces);
        cut(l, capacity);
    }
    if (!space.fixed_size())
        place_sparse(l, capacity);
    uint32_t upper_blocks = (m + kNeighborBlock - 1) / kNeighborBlock;
    if (code_bits > 0)
        place_upper(l, upper_blocks * kNeighborBlock, upper_blocks);
    if (code_bits == 0 || l.upper_bytes > capacity)
        place_upper(l, m, 0);
    l.side_bytes = align8(sizeof(DuplicatesSlot));
    return l;
}

void ElementImage::clear(const ElementLayout &layout, uint16_t version, SlotState state,
                         uint8_t level) const {
    std::memset(data, 0, layout.vector_offset);
    header().slot = {version, state, level};
    header().duplicates = Link::none();
    header().upper = Link::none();
    for (uint32_t i = 0; i < layout.slots; i++)
        links(layout)[i] = Link::none();
    if (layout.sparse())
        overflow(layout) = Link::none();
}

void UpperImage::clear(const ElementLayout &layout) const {
    std::memset(data, 0, layout.upper_bytes);
    header().next = Link::none();
    NeighborList all = list(layout);
    for (uint32_t i = 0; i < all.slots; i++)
        all.links[i] = Link::none();
}

} // namespace ann
