// The only translation unit with hnswlib in it: its headers define what may be defined once.
#include "extension/core/graph_builder.h"

#include "extension/core/byte_vectors.h"
#include "extension/core/rotation.h"

// Everything hnswlib includes, so that its own includes add nothing to the namespace below.
// NOLINTBEGIN(modernize-deprecated-headers): hnswlib includes these very names.
#include <assert.h>
#include <stdlib.h>
#include <string.h>
// NOLINTEND(modernize-deprecated-headers)

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cmath>
#include <deque>
#include <fstream>
#include <iostream>
#include <list>
#include <mutex>
#include <queue>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#define NO_MANUAL_VECTORIZATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wtype-limits"
#pragma GCC diagnostic ignored "-Wreorder"
namespace ann {
namespace {
#include <hnswlib/hnswlib.h>
}
} // namespace ann
#pragma GCC diagnostic pop

namespace ann {
namespace {

constexpr size_t kJoinSearchWidth = 200; // for connecting what a walk does not reach

// Vectors come from all over memory. Asking for all of one at once keeps more of it under way than
// the processor's own guess; hnswlib's prefetch, of its first line only, is left out with
// NO_MANUAL_VECTORIZATION.
template <Metric metric> float space_distance(const void *a, const void *b, const void *dim_place) {
    size_t dim = *static_cast<const size_t *>(dim_place);
    const auto *bytes = static_cast<const char *>(b);
    for (size_t offset = 0; offset < dim * sizeof(float); offset += 64)
        __builtin_prefetch(bytes + offset);
    return metric_distance(metric, static_cast<const float *>(a), static_cast<const float *>(b),
                           dim);
}

float byte_distance(const void *a, const void *b, const void *vectors_place) {
    const auto *vectors = static_cast<const ByteVectors *>(vectors_place);
    const auto *bytes = static_cast<const uint8_t *>(b);
    for (size_t offset = 0; offset < vectors->bytes(); offset += 64)
        __builtin_prefetch(bytes + offset);
    return vectors->distance(static_cast<const uint8_t *>(a), bytes);
}

// Of vectors that stay where they are: hnswlib has their addresses.
float pointed_distance(const void *a, const void *b, const void *space_place) {
    const auto *space = static_cast<const VectorSpace *>(space_place);
    auto pointed = [](const void *place) {
        const void *vector;
        memcpy(&vector, place, sizeof(vector));
        return vector;
    };
    return space->distance(pointed(a), pointed(b));
}

// hnswlib's view of our kernels; `bytes` may be null.
class Space : public hnswlib::SpaceInterface<float> {
  public:
    Space(const VectorSpace &space, const ByteVectors *bytes)
        : space_(space), dim_(space.dim), bytes_(bytes) {}

    bool by_pointer() const { return bytes_ == nullptr && space_.form != VectorForm::kFloats; }
    size_t get_data_size() override {
        if (bytes_ != nullptr)
            return bytes_->bytes();
        return by_pointer() ? sizeof(const void *) : space_.bytes();
    }
    void *get_dist_func_param() override {
        if (bytes_ != nullptr)
            return const_cast<ByteVectors *>(bytes_);
        return by_pointer() ? static_cast<void *>(&space_) : static_cast<void *>(&dim_);
    }
    hnswlib::DISTFUNC<float> get_dist_func() override {
        if (bytes_ != nullptr)
            return byte_distance;
        if (by_pointer())
            return pointed_distance;
        switch (space_.metric) {
        case Metric::kL2:
            return space_distance<Metric::kL2>;
        case Metric::kInnerProduct:
            return space_distance<Metric::kInnerProduct>;
        case Metric::kCosine:
            return space_distance<Metric::kCosine>;
        default:
            return space_distance<Metric::kL1>;
        }
    }

  private:
    VectorSpace space_;
    size_t dim_;
    const ByteVectors *bytes_;
};

// hnswlib says by a runtime_error that memory is short.
template <typename F> void with_bad_alloc(F f) {
    try {
        f();
    } catch (const std::runtime_error &error) {
        if (std::string_view(error.what()).starts_with("Not enough memory"))
            throw std::bad_alloc();
        throw;
    }
}

} // namespace

struct GraphBuilder::Impl {
    std::unique_ptr<ByteVectors> bytes; // null where floats are used
    Space space;
    hnswlib::HierarchicalNSW<float> graph;
    // hnswlib numbers nodes in the order threads get to them; we name them by entry.
    std::vector<uint32_t> internal_of;

