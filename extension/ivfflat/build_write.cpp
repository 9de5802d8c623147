// Where a build puts things: each group's pages of vectors, then the group, so that a list is
// written as its members come; lists one after another, then the root, which is a list as well;
// the metapage, block 0, is written first and says where the root is when all is there.
#include "extension/ivfflat/build.h"
#include "extension/pg/append_page.h"

namespace ivf {
namespace {

uint32 vector_pages(const ann::ListLayout &l, uint64 members) {
    if (!l.has_codes())
        return 0;
    return static_cast<uint32>((members * l.pieces + l.slots - 1) / l.slots);
}

void append(ListWriter *w, const char *image) {
    pg::append_page(w->index->relation, w->fork, w->next_block, image);
    w->next_block++;
}

void start_group(ListWriter *w) {
    const ann::ListLayout &l = w->index->layout(w->tier);
    w->in_group = static_cast<uint32>(Min(w->left, l.members));
    w->member = 0;
    w->group = w->next_block + vector_pages(l, w->in_group);
    init_page(w->index, w->group_image, group_kind(w->tier), w->first, 0);
    uint64 later = Min(w->left - w->in_group, l.members);
    if (later > 0)
        ann::group_header(w->group_image).next = w->group + 1 + vector_pages(l, later);
}

void put_vector(ListWriter *w, const BuildRow &row) {
    const ann::ListLayout &l = w->index->layout(w->tier);
    for (uint32 piece = 0; piece < l.pieces; piece++) {
        uint32 number = l.page_of(w->member, piece);
        if (number != w->vector_page || (w->member == 0 && piece == 0)) {
            if (w->member > 0 || piece > 0)
                append(w, w->vector_image);
            init_page(w->index, w->vector_image, vectors_kind(w->tier), w->group,
                      static_cast<uint16>(number));
            w->vector_page = number;
            ann::vector_table(l, w->group_image)[number] = w->next_block;
        }
        ann::VectorHeader *slot = ann::vector_slot(l, w->vector_image, l.slot_of(w->member, piece));
        *slot = {row.tid, static_cast<uint16>(piece), row.multiplier, 0};
        uint32 offset = piece * l.piece_bytes;
        memcpy(ann::slot_vector(slot), row.vector + offset,
               Min(l.piece_bytes, l.vector_bytes - offset));
    }
}

void write_meta(ListWriter *w, BlockNumber root, uint32 lists) {
    Meta meta = w->index->meta;
    meta.root = root;
    meta.lists = lists;
    init_meta_page(w->group_image, meta);
    pg::replace_page(w->index->relation, w->fork, kMetaBlock, w->group_image);
}

// The mean of all centroids, palloc'd.
float *root_center(const BuildLists &lists, uint32 dim) {
    auto *center = static_cast<float *>(palloc0(dim * sizeof(float)));
    for (uint32 i = 0; i < lists.count(); i++)
        for (uint32 j = 0; j < dim; j++)
            center[j] += lists.centroids[static_cast<size_t>(i) * dim + j] / lists.count();
    return center;
}

} // namespace

ListWriter make_writer(const IvfIndex *index, ForkNumber fork) {
    ListWriter w = {};
    w.index = index;
    w.fork = fork;
    w.group_image = static_cast<char *>(palloc(BLCKSZ));
    w.vector_image = static_cast<char *>(palloc(BLCKSZ));
    init_meta_page(w.group_image, index->meta);
    append(&w, w.group_image);
    return w;
}

BlockNumber begin_list(ListWriter *w, Tier tier, uint64 count, float scale, float squared_norm) {
    const ann::ListLayout &l = w->index->layout(tier);
    w->tier = tier;
    w->left = count;
    w->first = w->next_block + vector_pages(l, Min(count, l.members));
    start_group(w);
    ann::GroupHeader &header = ann::group_header(w->group_image);
    header.insert_page = w->first;
    header.scale = scale;
    header.squared_norm = squared_norm;
    if (count == 0)
        append(w, w->group_image);
    return w->first;
}

void add_member(ListWriter *w, const BuildRow &row, bool live) {
    const ann::ListLayout &l = w->index->layout(w->tier);
    if (w->member == w->in_group)
        start_group(w);
    if (l.has_codes()) {
        put_vector(w, row);
        uint32 place = w->member % ann::kBlock;
        ann::ListBlock block = ann::list_block(l, w->group_image, w->member / ann::kBlock);
        ann::put_member(block, place, row.factors, row.code);
        block.tids()[place] = row.tid;
        if (live)
            block.live() |= 1U << place;
    } else {
        ann::VectorHeader *slot = ann::vector_slot(l, w->group_image, w->member);
        *slot = {row.tid, 0, row.multiplier, 0};
        memcpy(ann::slot_vector(slot), row.vector, l.vector_bytes);
    }
    w->member++;
    w->left--;
    if (w->member < w->in_group)
        return;
    if (l.has_codes())
        append(w, w->vector_image);
    append(w, w->group_image);
}

void write_root(ListWriter *w, const BuildLists &lists, const BlockNumber *firsts) {
    const IvfIndex *index = w->index;
    const ann::ListLayout &l = index->root;
    uint32 dim = index->meta.dim;
    ann::Metric metric = index->form.code_metric();
    float *center = root_center(lists, dim);
    auto *origin = static_cast<float *>(palloc0(l.padded * sizeof(float)));
    auto *rotated = static_cast<float *>(palloc0(l.padded * sizeof(float)));
    auto *code = static_cast<uint8 *>(palloc0(ann::code_bytes(l.coded, l.bits)));
    BuildRow row = {};
    row.multiplier = 1;
    row.code = code;
    BlockNumber root = begin_list(w, Tier::kRoot, lists.count() + uint64{l.has_codes()}, 1,
                                  center_norm(index, center, 1));
    if (l.has_codes()) {
        rotate_center(index, center, 1, origin);
        row.vector = reinterpret_cast<const uint8 *>(center);
        add_member(w, row, false);
    }
    for (uint32 i = 0; i < lists.count(); i++) {
        const float *centroid = &lists.centroids[static_cast<size_t>(i) * dim];
        row.vector = reinterpret_cast<const uint8 *>(centroid);
        row.tid = list_tid(firsts[i]);
        if (l.has_codes()) {
            rotate_center(index, centroid, 1, rotated);
            row.factors =
                ann::encode_member(metric, origin, rotated, l.padded, l.coded, l.bits, code);
        }
        add_member(w, row);
    }
    write_meta(w, root, lists.count());
}

} // namespace ivf
