#include "extension/ivfflat/list_search.h"

#include "extension/pg/recent_buffers.h"

namespace ivf {

using ann::MemberQuery;

namespace {

ann::QueryTable make_table(const ann::ListLayout &layout, const float *rotated) {
    if (!layout.has_codes())
        return {};
    auto *sums = static_cast<uint8 *>(palloc(ann::table_bytes(layout.coded)));
    return ann::make_table(rotated, layout.coded, layout.bits, sums);
}

// Members that are live have all their pages, unless the group is damaged.
bool has_pages(const ann::ListLayout &layout, const BlockNumber *table, uint32 member) {
    for (uint32 page = layout.page_of(member, 0); page <= layout.page_of(member, layout.pieces - 1);
         page++)
        if (table[page] == InvalidBlockNumber)
            return false;
    return true;
}

void report_missing_page(const IvfIndex *index, BlockNumber group) {
    report_corruption(index->relation, group, "a member without a page");
}

} // namespace

Query make_query(const IvfIndex *index, const IndexedValue &value) {
    Query query = {};
    query.value = value;
    query.floats = value.floats;
    query.squared_norm = ann::squared_norm(query.floats, index->meta.dim);
    if (!index->root.has_codes() && !index->list.has_codes())
        return query;
    auto *rotated = static_cast<float *>(palloc(ann::padded_dim(index->meta.dim) * sizeof(float)));
    ann::rotate(index->meta.rotation_seed, query.floats, index->meta.dim, rotated);
    query.root_table = make_table(index->root, rotated);
    query.list_table = make_table(index->list, rotated);
    return query;
}

ListSearch::ListSearch(IvfIndex *index, Tier tier, ann::Arena arena)
    : index_(index), tier_(tier), frontier_(arena), groups_(arena), tables_(arena), exact_(arena),
      gathered_(arena) {
    if (layout().pieces > 1)
        gathered_.extend(static_cast<size_t>(layout().pieces) * layout().piece_bytes);
}

void ListSearch::clear() {
    frontier_.clear();
    groups_.clear();
    tables_.clear();
    exact_.clear();
    looked_at_ = 0;
}

void ListSearch::start(const Query *query, bool exhaustive) {
    query_ = query;
    exhaustive_ = exhaustive;
}

const ann::QueryTable &ListSearch::query_table() const {
    return tier_ == Tier::kRoot ? query_->root_table : query_->list_table;
}

float ListSearch::distance(const ann::VectorHeader *slot, const uint8 *vector) const {
    float distance;
    if (tier_ == Tier::kRoot) {
        const auto *centroid = reinterpret_cast<const float *>(vector);
        distance = index_->form.code_metric() == ann::Metric::kL2
                       ? ann::kernels().l2_squared(query_->floats, centroid, index_->meta.dim)
                       : -ann::kernels().inner_product(query_->floats, centroid, index_->meta.dim);
    } else {
        distance = ivf::distance(index_->form, query_->value, vector, slot->multiplier);
    }
    // Sums that overflowed both ways.
    return distance == distance ? distance : std::numeric_limits<float>::infinity();
}

MemberQuery ListSearch::member_query(float distance, float squared_norm) const {
    MemberQuery query(index_->form.code_metric(), query_table(), distance, squared_norm,
                      static_cast<float>(query_->squared_norm));
    if (exhaustive_)
        query.error_factor = std::numeric_limits<float>::infinity();
    return query;
}

uint32 ListSearch::add_group(BlockNumber block, BlockNumber list, Page page) {
    groups_.push_back({block, list, tables_.size()});
    uint32 pages = layout().vector_pages;
    memcpy(tables_.extend(pages), ann::vector_table(layout(), page), pages * sizeof(BlockNumber));
    return static_cast<uint32>(groups_.size() - 1);
}

void ListSearch::add_bounds(uint32 group, uint32 first, const float *bounds) {
    ann::Link links[ann::kBlock];
    for (uint32 i = 0; i < ann::kBlock; i++)
        links[i] = {group, static_cast<uint16_t>(first + i), 0};
    frontier_.add(links, bounds, ann::kBlock, std::numeric_limits<float>::infinity());
}

void ListSearch::add_blocks(uint32 group, Page page, const MemberQuery &query) {
    for (uint32 i = 0; i < layout().blocks; i++) {
        ann::ListBlock block = ann::list_block(layout(), page, i);
        if (block.live() == 0)
            continue;
        float bounds[ann::kBlock];
        ann::member_bounds(query_table(), block, query, bounds);
        add_bounds(group, i * ann::kBlock, bounds);
    }
}

// Without codes: exact distances at once.
void ListSearch::add_slots(uint32 group, Page page) {
    float distances[ann::kBlock];
    for (uint32 first = 0; first < layout().members; first += ann::kBlock) {
        for (uint32 i = 0; i < ann::kBlock; i++) {
            distances[i] = std::numeric_limits<float>::quiet_NaN();
            if (first + i >= layout().members)
                continue;
            ann::VectorHeader *slot = ann::vector_slot(layout(), page, first + i);
            if (slot->tid.offset == 0)
                continue;
            distances[i] = distance(slot, ann::slot_vector(slot));
            looked_at_++;
        }
        add_bounds(group, first, distances);
    }
}

void ListSearch::add_members(BlockNumber first, const MemberQuery *query) {
    GroupWalk walk = walk_list(first);
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        BlockNumber block = walk.next;
        Buffer buffer = next_group(index_, tier_, &walk, BUFFER_LOCK_SHARE);
        if (!BufferIsValid(buffer))
            return;
        Page page = BufferGetPage(buffer);
        uint32 group = add_group(block, first, page);
        if (query != nullptr)
            add_blocks(group, page, *query);
        else
            add_slots(group, page);
        UnlockReleaseBuffer(buffer);
    }
}

