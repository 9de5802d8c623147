// aminsert: a row into its nearest list, at a place that is free.
#include "extension/ivfflat/codes.h"
#include "extension/ivfflat/ivfflat.h"
#include "extension/ivfflat/list_search.h"

namespace ivf {
namespace {

constexpr uint32 kNoPlace = 0xFFFFFFFF;

struct NewMember {
    ann::Tid tid;
    IndexedValue value;
    MemberCode code;
};

uint32 free_place(const ann::ListLayout &l, Page page) {
    if (l.has_codes()) {
        for (uint32 i = 0; i < l.blocks; i++) {
            uint32 live = ann::list_block(l, page, i).live();
            if (live != 0xFFFFFFFF)
                return i * ann::kBlock + static_cast<uint32>(std::countr_one(live));
        }
        return kNoPlace;
    }
    for (uint32 i = 0; i < l.members; i++)
        if (ann::vector_slot(l, page, i)->tid.offset == 0)
            return i;
    return kNoPlace;
}

void put_piece(const ann::ListLayout &l, ann::VectorHeader *slot, const NewMember &row,
               uint32 piece) {
    uint32 offset = piece * l.piece_bytes;
    *slot = {row.tid, static_cast<uint16>(piece), row.value.multiplier, 0};
    memcpy(ann::slot_vector(slot), row.value.bytes + offset,
           Min(l.piece_bytes, l.vector_bytes - offset));
}

void put_code(const ann::ListLayout &l, Page page, uint32 place, const NewMember &row) {
    ann::ListBlock block = ann::list_block(l, page, place / ann::kBlock);
    ann::put_member(block, place % ann::kBlock, row.code.factors, row.code.code);
    block.tids()[place % ann::kBlock] = row.tid;
    block.live() |= 1U << (place % ann::kBlock);
}

// One record a piece of the vector; the last one makes the member live. Its group is locked: what
// a crash leaves behind lies at a place that is free still.
void write_coded(IvfIndex *index, Buffer group, uint32 place, const NewMember &row) {
    const ann::ListLayout &l = index->list;
    BlockNumber group_block = BufferGetBlockNumber(group);
    for (uint32 piece = 0; piece < l.pieces; piece++) {
        uint32 number = l.page_of(place, piece);
        BlockNumber block = ann::vector_table(l, BufferGetPage(group))[number];
        bool fresh = block == InvalidBlockNumber, last = piece + 1 == l.pieces;
        Buffer buffer =
            fresh ? new_page(index)
                  : read_page(index, block, kListVectors, group_block, BUFFER_LOCK_EXCLUSIVE);
        GenericXLogState *state = GenericXLogStart(index->relation);
        // The group first: recovery locks a record's pages in this order, as readers do.
        Page group_page = fresh || last ? GenericXLogRegisterBuffer(state, group, 0) : nullptr;
        Page page = GenericXLogRegisterBuffer(state, buffer, fresh ? GENERIC_XLOG_FULL_IMAGE : 0);
        if (fresh) {
            init_page(index, page, kListVectors, group_block, static_cast<uint16>(number));
            ann::vector_table(l, group_page)[number] = BufferGetBlockNumber(buffer);
        }
        put_piece(l, ann::vector_slot(l, page, l.slot_of(place, piece)), row, piece);
        if (last)
            put_code(l, group_page, place, row);
        GenericXLogFinish(state);
        UnlockReleaseBuffer(buffer);
    }
}

void write_plain(IvfIndex *index, Buffer group, uint32 place, const NewMember &row) {
    GenericXLogState *state = GenericXLogStart(index->relation);
    Page page = GenericXLogRegisterBuffer(state, group, 0);
    put_piece(index->list, ann::vector_slot(index->list, page, place), row, 0);
    GenericXLogFinish(state);
}

// Another group at the end of the list, behind `last`, which is locked.
Buffer append_group(IvfIndex *index, Buffer last, BlockNumber first) {
    Buffer buffer = new_page(index);
    GenericXLogState *state = GenericXLogStart(index->relation);
    Page last_page = GenericXLogRegisterBuffer(state, last, 0);
    Page page = GenericXLogRegisterBuffer(state, buffer, GENERIC_XLOG_FULL_IMAGE);
    init_page(index, page, kListGroup, first, 0);
    ann::group_header(last_page).next = BufferGetBlockNumber(buffer);
    GenericXLogFinish(state);
    return buffer;
}

// The first group from `hint` on with a free place, locked.
Buffer find_place(IvfIndex *index, BlockNumber first, BlockNumber hint, uint32 *place) {
    GroupWalk walk = {first, hint, 0};
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        Buffer buffer = next_group(index, Tier::kList, &walk, BUFFER_LOCK_EXCLUSIVE);
        *place = free_place(index->list, BufferGetPage(buffer));
        if (*place != kNoPlace)
            return buffer;
        if (walk.next == ann::kNoPage) {
            Buffer appended = append_group(index, buffer, first);
            UnlockReleaseBuffer(buffer);
            *place = 0;
            return appended;
        }
        UnlockReleaseBuffer(buffer);
    }
}

void insert_member(IvfIndex *index, const NewMember &row, BlockNumber first, BlockNumber hint) {
    uint32 place;
    Buffer group = find_place(index, first, hint, &place);
    BlockNumber found = BufferGetBlockNumber(group);
    if (index->list.has_codes())
        write_coded(index, group, place, row);
    else
        write_plain(index, group, place, row);
    UnlockReleaseBuffer(group);
    if (found != hint)
        move_insert_page(index, first, hint, found);
}

} // namespace

bool ivfflat_insert(Relation relation, Datum *values, bool *is_null, ItemPointer heap_tid, Relation,
                    IndexUniqueCheck, bool, IndexInfo *) {
    if (is_null[0])
        return false;
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "ivfflat insert", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    IvfIndex *index = open_index(relation);
    NewMember row = {to_tid(*heap_tid), read_value(index->form, values[0]), {}};
    if (row.value.floats != nullptr) {
        auto *centroid = static_cast<float *>(palloc(index->meta.dim * sizeof(float)));
        FoundList list = nearest_list(index, row.value.floats, arena_in(context), centroid);
        ann::GroupHeader header = read_list_header(index, list.first);
        row.code = encode_row(index, row.value.floats, centroid, header.scale);
        insert_member(index, row, list.first, header.insert_page);
    }
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
    return false;
}

} // namespace ivf
