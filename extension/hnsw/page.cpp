#include "extension/hnsw/page.h"

#include "extension/pg/index_method.h"
#include "extension/pg/recent_buffers.h"

extern "C" {
#include "storage/buf_internals.h"
}

namespace vec {
namespace {

bool is_possible(const ann::VectorSpace &space) {
    bool of_bits = space.metric == ann::Metric::kHamming || space.metric == ann::Metric::kJaccard;
    return space.dim >= 1 && space.dim <= ann::max_dim(space.form) &&
           of_bits == (space.form == ann::VectorForm::kBits);
}

void check_meta(Relation index, const Meta &meta) {
    if (meta.magic != kMagic)
        ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                        errmsg("index \"%s\" is not an hnsw index of Panvel",
                               RelationGetRelationName(index)),
                        errhint("REINDEX makes it one.")));
    if (meta.version != kFormatVersion)
        ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                        errmsg("index \"%s\" has version %u of the hnsw format, expected %u",
                               RelationGetRelationName(index), meta.version, kFormatVersion),
                        errhint("REINDEX makes it one of this version.")));
    if (meta.form > static_cast<uint8>(ann::VectorForm::kSparse) ||
        meta.metric > static_cast<uint8>(ann::Metric::kJaccard) || !is_possible(meta_space(meta)) ||
        meta.m < 2 || meta.m > ann::kMaxM || meta.code_bits > 2 ||
        (meta.code_bits > 0 && !meta_space(meta).dense()) || meta.entry_level < -1 ||
        meta.entry_level > ann::kMaxLevel)
        report_corruption(index, kMetaBlock, "impossible values in the metapage");
}

void copy_meta(GraphIndex *graph) {
    Buffer buffer = read_meta(graph->relation, BUFFER_LOCK_SHARE);
    graph->meta = *page_meta(BufferGetPage(buffer));
    UnlockReleaseBuffer(buffer);
}

void check_block(GraphIndex *graph, BlockNumber block) {
    if (block < graph->known_blocks)
        return;
    graph->known_blocks = RelationGetNumberOfBlocks(graph->relation);
    if (block >= graph->known_blocks)
        report_corruption(graph->relation, block, "a link beyond the end of the index");
}

// A part of a large element's image that lies outside the head.
struct Piece {
    PageKind kind;
    uint32 offset; // in the image
    uint32 bytes;
};

Piece piece_of(const ann::ElementLayout &l, uint32 number) {
    bool full = number < l.full_pieces;
    return {full ? kPiecePage : kRestPage, l.head_bytes + number * l.piece_bytes,
            full ? l.piece_bytes : l.rest_bytes};
}

bool has_codes(const ann::ElementLayout &l, const Piece &piece) {
    return piece.offset + piece.bytes > l.codes_offset;
}

// The page of a piece of the element at `owner`, locked and checked.
Buffer open_piece(GraphIndex *graph, ann::Link link, ann::Link owner, PageKind kind, int lock) {
    Buffer buffer = read_page(graph, link.block, kind, lock);
    Page page = BufferGetPage(buffer);
    if (link.slot >= page_tail(page)->slots)
        report_corruption(graph->relation, link.block, "a link to a slot that does not exist");
    auto *header =
        reinterpret_cast<ann::PieceHeader *>(slot_at(graph->layout, page, kind, link.slot));
    if (header->slot.version != link.version || !(header->owner == owner))
        report_corruption(graph->relation, link.block, "a piece of another element");
    return buffer;
}

// For assertions: whether this backend has the page locked so.
[[maybe_unused]] bool is_locked(Buffer buffer, LWLockMode mode) {
    return BufferIsLocal(buffer) ||
           LWLockHeldByMeInMode(BufferDescriptorGetContentLock(GetBufferDescriptor(buffer - 1)),
                                mode);
}

// Makes room in graph->gathered.
void reserve_gathered(GraphIndex *graph, size_t bytes) {
    if (bytes <= graph->gathered_bytes)
        return;
    size_t room = Max(bytes, 2 * graph->gathered_bytes);
    graph->gathered = static_cast<uint8 *>(repalloc(graph->gathered, room));
    graph->gathered_bytes = room;
}