void ListSearch::add_list(const ListPlace &list) {
    if (!layout().has_codes()) {
        add_members(list.first, nullptr);
        return;
    }
    ann::GroupHeader header = read_list_header(index_, list.first);
    float center = list.distance;
    if (index_->form.code_metric() != ann::Metric::kL2)
        center *= header.scale;
    MemberQuery query = member_query(center, header.squared_norm);
    add_members(list.first, &query);
}

// The root's centre is its member 0, which is not live.
void ListSearch::add_root() {
    BlockNumber root = index_->meta.root;
    if (!layout().has_codes()) {
        add_members(root, nullptr);
        return;
    }
    Buffer buffer = read_page(index_, root, kRootGroup, root, BUFFER_LOCK_SHARE);
    ann::GroupHeader header = ann::group_header(BufferGetPage(buffer));
    uint32 group = add_group(root, root, BufferGetPage(buffer));
    UnlockReleaseBuffer(buffer);
    Member center = {};
    center.group = group;
    look_at_vector(groups_[group], &center);
    groups_.clear();
    tables_.clear();
    MemberQuery query = member_query(center.distance, header.squared_norm);
    add_members(root, &query);
}

void ListSearch::push(const Member &member) {
    exact_.push_back(member);
    std::push_heap(exact_.begin(), exact_.end(),
                   [](const Member &a, const Member &b) { return a.distance > b.distance; });
}

// Finds a member's exact distance, and its TID as it is now: if the place was given to another row
// since its code was read, that row's, with that row's distance.
void ListSearch::look_at_vector(const Group &group, Member *member) {
    const ann::ListLayout &l = layout();
    const BlockNumber *table = tables_.begin() + group.table;
    if (!has_pages(l, table, member->member))
        report_missing_page(index_, group.page);
    ann::VectorHeader *slot;
    looked_at_++;
    if (l.pieces == 1) {
        Buffer buffer = read_vectors(index_, tier_, group.page, table, member->member, 0,
                                     BUFFER_LOCK_SHARE, &slot);
        member->tid = slot->tid;
        member->distance = distance(slot, ann::slot_vector(slot));
        UnlockReleaseBuffer(buffer);
        return;
    }
    ann::VectorHeader header =
        copy_vector(index_, tier_, group.page, table, member->member, gathered_.begin());
    member->tid = header.tid;
    member->distance = distance(&header, gathered_.begin());
}

