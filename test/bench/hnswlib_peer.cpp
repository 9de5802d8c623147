// The only file that is compiled with -march=native, and the only one with hnswlib in it.
#include "test/bench/hnswlib_peer.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <hnswlib/hnswlib.h>
#pragma GCC diagnostic pop

#include <atomic>
#include <thread>

namespace bench {

namespace {

std::unique_ptr<hnswlib::SpaceInterface<float>> make_space(Metric metric, size_t dim) {
    if (metric == Metric::kCosine)
        return std::make_unique<hnswlib::InnerProductSpace>(dim);
    return std::make_unique<hnswlib::L2Space>(dim);
}

} // namespace

struct HnswlibPeer::Graph {
    std::unique_ptr<hnswlib::SpaceInterface<float>> space;
    hnswlib::HierarchicalNSW<float> index;

    Graph(Metric metric, size_t dim, size_t capacity, size_t m, size_t ef_construction)
        : space(make_space(metric, dim)), index(space.get(), capacity, m, ef_construction) {}
};

HnswlibPeer::HnswlibPeer(Metric metric, size_t dim, size_t capacity, size_t m,
                         size_t ef_construction)
    : graph_(std::make_unique<Graph>(metric, dim, capacity, m, ef_construction)) {}

HnswlibPeer::~HnswlibPeer() = default;

void HnswlibPeer::build(const Vectors &base, int threads) {
    std::atomic<size_t> next = 0;
    std::vector<std::jthread> workers;
    workers.reserve(static_cast<size_t>(threads));
    for (int i = 0; i < threads; i++)
        workers.emplace_back([&] {
            for (size_t id = next++; id < base.size(); id = next++)
                add(base[id], id);
        });
}

void HnswlibPeer::add(std::span<const float> vector, size_t id) {
    graph_->index.addPoint(vector.data(), id);
}

Answers HnswlibPeer::search(const Vectors &queries, size_t ef) {
    graph_->index.setEf(ef);
    Answers answers;
    answers.reserve(queries.size());
    for (size_t i = 0; i < queries.size(); i++) {
        auto heap = graph_->index.searchKnn(queries[i].data(), kNeighbours);
        Ids ids;
        for (; !heap.empty(); heap.pop())
            ids.push_back(static_cast<int64_t>(heap.top().second));
        answers.push_back(std::move(ids));
    }
    return answers;
}

} // namespace bench
