#include "extension/hnsw/build_images.h"

#include "extension/hnsw/write.h"

#include <chrono>
#include <thread>

namespace vec {

// ---------------------------------------------------------------- where things go
BuildPlan::BuildPlan(const GraphIndex &graph, const ann::GraphBuilder &builder,
                     const ann::BuildRows &rows)
    : graph_(graph), size_(builder.size()), first_upper_(size_ + 1), first_side_(size_ + 1),
      first_overflow_(size_ + 1) {
    for (uint32 node = 0; node < size_; node++) {
        uint64 count = 0;
        rows.for_each_tid(node, [&](ann::Tid) { count++; });
        first_upper_[node + 1] = first_upper_[node] + builder.level(node);
        first_side_[node + 1] = first_side_[node] + (count - 1) / ann::kTidsPerElement;
        size_t bytes = layout().sparse() ? graph.space.bytes(builder.vector(node)) : 0;
        first_overflow_[node + 1] = first_overflow_[node] + layout().overflow_slots(bytes);
    }
    upper_base_ = end_of_elements();
    side_base_ = upper(first_upper_[size_] + slots(kUpperPage) - 1).block;
    overflow_base_ = side(first_side_[size_] + slots(kSidePage) - 1).block;
}

ann::Link BuildPlan::element(uint32 node) const {
    if (!layout().spanned())
        return {1 + node / slots(kElementPage), static_cast<uint16>(node % slots(kElementPage)), 0};
    uint32 blocks_per_group =
        group_size() * blocks_per_element() + (layout().rest_bytes > 0 ? 1 : 0);
    return {1 + node / group_size() * blocks_per_group + node % group_size() * blocks_per_element(),
            0, 0};
}

BlockNumber BuildPlan::rest_block(uint32 node) const {
    uint32 last = Min(node / group_size() * group_size() + group_size(), size_) - 1;
    return element(last).block + blocks_per_element();
}

BlockNumber BuildPlan::end_of_elements() const {
    uint32 last = size_ - 1;
    if (!layout().spanned())
        return element(last).block + 1;
    return rest_block(last) + (layout().rest_bytes > 0 ? 1 : 0);
}

ann::Link BuildPlan::nth(BlockNumber base, PageKind kind, uint64 number) const {
    return {static_cast<BlockNumber>(base + number / slots(kind)),
            static_cast<uint16>(number % slots(kind)), 0};
}

// ---------------------------------------------------------------- images
BuildImages::BuildImages(const GraphIndex &graph, ann::GraphBuilder &builder,
                         const ann::BuildRows &rows, bool keep_rotated)
    : graph_(graph), builder_(builder), rows_(rows), plan_(graph, builder, rows),
      padded_(ann::padded_dim(graph.layout.dim)), bytes_(graph.layout.size),
      rotated_(keep_rotated ? static_cast<size_t>(builder.size()) * padded_ : 0),
      ring_(bytes_ * kRing), ready_(kRing) {}

size_t BuildImages::rotated_bytes(const GraphIndex &graph, uint32 size) {
    return static_cast<size_t>(size) * ann::padded_dim(graph.layout.dim) * sizeof(float);
}

void BuildImages::rotate_all(const std::atomic<bool> &stop) {
    constexpr uint32 kBatch = 64;
    while (!stop && !rotated_.empty()) {
        uint32 first = rotating_.fetch_add(kBatch);
        if (first >= builder_.size())
            return;
        for (uint32 node = first; node < std::min(first + kBatch, builder_.size()); node++)
            rotate(node, &rotated_[static_cast<size_t>(node) * padded_]);
    }
}

void BuildImages::make(const std::atomic<bool> &stop) {
    for (uint32 node = making_++; node < builder_.size(); node = making_++) {
        while (node >= taken_ + kRing) {
            if (stop)
                return;
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
        if (stop)
            return;
        fill(node, {place(node)});
        ready_[node % kRing].store(true, std::memory_order_release);
    }
}

uint8 *BuildImages::next() {
    uint32 node = taken_;
    return ready_[node % kRing].load(std::memory_order_acquire) ? place(node) : nullptr;
}

void BuildImages::done() {
    ready_[taken_ % kRing] = false;
    taken_++;
}

void BuildImages::rotate(uint32 node, float *out) const {
    float room[kMaxCodedDim];
    ann::rotate(graph_.meta.rotation_seed, graph_.space.floats(builder_.vector(node), room),
                graph_.layout.dim, out);
}

const float *BuildImages::rotated(uint32 node, Rotated *room) const {
    if (!rotated_.empty())
        return &rotated_[static_cast<size_t>(node) * padded_];
    rotate(node, room->x);
    return room->x;
}

void BuildImages::encode(const ann::NeighborList &list, uint32 node, const uint32 *neighbors,
                         uint32 count) const {
    Rotated from_room, to_room;
    EdgeCode edge;
    const float *from = rotated(node, &from_room);
    for (uint32 i = 0; i < count; i++) {
        if (neighbors[i] == ann::kNoNode)
            continue;
        encode_edge(&graph_, from, rotated(neighbors[i], &to_room), &edge);
        put_edge(&graph_, list, i, edge);
    }
}

void BuildImages::fill(uint32 node, ann::ElementImage image) const {
    const ann::ElementLayout &l = graph_.layout;
    ann::NeighborLists &lists = builder_.lists();
    int level = builder_.level(node);
    image.clear(l, 0, ann::SlotState::kLive, static_cast<uint8>(level));
    ann::ElementHeader &header = image.header();
    rows_.for_each_tid(node, [&](ann::Tid tid) {
        if (header.tid_count < ann::kTidsPerElement)
            header.tids[header.tid_count++] = tid;
    });
    if (level > 0)
        header.upper = plan_.upper(plan_.first_upper(node) + level - 1);
    if (plan_.first_side(node + 1) > plan_.first_side(node))
        header.duplicates = plan_.side(plan_.first_side(node));
    for (uint32 i = 0; i < l.slots; i++) {
        uint32 neighbor = lists.of(node)[i];
        if (neighbor == ann::kNoNode)
            continue;
        image.links(l)[i] = plan_.element(neighbor);
        image.distances(l)[i] = lists.distances_of(node)[i];
        image.set_kept(i, lists.is_kept(node, i));
    }
    put_vector(&graph_, image, builder_.vector(node));
    if (plan_.first_overflow(node + 1) > plan_.first_overflow(node))
        image.overflow(l) = plan_.overflow(plan_.first_overflow(node));
    if (l.code_bytes > 0)
        encode(image.list(l), node, lists.of(node).data(), l.slots);
}

} // namespace vec
