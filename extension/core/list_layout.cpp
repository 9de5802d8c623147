#include "extension/core/list_layout.h"

#include <algorithm>

namespace ann {
namespace {

constexpr uint32_t kSlotRoom = kListPageEnd - kListSlotsOffset;

constexpr uint32_t round_up(uint32_t n, uint32_t to) {
    return (n + to - 1) / to * to;
}

// Slots of `bytes` of data: begun at a cache line each, unless fewer would fit.
void set_slots(ListLayout *l, uint32_t bytes) {
    uint32_t tight = round_up(bytes + sizeof(VectorHeader), 4), even = round_up(tight, 64);
    // The last one needs no room behind it.
    uint32_t tight_count = kSlotRoom / tight, even_count = (kSlotRoom - tight) / even + 1;
    l->slot_bytes = even_count == tight_count ? even : tight;
    l->slots = tight_count;
}

// As few equal pieces as possible, more where that saves a third of the pages.
void cut_vector(ListLayout *l) {
    constexpr double kWorthAPiece = 0.7;
    double best = 0;
    uint32_t least = (l->vector_bytes + kSlotRoom - 1) / kSlotRoom;
    for (uint32_t pieces = std::max(least, 1U); pieces <= 2 * least + 2; pieces++) {
        uint32_t bytes = round_up((l->vector_bytes + pieces - 1) / pieces, 4);
        uint32_t tight = bytes + sizeof(VectorHeader);
        if (tight > kSlotRoom)
            continue;
        double pages = static_cast<double>(pieces) / (kSlotRoom / tight);
        if (best > 0 && pages >= best * kWorthAPiece)
            continue;
        best = pages;
        l->pieces = pieces;
        l->piece_bytes = bytes;
    }
    set_slots(l, l->piece_bytes);
}

uint32_t block_size(uint32_t coded, uint32_t bits) {
    return round_up(block_bytes(coded, bits) + kBlock * (3 * sizeof(float) + sizeof(Tid)) +
                        sizeof(uint32_t),
                    64);
}

uint32_t table_pages(const ListLayout &l, uint32_t blocks) {
    return (blocks * kBlock * l.pieces + l.slots - 1) / l.slots;
}

bool fits(const ListLayout &l, uint32_t coded, uint32_t blocks) {
    return kBlocksOffset + blocks * block_size(coded, l.bits) +
               table_pages(l, blocks) * sizeof(uint32_t) <=
           kListPageEnd;
}

void set_blocks(ListLayout *l) {
    l->coded = l->padded = padded_dim(l->dim);
    while (!fits(*l, l->coded, 1))
        l->coded -= 8;
    l->blocks = 1;
    while (fits(*l, l->coded, l->blocks + 1))
        l->blocks++;
    l->block_bytes = block_size(l->coded, l->bits);
    l->members = l->blocks * kBlock;
    l->table_offset = kBlocksOffset + l->blocks * l->block_bytes;
    l->vector_pages = table_pages(*l, l->blocks);
    l->group_end = l->table_offset + l->vector_pages * static_cast<uint32_t>(sizeof(uint32_t));
    l->vector_end = kListSlotsOffset + (l->slots - 1) * l->slot_bytes +
                    static_cast<uint32_t>(sizeof(VectorHeader)) + l->piece_bytes;
}

} // namespace

ListLayout ListLayout::make(uint32_t dim, uint32_t vector_bytes, uint32_t bits) {
    ListLayout l = {};
    l.dim = dim;
    l.vector_bytes = vector_bytes;
    l.bits = bits;
    if (bits > 0) {
        cut_vector(&l);
        set_blocks(&l);
        return l;
    }
    l.pieces = 1;
    l.piece_bytes = vector_bytes;
    set_slots(&l, vector_bytes);
    l.members = l.slots;
    l.group_end = kListSlotsOffset + (l.slots - 1) * l.slot_bytes +
                  static_cast<uint32_t>(sizeof(VectorHeader)) + vector_bytes;
    return l;
}

} // namespace ann