// Copies an element's head and its sparse vector, part by part, to graph->gathered.
void gather_sparse(GraphIndex *graph, ann::Link owner, uint8 *head) {
    const ann::ElementLayout &l = graph->layout;
    size_t bytes = graph->space.bytes(head + l.vector_offset);
    reserve_gathered(graph, l.vector_offset + bytes);
    memcpy(graph->gathered, head, l.head_bytes);
    ann::Link next = ann::ElementImage{head}.overflow(l);
    for (size_t done = l.vector_bytes; done < bytes; done += l.overflow_bytes) {
        if (next.empty())
            report_corruption(graph->relation, owner.block, "a vector without its end");
        Buffer buffer = open_piece(graph, next, owner, kRestPage, BUFFER_LOCK_SHARE);
        const uint8 *slot = slot_at(l, BufferGetPage(buffer), kRestPage, next.slot);
        memcpy(graph->gathered + l.vector_offset + done, slot + sizeof(ann::OverflowSlot),
               Min(bytes - done, l.overflow_bytes));
        next = reinterpret_cast<const ann::OverflowSlot *>(slot)->next;
        UnlockReleaseBuffer(buffer);
    }
}

// Whether the element's vector goes on outside; its length is checked.
bool overflows(GraphIndex *graph, ann::Link link, const ann::ElementImage &image) {
    const ann::ElementLayout &l = graph->layout;
    if (!l.sparse())
        return false;
    if (ann::VectorSpace::sparse_count(image.vector(l)) > ann::kMaxNonzeros)
        report_corruption(graph->relation, link.block, "a vector that is too long");
    return graph->space.bytes(image.vector(l)) > l.vector_bytes;
}

// Copies a large element, as far as `parts` says, to graph->gathered.
void gather(GraphIndex *graph, ann::Link owner, uint8 *head, Parts parts) {
    const ann::ElementLayout &l = graph->layout;
    uint32 wanted = parts == Parts::kAll ? l.size : l.codes_offset;
    memcpy(graph->gathered, head, Min(wanted, l.head_bytes));
    const ann::Link *pieces = ann::ElementImage{head}.pieces(l);
    for (uint32 i = 0; i < l.pieces; i++) {
        Piece piece = piece_of(l, i);
        if (piece.offset >= wanted)
            break;
        Buffer buffer = open_piece(graph, pieces[i], owner, piece.kind, BUFFER_LOCK_SHARE);
        PANVEL_ASSERT(piece.offset + piece.bytes <= l.size);
        const uint8 *slot = slot_at(l, BufferGetPage(buffer), piece.kind, pieces[i].slot);
        memcpy(graph->gathered + piece.offset, slot + sizeof(ann::PieceHeader), piece.bytes);
        UnlockReleaseBuffer(buffer);
    }
}

} // namespace

void report_corruption(Relation index, BlockNumber block, const char *what) {
    ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                    errmsg("index \"%s\" is corrupted at block %u: %s",
                           RelationGetRelationName(index), block, what),
                    errhint("REINDEX rebuilds it.")));
}

Meta *page_meta(Page page) {
    return reinterpret_cast<Meta *>(reinterpret_cast<uint8 *>(page) + kSlotsOffset);
}

PageTail *page_tail(Page page) {
    return reinterpret_cast<PageTail *>(reinterpret_cast<uint8 *>(page) + BLCKSZ -
                                        MAXALIGN(sizeof(PageTail)));
}

// Of pgvector 0.8's hnsw indexes.
static constexpr pg::PgvectorMarks kPgvector = {0xA953A953, 0xFF90};

Buffer read_meta(Relation index, int lock) {
    Buffer buffer = pg::read_recent_buffer(index, kMetaBlock);
    LockBuffer(buffer, lock);
    Page page = BufferGetPage(buffer);
    pg::refuse_pgvector_index(index, page, kPgvector);
    if (PageIsNew(page) || PageGetSpecialSize(page) != MAXALIGN(sizeof(PageTail)) ||
        page_tail(page)->kind != kMetaPage || page_tail(page)->page_id != kPageId)
        ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                        errmsg("index \"%s\" has no hnsw metapage", RelationGetRelationName(index)),
                        errhint("REINDEX rebuilds it.")));
    check_meta(index, *page_meta(page));
    return buffer;
}