    // Made small and then enlarged: its constructor leaks when memory is short, resizeIndex() not.
    Impl(const GraphOptions &options, uint32_t size, std::unique_ptr<ByteVectors> byte_vectors)
        : bytes(std::move(byte_vectors)), space(options.space, bytes.get()),
          graph(&space, 1, options.m, options.ef_construction), internal_of(size) {
        with_bad_alloc([&] { graph.resizeIndex(size); });
    }

    uint32_t entry_of(uint32_t internal) const {
        return static_cast<uint32_t>(graph.getExternalLabel(internal));
    }
};

GraphBuilder::GraphBuilder(const GraphOptions &options, BuildRows &rows)
    : options_(options), rows_(rows), lists_(rows.size(), options.slots) {
    std::unique_ptr<ByteVectors> bytes;
    if (options.by_bytes)
        bytes = std::make_unique<ByteVectors>(options.space.metric, rows);
    if (bytes != nullptr && !bytes->are_fine_enough())
        bytes = nullptr;
    options_.by_bytes = bytes != nullptr;
    impl_ = std::make_unique<Impl>(options_, rows.size(), std::move(bytes));
    rows_.start_consuming();
}

GraphBuilder::~GraphBuilder() = default;

size_t GraphBuilder::bytes_per_entry(const GraphOptions &options) {
    size_t vector = 0; // floats are taken over from BuildRows
    if (options.by_bytes)
        vector = ByteVectors::bytes(options.space.dim);
    else if (options.space.form != VectorForm::kFloats)
        vector = sizeof(const void *);
    size_t level0 = vector + (2 * options.m + 1) * 4 + sizeof(size_t);
    size_t upper = (options.m + 1) * 4 / options.m + 16;
    size_t bookkeeping = sizeof(void *) + 4 + sizeof(std::mutex) + 64 + 3 * sizeof(short) + 4;
    size_t result = options.slots * (4 + 4) + (options.slots + 31) / 32 * 4;
    return level0 + upper + bookkeeping + result;
}

void GraphBuilder::add_all(const std::atomic<bool> &stop) {
    const ByteVectors *bytes = impl_->bytes.get();
    std::vector<float> room(bytes != nullptr ? 2 * padded_dim(options_.space.dim) : 0);
    std::vector<float> floats(bytes != nullptr ? options_.space.dim : 0);
    std::vector<uint8_t> encoded(bytes != nullptr ? bytes->bytes() : 0);
    while (!stop) {
        uint32_t entry = next_++;
        if (entry >= rows_.size())
            return;
        const void *vector = rows_.vector(entry);
        const void *added = impl_->space.by_pointer() ? &vector : vector;
        if (bytes != nullptr) {
            bytes->encode(options_.space.floats(vector, floats.data()), room.data(),
                          encoded.data());
            added = encoded.data();
        }
        with_bad_alloc(
            [&] { impl_->internal_of[entry] = impl_->graph.addPoint(added, entry, -1); });
        if (!keeps_rows())
            rows_.consume(entry);
        added_++;
    }
}

float GraphBuilder::near_distance(uint32_t a, uint32_t b) const {
    if (impl_->bytes == nullptr)
        return distance(a, b);
    return byte_distance(point(a), point(b), impl_->bytes.get());
}

void GraphBuilder::collect_lists(const std::atomic<bool> &stop) {
    constexpr uint32_t kBatch = 64;
    while (!stop) {
        uint32_t first = collected_.fetch_add(kBatch);
        if (first >= size())
            return;
        for (uint32_t node = first; node < std::min(first + kBatch, size()); node++)
            collect_list(node);
    }
}

void GraphBuilder::collect_list(uint32_t node) {
    const unsigned int *data = impl_->graph.get_linklist0(impl_->internal_of[node]);
    uint32_t count =
        std::min<uint32_t>(impl_->graph.getListCount(const_cast<unsigned *>(data)), options_.slots);
    std::vector<std::pair<float, uint32_t>> list;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = impl_->entry_of(data[1 + i]);
        if (other != node)
            list.emplace_back(distance(node, other), other);
    }
    mark_chosen(list);
    if (options_.fill && list.size() < options_.slots)
        add_two_hops(node, list);
    std::sort(list.begin(), list.end());
    for (uint32_t i = 0; i < list.size(); i++) {
        lists_.of(node)[i] = list[i].second;
        lists_.distances_of(node)[i] = list[i].first;
    }
}

