#include "extension/ivfflat/page.h"

#include "extension/pg/index_method.h"
#include "extension/pg/recent_buffers.h"

extern "C" {
#include "storage/indexfsm.h"
#include "storage/lmgr.h"
}

namespace ivf {
namespace {

void check_meta(Relation index, const Meta &meta) {
    if (meta.magic != kMagic)
        ereport(ERROR,
                (errcode(ERRCODE_INDEX_CORRUPTED),
                 errmsg("index \"%s\" is not an ivfflat index", RelationGetRelationName(index)),
                 errhint("REINDEX makes it one.")));
    if (meta.version != kFormatVersion)
        ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                        errmsg("index \"%s\" has version %u of the ivfflat format, expected %u",
                               RelationGetRelationName(index), meta.version, kFormatVersion),
                        errhint("REINDEX makes it one of this version.")));
    Form form = index_form(index);
    if (meta.dim != form.dim || meta.metric != static_cast<uint8>(form.metric) ||
        meta.element != static_cast<uint8>(form.element) || meta.root_bits > ann::kMaxCodeBits ||
        meta.list_bits > ann::kMaxCodeBits || meta.lists < 1 || meta.lists > ann::kNoPage / 2)
        report_corruption(index, kMetaBlock, "impossible values in the metapage");
}

void check_block(IvfIndex *index, BlockNumber block) {
    if (block != kMetaBlock && block < index->known_blocks)
        return;
    index->known_blocks = RelationGetNumberOfBlocks(index->relation);
    if (block == kMetaBlock || block >= index->known_blocks)
        report_corruption(index->relation, block, "a link beyond the index");
}

// A page that vacuum has found to be nobody's; InvalidBuffer when there is none.
Buffer recycled_page(Relation index) {
    for (;;) {
        BlockNumber block = GetFreeIndexPage(index);
        if (block == InvalidBlockNumber || block >= RelationGetNumberOfBlocks(index))
            return InvalidBuffer;
        Buffer buffer = ReadBuffer(index, block);
        if (ConditionalLockBuffer(buffer)) {
            if (PageIsNew(BufferGetPage(buffer)))
                return buffer;
            LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
        }
        ReleaseBuffer(buffer);
    }
}

} // namespace

void report_corruption(Relation index, BlockNumber block, const char *what) {
    ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                    errmsg("ivfflat index \"%s\" is damaged: %s in block %u",
                           RelationGetRelationName(index), what, block),
                    errhint("REINDEX rebuilds it.")));
}

Meta *page_meta(Page page) {
    return reinterpret_cast<Meta *>(reinterpret_cast<uint8 *>(page) + ann::kGroupHeaderOffset);
}

PageTail *page_tail(Page page) {
    return reinterpret_cast<PageTail *>(reinterpret_cast<uint8 *>(page) + ann::kListPageEnd);
}

// Of pgvector 0.8's ivfflat indexes.
static constexpr pg::PgvectorMarks kPgvector = {0x014FF1A7, 0xFF84};

Buffer read_meta(Relation index, int lock) {
    Buffer buffer = pg::read_recent_buffer(index, kMetaBlock);
    LockBuffer(buffer, lock);
    Page page = BufferGetPage(buffer);
    pg::refuse_pgvector_index(index, page, kPgvector);
    if (PageIsNew(page) || PageGetSpecialSize(page) != sizeof(PageTail) ||
        page_tail(page)->kind != kMetaPage || page_tail(page)->page_id != kPageId)
        ereport(ERROR,
                (errcode(ERRCODE_INDEX_CORRUPTED),
                 errmsg("index \"%s\" has no ivfflat metapage", RelationGetRelationName(index)),
                 errhint("REINDEX rebuilds it.")));
    check_meta(index, *page_meta(page));
    return buffer;
}

void set_layouts(IvfIndex *index) {
    const Meta &meta = index->meta;
    index->form = {static_cast<ann::Metric>(meta.metric), static_cast<Element>(meta.element),
                   meta.dim};
    index->root = ann::ListLayout::make(meta.dim, meta.dim * sizeof(float), meta.root_bits);
    index->list = ann::ListLayout::make(meta.dim, vector_bytes(index->form), meta.list_bits);
}

IvfIndex *open_index(Relation relation) {
    auto *index = static_cast<IvfIndex *>(palloc0(sizeof(IvfIndex)));
    index->relation = relation;
    Buffer buffer = read_meta(relation, BUFFER_LOCK_SHARE);
    index->meta = *page_meta(BufferGetPage(buffer));
    UnlockReleaseBuffer(buffer);
    set_layouts(index);
    index->known_blocks = RelationGetNumberOfBlocks(relation);
    return index;
}

uint32 page_end(const IvfIndex *index, PageKind kind) {
    switch (kind) {
    case kRootGroup:
        return index->root.group_end;
    case kRootVectors:
        return index->root.vector_end;
    case kListGroup:
        return index->list.group_end;
    case kListVectors:
        return index->list.vector_end;
    case kMetaPage:
        break;
    }
    return ann::kGroupHeaderOffset + sizeof(Meta);
}

void init_page(const IvfIndex *index, Page page, PageKind kind, BlockNumber owner, uint16 number) {
    PageInit(page, BLCKSZ, sizeof(PageTail));
    reinterpret_cast<PageHeader>(page)->pd_lower = page_end(index, kind);
    *page_tail(page) = {owner, kind, number, kPageId, {}};
    if (!is_group(kind))
        return;
    ann::group_header(page) = {ann::kNoPage, owner, 1, 0, {}};
    const ann::ListLayout &layout = kind == kRootGroup ? index->root : index->list;
    BlockNumber *table = ann::vector_table(layout, page);
    std::fill(table, table + layout.vector_pages, InvalidBlockNumber);
}

