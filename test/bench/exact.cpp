#include "test/bench/exact.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <stdexcept>
#include <thread>

namespace bench {

namespace {

constexpr size_t kLanes = 16; // sums side by side: what compilers turn into vector instructions

template <typename Term> float sum(std::span<const float> a, std::span<const float> b, Term term) {
    std::array<float, kLanes> lanes{};
    size_t i = 0;
    for (; i + kLanes <= a.size(); i += kLanes)
        for (size_t lane = 0; lane < kLanes; lane++)
            lanes[lane] += term(a[i + lane], b[i + lane]);
    float total = 0;
    for (; i < a.size(); i++)
        total += term(a[i], b[i]);
    for (float lane : lanes)
        total += lane;
    return total;
}

} // namespace

Exact::Exact(const Vectors &base, const Vectors &queries, Metric metric)
    : base_(base), queries_(queries), metric_(metric), tenth_(queries.size()) {
    if (base.size() < kNeighbours)
        throw std::runtime_error("fewer vectors than neighbours to find");
    std::atomic<size_t> next = 0;
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency()); i++)
        threads.emplace_back([&] {
            for (size_t query = next++; query < tenth_.size(); query = next++)
                tenth_[query] = tenth_distance(query);
        });
}

float Exact::distance(size_t query, size_t id) const {
    if (metric_ == Metric::kCosine)
        return -sum(queries_[query], base_[id], [](float a, float b) { return a * b; });
    return sum(queries_[query], base_[id], [](float a, float b) { return (a - b) * (a - b); });
}

float Exact::tenth_distance(size_t query) const {
    std::vector<float> distances(base_.size());
    for (size_t id = 0; id < distances.size(); id++)
        distances[id] = distance(query, id);
    std::ranges::nth_element(distances, distances.begin() + (kNeighbours - 1));
    return distances[kNeighbours - 1];
}

double Exact::recall(const Answers &answers) const {
    size_t found = 0;
    for (size_t query = 0; query < queries_.size(); query++) {
        Ids ids = answers.at(query);
        std::ranges::sort(ids);
        ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
        size_t near = 0;
        for (int64_t id : ids)
            near += id >= 0 && static_cast<size_t>(id) < base_.size() &&
                    distance(query, static_cast<size_t>(id)) <= tenth_[query];
        found += std::min(near, kNeighbours);
    }
    return static_cast<double>(found) / static_cast<double>(queries_.size() * kNeighbours);
}

} // namespace bench