// hnswlib appends to a list that has room without choosing; inserts are to know which it would
// choose (neighbor_selection.h).
void GraphBuilder::mark_chosen(std::vector<std::pair<float, uint32_t>> &list) {
    std::sort(list.begin(), list.end());
    for (size_t i = 0; i < list.size(); i++) {
        bool covered = false;
        for (size_t j = 0; j < i && !covered; j++)
            covered = is_chosen(list[j].first) &&
                      near_distance(list[i].second, list[j].second) < list[i].first;
        list[i].first = with_chosen(list[i].first, !covered);
    }
}

void GraphBuilder::add_two_hops(uint32_t node, std::vector<std::pair<float, uint32_t>> &list) {
    // Enough to choose from; the neighbours of the nearest neighbours come first.
    size_t wanted = options_.slots - list.size();
    size_t enough = 4 * wanted;
    std::sort(list.begin(), list.end());
    std::vector<uint32_t> seen = {node};
    for (auto &[near, neighbor] : list)
        seen.push_back(neighbor);
    size_t own = seen.size();
    for (size_t i = 1; i < own && seen.size() < own + enough; i++) {
        const unsigned *data = impl_->graph.get_linklist0(impl_->internal_of[seen[i]]);
        uint32_t count = impl_->graph.getListCount(const_cast<unsigned *>(data));
        for (uint32_t j = 0; j < count; j++) {
            uint32_t other = impl_->entry_of(data[1 + j]);
            if (std::find(seen.begin(), seen.end(), other) == seen.end())
                seen.push_back(other);
        }
    }
    std::vector<std::pair<float, uint32_t>> further;
    for (size_t i = own; i < seen.size(); i++)
        further.emplace_back(near_distance(node, seen[i]), seen[i]);
    wanted = std::min(wanted, further.size());
    std::partial_sort(further.begin(), further.begin() + wanted, further.end());
    for (size_t i = 0; i < wanted; i++)
        further[i].first = with_chosen(distance(node, further[i].second), false);
    list.insert(list.end(), further.begin(), further.begin() + wanted);
}

void GraphBuilder::connect() {
    impl_->graph.setEf(kJoinSearchWidth);
    auto nearest = [&](uint32_t node) {
        auto found = impl_->graph.searchKnn(point(node), kJoinSearchWidth);
        std::vector<uint32_t> nodes(found.size());
        for (size_t i = nodes.size(); i-- > 0; found.pop())
            nodes[i] = static_cast<uint32_t>(found.top().second);
        return nodes;
    };
    keep_connected(lists_, nearest, [&](uint32_t a, uint32_t b) { return distance(a, b); });
}

uint32_t GraphBuilder::entry_point() const {
    return impl_->entry_of(impl_->graph.enterpoint_node_);
}

int GraphBuilder::level(uint32_t node) const {
    return std::min(impl_->graph.element_levels_[impl_->internal_of[node]], kMaxLevel);
}

uint32_t GraphBuilder::upper_neighbors(uint32_t node, int level, uint32_t *out) const {
    const unsigned int *data = impl_->graph.get_linklist(impl_->internal_of[node], level);
    uint32_t count =
        std::min<uint32_t>(impl_->graph.getListCount(const_cast<unsigned *>(data)), options_.m);
    for (uint32_t i = 0; i < count; i++)
        out[i] = impl_->entry_of(data[1 + i]);
    return count;
}

const void *GraphBuilder::point(uint32_t node) const {
    return impl_->graph.getDataByInternalId(impl_->internal_of[node]);
}

bool GraphBuilder::keeps_rows() const {
    return impl_->bytes != nullptr || impl_->space.by_pointer();
}

const void *GraphBuilder::vector(uint32_t node) const {
    return keeps_rows() ? rows_.vector(node) : point(node);
}

} // namespace ann