GraphIndex *open_graph(Relation index) {
    auto *graph = static_cast<GraphIndex *>(palloc0(sizeof(GraphIndex)));
    graph->relation = index;
    copy_meta(graph);
    graph->layout = meta_layout(graph->meta);
    graph->space = meta_space(graph->meta);
    graph->metric = graph->space.metric;
    if (graph->meta.code_bits > 0 && !can_have_codes(graph->layout))
        report_corruption(index, kMetaBlock, "codes of elements that are too large for them");
    graph->known_blocks = RelationGetNumberOfBlocks(index);
    for (int kind = 0; kind < kPageKinds; kind++)
        graph->page_slots[kind] = slots_per_page(graph->layout, static_cast<PageKind>(kind));
    if (graph->layout.spanned() || graph->layout.sparse()) {
        graph->gathered_bytes = graph->layout.size;
        graph->gathered = static_cast<uint8 *>(palloc(graph->gathered_bytes));
    }
    return graph;
}

void refresh_meta(GraphIndex *graph) {
    copy_meta(graph);
}

uint32 slot_bytes(const ann::ElementLayout &layout, PageKind kind) {
    switch (kind) {
    case kElementPage:
        return layout.head_bytes;
    case kPiecePage:
        return sizeof(ann::PieceHeader) + layout.piece_bytes;
    case kRestPage:
        if (layout.sparse())
            return sizeof(ann::OverflowSlot) + layout.overflow_bytes;
        return MAXALIGN(sizeof(ann::PieceHeader) + layout.rest_bytes);
    case kUpperPage:
        return layout.upper_bytes;
    default:
        return layout.side_bytes;
    }
}

uint32 slots_per_page(const ann::ElementLayout &layout, PageKind kind) {
    return kPageCapacity / slot_bytes(layout, kind);
}

void init_page(Page page, const ann::ElementLayout &layout, PageKind kind) {
    PageInit(page, BLCKSZ, sizeof(PageTail));
    uint32 slots = slots_per_page(layout, kind);
    auto *header = reinterpret_cast<PageHeader>(page);
    header->pd_lower = kSlotsOffset + slots * slot_bytes(layout, kind);
    *page_tail(page) = {InvalidBlockNumber, kind, static_cast<uint16>(slots), 0, kPageId, 0};
}

void init_meta_page(Page page, const Meta &meta) {
    PageInit(page, BLCKSZ, sizeof(PageTail));
    *page_meta(page) = meta;
    reinterpret_cast<PageHeader>(page)->pd_lower = kSlotsOffset + sizeof(Meta);
    *page_tail(page) = {InvalidBlockNumber, kMetaPage, 0, 0, kPageId, 0};
}

const char *page_problem(GraphIndex *graph, Page page) {
    if (PageGetSpecialSize(page) != MAXALIGN(sizeof(PageTail)) ||
        page_tail(page)->page_id != kPageId || page_tail(page)->kind >= kPageKinds)
        return "not a page of an hnsw index";
    auto kind = static_cast<PageKind>(page_tail(page)->kind);
    if (page_tail(page)->slots != graph->page_slots[kind])
        return "a wrong number of slots";
    return nullptr;
}

PageKind check_page(GraphIndex *graph, BlockNumber block, Page page) {
    const char *problem = PageIsNew(page) ? "an empty page" : page_problem(graph, page);
    if (problem != nullptr)
        report_corruption(graph->relation, block, problem);
    return static_cast<PageKind>(page_tail(page)->kind);
}

Buffer read_page(GraphIndex *graph, BlockNumber block, PageKind kind, int lock) {
    check_block(graph, block);
    Buffer buffer = pg::read_recent_buffer(graph->relation, block);
    LockBuffer(buffer, lock);
    if (check_page(graph, block, BufferGetPage(buffer)) != kind)
        report_corruption(graph->relation, block, "a page of another kind than its link says");
    return buffer;
}