void ListSearch::look(ann::Link link) {
    const Group &group = groups_[link.block];
    Member member = {0, {}, link.block, link.slot};
    if (layout().has_codes()) {
        look_at_vector(group, &member);
    } else {
        Buffer buffer =
            read_page(index_, group.page, group_kind(tier_), group.list, BUFFER_LOCK_SHARE);
        ann::VectorHeader *slot = ann::vector_slot(layout(), BufferGetPage(buffer), link.slot);
        member.tid = slot->tid;
        member.distance = distance(slot, ann::slot_vector(slot));
        UnlockReleaseBuffer(buffer);
    }
    if (member.tid.offset != 0) // else vacuum has removed it
        push(member);
}

// What look() will touch first.
void ListSearch::prefetch(ann::Link link) const {
    const ann::ListLayout &l = layout();
    if (!l.has_codes())
        return;
    const BlockNumber *table = tables_.begin() + groups_[link.block].table;
    BlockNumber block = table[l.page_of(link.slot, 0)];
    if (block == InvalidBlockNumber)
        return;
    const char *page = pg::prepare_recent_page(index_->relation, block);
    if (page == nullptr)
        return;
    constexpr uint32 kLines = 8; // the processor goes on by itself
    const char *slot = page + ann::kListSlotsOffset + l.slot_of(link.slot, 0) * l.slot_bytes;
    __builtin_prefetch(page);
    __builtin_prefetch(page + ann::kListPageEnd);
    for (uint32 i = 0; i < kLines; i++)
        __builtin_prefetch(slot + i * 64);
}

bool ListSearch::next(Member *member) {
    for (;;) {
        if (!exact_.empty() && (frontier_.empty() || exact_[0].distance <= frontier_.distance())) {
            *member = exact_[0];
            std::pop_heap(exact_.begin(), exact_.end(),
                          [](const Member &a, const Member &b) { return a.distance > b.distance; });
            exact_.pop_back();
            return true;
        }
        if (frontier_.empty())
            return false;
        CHECK_FOR_INTERRUPTS();
        ann::Link link = frontier_.nearest();
        frontier_.pop(std::numeric_limits<float>::infinity());
        if (!frontier_.empty())
            prefetch(frontier_.nearest());
        look(link);
    }
}

ann::VectorHeader copy_vector(IvfIndex *index, Tier tier, BlockNumber group,
                              const BlockNumber *table, uint32 member, uint8 *out) {
    const ann::ListLayout &l = index->layout(tier);
    ann::VectorHeader header = {};
    if (!has_pages(l, table, member))
        report_missing_page(index, group);
    for (uint32 piece = 0; piece < l.pieces; piece++) {
        ann::VectorHeader *slot;
        Buffer buffer =
            read_vectors(index, tier, group, table, member, piece, BUFFER_LOCK_SHARE, &slot);
        if (piece == 0)
            header = *slot;
        uint32 offset = piece * l.piece_bytes;
        memcpy(out + offset, ann::slot_vector(slot), Min(l.piece_bytes, l.vector_bytes - offset));
        UnlockReleaseBuffer(buffer);
    }
    return header;
}

FoundList nearest_list(IvfIndex *index, const float *floats, ann::Arena arena, float *centroid) {
    IndexedValue value = {};
    value.floats = floats;
    Query query = make_query(index, value);
    ListSearch search(index, Tier::kRoot, arena);
    search.start(&query, false);
    search.add_root();
    Member member;
    if (!search.next(&member))
        report_corruption(index->relation, index->meta.root, "no list");
    FoundList found = {list_block(member.tid), search.group_page(member), member.member,
                       member.distance};
    if (index->root.has_codes()) {
        copy_vector(index, Tier::kRoot, found.root_group, search.table(member), found.member,
                    reinterpret_cast<uint8 *>(centroid));
        return found;
    }
    Buffer buffer =
        read_page(index, found.root_group, kRootGroup, index->meta.root, BUFFER_LOCK_SHARE);
    ann::VectorHeader *slot = ann::vector_slot(index->root, BufferGetPage(buffer), found.member);
    memcpy(centroid, ann::slot_vector(slot), index->meta.dim * sizeof(float));
    UnlockReleaseBuffer(buffer);
    return found;
}

ann::Arena arena_in(MemoryContext context) {
    return {[](void *owner, size_t bytes) {
                return MemoryContextAllocHuge(static_cast<MemoryContext>(owner), bytes);
            },
            [](void *, void *memory) { pfree(memory); }, context};
}

} // namespace ivf