void init_meta_page(Page page, const Meta &meta) {
    PageInit(page, BLCKSZ, sizeof(PageTail));
    *page_meta(page) = meta;
    reinterpret_cast<PageHeader>(page)->pd_lower = ann::kGroupHeaderOffset + sizeof(Meta);
    *page_tail(page) = {kMetaBlock, kMetaPage, 0, kPageId, {}};
}

const char *page_problem(const IvfIndex *index, Page page) {
    const PageTail &tail = *page_tail(page);
    if (PageIsNew(page))
        return "an empty page";
    if (PageGetSpecialSize(page) != sizeof(PageTail) || tail.page_id != kPageId ||
        tail.kind < kRootGroup || tail.kind > kListVectors)
        return "not a page of an ivfflat index";
    if (reinterpret_cast<PageHeader>(page)->pd_lower !=
        page_end(index, static_cast<PageKind>(tail.kind)))
        return "a page of a wrong size";
    return nullptr;
}

Buffer read_page(IvfIndex *index, BlockNumber block, PageKind kind, BlockNumber owner, int lock) {
    check_block(index, block);
    Buffer buffer = pg::read_recent_buffer(index->relation, block);
    LockBuffer(buffer, lock);
    Page page = BufferGetPage(buffer);
    const char *problem = page_problem(index, page);
    if (problem == nullptr && page_tail(page)->kind != kind)
        problem = "a page of another kind than its link says";
    if (problem == nullptr && page_tail(page)->owner != owner)
        problem = "a page that belongs elsewhere than its link says";
    if (problem != nullptr)
        report_corruption(index->relation, block, problem);
    return buffer;
}

Buffer next_group(IvfIndex *index, Tier tier, GroupWalk *walk, int lock) {
    if (walk->next == ann::kNoPage)
        return InvalidBuffer;
    Buffer buffer = read_page(index, walk->next, group_kind(tier), walk->first, lock);
    if (++walk->passed > index->known_blocks) {
        index->known_blocks = RelationGetNumberOfBlocks(index->relation);
        if (walk->passed > index->known_blocks)
            report_corruption(index->relation, walk->next, "a circle of groups");
    }
    walk->next = ann::group_header(BufferGetPage(buffer)).next;
    return buffer;
}

Buffer read_vectors(IvfIndex *index, Tier tier, BlockNumber group, const BlockNumber *table,
                    uint32 member, uint32 piece, int lock, ann::VectorHeader **slot) {
    const ann::ListLayout &layout = index->layout(tier);
    Buffer buffer =
        read_page(index, table[layout.page_of(member, piece)], vectors_kind(tier), group, lock);
    *slot = ann::vector_slot(layout, BufferGetPage(buffer), layout.slot_of(member, piece));
    return buffer;
}

ann::GroupHeader read_list_header(IvfIndex *index, BlockNumber first) {
    Buffer buffer = read_page(index, first, kListGroup, first, BUFFER_LOCK_SHARE);
    ann::GroupHeader header = ann::group_header(BufferGetPage(buffer));
    UnlockReleaseBuffer(buffer);
    return header;
}

uint64 count_pages(const ann::ListLayout &layout, Page page) {
    const BlockNumber *table = ann::vector_table(layout, page);
    return 1 + layout.vector_pages -
           std::count(table, table + layout.vector_pages, InvalidBlockNumber);
}

RootEntry *read_root(IvfIndex *index, uint64 *pages) {
    uint32 lists = index->meta.lists, count = 0;
    auto *entries = static_cast<RootEntry *>(
        MemoryContextAllocHuge(CurrentMemoryContext, lists * sizeof(RootEntry)));
    GroupWalk walk = walk_list(index->meta.root);
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        Buffer buffer = next_group(index, Tier::kRoot, &walk, BUFFER_LOCK_SHARE);
        if (!BufferIsValid(buffer))
            break;
        Page page = BufferGetPage(buffer);
        if (pages != nullptr)
            *pages += count_pages(index->root, page);
        for (uint32 i = 0; i < index->root.members; i++) {
            ann::Tid tid = member_tid(index->root, page, i);
            if (tid.offset == 0)
                continue;
            if (count == lists)
                report_corruption(index->relation, index->meta.root, "too many lists");
            entries[count++] = {list_block(tid), BufferGetBlockNumber(buffer), i};
        }
        UnlockReleaseBuffer(buffer);
    }
    if (count < lists)
        report_corruption(index->relation, index->meta.root, "too few lists");
    return entries;
}

void move_insert_page(IvfIndex *index, BlockNumber first, BlockNumber from, BlockNumber to) {
    Buffer buffer = read_page(index, first, kListGroup, first, BUFFER_LOCK_EXCLUSIVE);
    if (ann::group_header(BufferGetPage(buffer)).insert_page == from) {
        GenericXLogState *state = GenericXLogStart(index->relation);
        ann::group_header(GenericXLogRegisterBuffer(state, buffer, 0)).insert_page = to;
        GenericXLogFinish(state);
    }
    UnlockReleaseBuffer(buffer);
}

Buffer new_page(IvfIndex *index) {
    Buffer buffer = recycled_page(index->relation);
    if (BufferIsValid(buffer))
        return buffer;
    bool shared = !RELATION_IS_LOCAL(index->relation);
    if (shared)
        LockRelationForExtension(index->relation, ExclusiveLock);
    buffer = ReadBuffer(index->relation, P_NEW);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    if (shared)
        UnlockRelationForExtension(index->relation, ExclusiveLock);
    return buffer;
}

} // namespace ivf