bool open_element(GraphIndex *graph, ann::Link link, int lock, Parts parts, OpenElement *element) {
    element->buffer = read_page(graph, link.block, kElementPage, lock);
    Page page = BufferGetPage(element->buffer);
    if (link.slot >= page_tail(page)->slots)
        report_corruption(graph->relation, link.block, "a link to a slot that does not exist");
    element->slot = slot_at(graph->layout, page, kElementPage, link.slot);
    const auto &header = *reinterpret_cast<ann::ElementHeader *>(element->slot);
    if (header.slot.version != link.version || header.slot.state < ann::SlotState::kLive) {
        UnlockReleaseBuffer(element->buffer);
        return false;
    }
    if (header.slot.state > ann::SlotState::kDead || header.slot.detail > ann::kMaxLevel ||
        header.tid_count > ann::kTidsPerElement)
        report_corruption(graph->relation, link.block, "impossible values in an element");
    element->image.data = element->slot;
    if (parts != Parts::kHead && graph->layout.spanned()) {
        gather(graph, link, element->slot, parts);
        element->image.data = graph->gathered;
    }
    if (parts != Parts::kHead && overflows(graph, link, element->image)) {
        gather_sparse(graph, link, element->slot);
        element->image.data = graph->gathered;
    }
    return true;
}

bool open_side(GraphIndex *graph, ann::Link link, ann::Link owner, ann::SideKind kind, int lock,
               Buffer *buffer, uint8 **slot) {
    PageKind page_kind = kind == ann::kSideUpper ? kUpperPage : kSidePage;
    *buffer = read_page(graph, link.block, page_kind, lock);
    Page page = BufferGetPage(*buffer);
    if (link.slot >= page_tail(page)->slots)
        report_corruption(graph->relation, link.block, "a link to a slot that does not exist");
    *slot = slot_at(graph->layout, page, page_kind, link.slot);
    auto *header = reinterpret_cast<ann::PieceHeader *>(*slot);
    if (header->slot.version == link.version && header->slot.state == ann::SlotState::kLive &&
        header->slot.detail == kind && header->owner == owner) {
        if (header->tid_count > ann::kTidsPerElement || header->level > ann::kMaxLevel)
            report_corruption(graph->relation, link.block, "impossible values in a side slot");
        return true;
    }
    UnlockReleaseBuffer(*buffer);
    return false;
}

ann::ElementLayout meta_layout(const Meta &meta) {
    return ann::ElementLayout::make(meta_space(meta), meta.m, meta.code_bits, kPageCapacity);
}

bool can_have_codes(const ann::ElementLayout &layout) {
    uint32 pieces = 0;
    for (uint32 i = 0; i < layout.pieces; i++)
        pieces += has_codes(layout, piece_of(layout, i));
    return pieces <= kMaxCodePieces && layout.dim <= kMaxCodedDim;
}

ann::ElementImage start_change(GraphIndex *graph, const OpenElement &element, ann::Link link,
                               GenericXLogState **state) {
    PANVEL_ASSERT(is_locked(element.buffer, LW_EXCLUSIVE));
    *state = GenericXLogStart(graph->relation);
    Page page = GenericXLogRegisterBuffer(*state, element.buffer, 0);
    if (element.image.data != element.slot)
        return element.image;
    return {slot_at(graph->layout, page, kElementPage, link.slot)};
}

void finish_change(GraphIndex *graph, const OpenElement &element, ann::Link link,
                   GenericXLogState *state) {
    const ann::ElementLayout &l = graph->layout;
    Buffer buffers[kMaxCodePieces];
    uint32 count = 0;
    if (element.image.data != element.slot) {
        Page page = GenericXLogRegisterBuffer(state, element.buffer, 0);
        memcpy(slot_at(l, page, kElementPage, link.slot), element.image.data, l.head_bytes);
        for (uint32 i = 0; i < l.pieces; i++) {
            Piece piece = piece_of(l, i);
            if (!has_codes(l, piece))
                continue;
            ann::Link at = element.image.pieces(l)[i];
            buffers[count] = open_piece(graph, at, link, piece.kind, BUFFER_LOCK_EXCLUSIVE);
            page = GenericXLogRegisterBuffer(state, buffers[count++], 0);
            memcpy(slot_at(l, page, piece.kind, at.slot) + sizeof(ann::PieceHeader),
                   element.image.data + piece.offset, piece.bytes);
        }
    }
    GenericXLogFinish(state);
    for (uint32 i = 0; i < count; i++)
        UnlockReleaseBuffer(buffers[i]);
}

ann::Arena arena_in(MemoryContext context) {
    return {[](void *owner, size_t bytes) {
                return MemoryContextAllocHuge(static_cast<MemoryContext>(owner), bytes);
            },
            [](void *, void *memory) { pfree(memory); }, context};
}

} // namespace vec
