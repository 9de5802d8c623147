#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "extension/core/centroids.h"
#include "extension/core/distance.h"

namespace ann {
namespace {

constexpr uint32_t kIterations = 20;
constexpr uint32_t kFewMoves = 200;     // ends when fewer than one in so many points moves
constexpr uint32_t kSeedingPoints = 16; // points a cluster that k-means++ looks at

using Random = std::mt19937_64;

// The generator's bits as a number in [0, 1): the same with every standard library.
double uniform(Random &random) {
    return static_cast<double>(random() >> 11) * 0x1p-53;
}
uint32_t below(Random &random, uint32_t count) {
    return static_cast<uint32_t>(uniform(random) * count);
}

// One flat run.
class Clustering {
  public:
    Clustering(const KMeansTask &task)
        : task_(task), random_(task.seed), clusters_(task.count), scores_(task.count),
          order_(task.count) {}

    std::vector<float> run(const RunThreads &run);

  private:
    const float *point(uint32_t i) const {
        return task_.points + static_cast<size_t>(i) * task_.dim;
    }
    float *centroid(uint32_t i) { return &centroids_[static_cast<size_t>(i) * task_.dim]; }
    uint32_t count() const { return static_cast<uint32_t>(centroids_.size() / task_.dim); }

    void choose_first(const std::atomic<bool> &stop);
    void lower_distances(const std::vector<uint32_t> &sample, std::vector<float> *distances);
    uint32_t draw(const std::vector<float> &distances);
    void assign(const NearestRows &nearest, const std::atomic<bool> &stop);
    void sort_by_cluster();
    void average(uint32_t cluster, std::vector<double> *sums);
    void normalize(float *centroid, uint32_t fallback);
    void fill_empty();
    void drop_empty();

    KMeansTask task_;
    Random random_;
    std::vector<float> centroids_;
    std::vector<uint32_t> clusters_; // of each point
    std::vector<float> scores_;      // NearestRows'
    std::vector<uint32_t> order_;    // points by cluster
    std::vector<uint32_t> first_;    // of each cluster in order_; and the end
    std::vector<uint32_t> empty_;    // clusters that were left without a point
    std::atomic<uint32_t> next_ = 0, moved_ = 0;
};

// Each first centroid is a point, drawn with a probability that grows with the squared distance
// from those already drawn. Ends early when all points that it looks at are covered.
void Clustering::choose_first(const std::atomic<bool> &stop) {
    std::vector<uint32_t> sample(task_.count);
    std::iota(sample.begin(), sample.end(), 0);
    uint64_t wanted = std::max<uint64_t>(uint64_t{task_.clusters} * kSeedingPoints, 4096);
    if (wanted < task_.count) {
        for (uint32_t i = 0; i < wanted; i++)
            std::swap(sample[i], sample[i + below(random_, task_.count - i)]);
        sample.resize(wanted);
    }
    std::vector<float> distances(sample.size(), std::numeric_limits<float>::infinity());
    centroids_.reserve(static_cast<size_t>(task_.clusters) * task_.dim);
    uint32_t chosen = below(random_, static_cast<uint32_t>(sample.size()));
    do {
        const float *x = point(sample[chosen]);
        centroids_.insert(centroids_.end(), x, x + task_.dim);
        distances[chosen] = 0;
        if (count() == task_.clusters)
            break;
        lower_distances(sample, &distances);
        chosen = draw(distances);
    } while (chosen < sample.size() && !stop);
}

// Distances from the nearest centroid, after another was added.
void Clustering::lower_distances(const std::vector<uint32_t> &sample,
                                 std::vector<float> *distances) {
    const float *last = centroid(count() - 1);
    for (size_t i = 0; i < sample.size(); i++) {
        float distance = kernels().l2_squared(point(sample[i]), last, task_.dim);
        if (std::isfinite(distance))
            (*distances)[i] = std::min((*distances)[i], distance);
        else if ((*distances)[i] > 0) // too far for a float
            (*distances)[i] = std::min((*distances)[i], std::numeric_limits<float>::max());
    }
}

// The place drawn; the size when there is nothing to be covered any more.
uint32_t Clustering::draw(const std::vector<float> &distances) {
    double total = 0;
    for (float distance : distances)
        total += distance;
    double target = uniform(random_) * total;
    auto chosen = static_cast<uint32_t>(distances.size());
    for (uint32_t i = 0; i < distances.size(); i++) {
        if (!(distances[i] > 0))
            continue;
        chosen = i;
        target -= distances[i];
        if (target < 0)
            break;
    }
    return chosen;
}

// A thread's share of the points.
void Clustering::assign(const NearestRows &nearest, const std::atomic<bool> &stop) {
    constexpr uint32_t kBatch = NearestRows::kBatch;
    uint32_t moved = 0;
    for (uint32_t i; !stop && (i = next_.fetch_add(kBatch)) < task_.count;) {
        uint32_t rows[kBatch];
        uint32_t batch = std::min(kBatch, task_.count - i);
        nearest.find(point(i), batch, rows, &scores_[i]);
        for (uint32_t k = 0; k < batch; k++) {
            moved += clusters_[i + k] != rows[k];
            clusters_[i + k] = rows[k];
        }
    }
    moved_ += moved;
}

void Clustering::sort_by_cluster() {
    first_.assign(count() + 1, 0);
    for (uint32_t cluster : clusters_)
        first_[cluster + 1]++;
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    std::vector<uint32_t> place(first_.begin(), first_.end() - 1);
    for (uint32_t i = 0; i < task_.count; i++)
        order_[place[clusters_[i]]++] = i;
}

// sums: room for them; in double, so that large numbers do not overflow.
void Clustering::average(uint32_t cluster, std::vector<double> *sums) {
    uint32_t first = first_[cluster], last = first_[cluster + 1];
    if (first == last)
        return;
    float *mean = centroid(cluster);
    sums->assign(task_.dim, 0);
    for (uint32_t k = first; k < last; k++) {
        const float *x = point(order_[k]);
        for (uint32_t j = 0; j < task_.dim; j++)
            (*sums)[j] += x[j];
    }
    for (uint32_t j = 0; j < task_.dim; j++)
        mean[j] = static_cast<float>((*sums)[j] / (last - first));
    if (task_.spherical)
        normalize(mean, order_[first]);
}

// Opposite points have no mean direction: one of them stands for it.
void Clustering::normalize(float *centroid, uint32_t fallback) {
    double norm = std::sqrt(squared_norm(centroid, task_.dim));
    if (!(norm > 1e-6)) {
        std::memcpy(centroid, point(fallback), task_.dim * sizeof(float));
        return;
    }
    for (uint32_t j = 0; j < task_.dim; j++)
        centroid[j] = static_cast<float>(centroid[j] / norm);
}

// An empty cluster takes over a point that is far from its own centroid.
void Clustering::fill_empty() {
    empty_.clear();
    for (uint32_t cluster = 0; cluster < count(); cluster++)
        if (first_[cluster] == first_[cluster + 1])
            empty_.push_back(cluster);
    if (empty_.empty())
        return;
    std::vector<std::pair<float, uint32_t>> far(task_.count);
    for (uint32_t i = 0; i < task_.count; i++) {
        float distance = kernels().l2_squared(point(i), centroid(clusters_[i]), task_.dim);
        far[i] = {std::isfinite(distance) ? distance : std::numeric_limits<float>::max(), i};
    }
    size_t wanted = std::min(empty_.size(), far.size());
    std::partial_sort(far.begin(), far.begin() + static_cast<ptrdiff_t>(wanted), far.end(),
                      [](auto &a, auto &b) {
                          return a.first != b.first ? a.first > b.first : a.second < b.second;
                      });
    size_t filled = 0;
    for (; filled < wanted && far[filled].first > 0; filled++)
        std::memcpy(centroid(empty_[filled]), point(far[filled].second), task_.dim * sizeof(float));
    empty_.erase(empty_.begin(), empty_.begin() + static_cast<ptrdiff_t>(filled));
    moved_ += static_cast<uint32_t>(filled);
}

void Clustering::drop_empty() {
    uint32_t kept = 0;
    for (uint32_t cluster = 0; cluster < count(); cluster++)
        if (!std::binary_search(empty_.begin(), empty_.end(), cluster))
            std::memmove(centroid(kept++), centroid(cluster), task_.dim * sizeof(float));
    centroids_.resize(static_cast<size_t>(kept) * task_.dim);
}

std::vector<float> Clustering::run(const RunThreads &run) {
    if (task_.count == 0)
        return {};
    run(false, [this](const std::atomic<bool> &stop) { choose_first(stop); });
    for (uint32_t iteration = 0; iteration < kIterations; iteration++) {
        NearestRows nearest(centroids_.data(), count(), task_.dim, task_.spherical);
        next_ = moved_ = 0;
        run(true, [&](const std::atomic<bool> &stop) { assign(nearest, stop); });
        sort_by_cluster();
        next_ = 0;
        run(true, [this](const std::atomic<bool> &stop) {
            std::vector<double> sums;
            for (uint32_t cluster; !stop && (cluster = next_++) < count();)
                average(cluster, &sums);
        });
        run(false, [this](const std::atomic<bool> &) { fill_empty(); });
        if (iteration > 0 && moved_ <= task_.count / kFewMoves)
            break;
    }
    drop_empty();
    return std::move(centroids_);
}

// ------------------------------------------------------------------ two steps

// How many of `clusters` each part of that many points gets: in proportion, at least one.
std::vector<uint32_t> share_out(const std::vector<uint32_t> &sizes, uint32_t clusters) {
    std::vector<uint32_t> shares(sizes.size());
    uint64_t points = std::accumulate(sizes.begin(), sizes.end(), uint64_t{0});
    uint64_t given = 0, seen = 0;
    for (size_t i = 0; i < sizes.size(); i++) {
        seen += sizes[i];
        uint64_t due = clusters * seen / std::max<uint64_t>(points, 1);
        shares[i] = sizes[i] == 0
                        ? 0
                        : static_cast<uint32_t>(std::max<uint64_t>(due - std::min(due, given), 1));
        given += shares[i];
    }
    return shares;
}

class TwoSteps {
  public:
    TwoSteps(const KMeansTask &task) : task_(task) {}
    std::vector<float> run(const RunThreads &run);

  private:
    void divide(const std::vector<float> &coarse, const RunThreads &run);
    void cluster_part(size_t part, const std::atomic<bool> &stop);

    KMeansTask task_;
    std::vector<std::vector<uint32_t>> parts_;
    std::vector<uint32_t> shares_;
    std::vector<std::vector<float>> centroids_;
    std::atomic<uint32_t> next_ = 0;
};

void TwoSteps::divide(const std::vector<float> &coarse, const RunThreads &run) {
    auto count = static_cast<uint32_t>(coarse.size() / task_.dim);
    NearestRows nearest(coarse.data(), count, task_.dim, task_.spherical);
    std::vector<uint32_t> part(task_.count);
    std::vector<float> scores(task_.count);
    run(true, [&](const std::atomic<bool> &stop) {
        constexpr uint32_t kBatch = NearestRows::kBatch;
        for (uint32_t i; !stop && (i = next_.fetch_add(kBatch)) < task_.count;)
            nearest.find(task_.points + static_cast<size_t>(i) * task_.dim,
                         std::min(kBatch, task_.count - i), &part[i], &scores[i]);
    });
    parts_.resize(count);
    for (uint32_t i = 0; i < task_.count; i++)
        parts_[part[i]].push_back(i);
    std::vector<uint32_t> sizes;
    for (const std::vector<uint32_t> &members : parts_)
        sizes.push_back(static_cast<uint32_t>(members.size()));
    shares_ = share_out(sizes, task_.clusters);
    centroids_.resize(count);
}

void TwoSteps::cluster_part(size_t part, const std::atomic<bool> &stop) {
    if (parts_[part].empty())
        return;
    std::vector<float> points(parts_[part].size() * task_.dim);
    float *to = points.data();
    for (uint32_t i : parts_[part]) {
        std::memcpy(to, task_.points + static_cast<size_t>(i) * task_.dim,
                    task_.dim * sizeof(float));
        to += task_.dim;
    }
    KMeansTask task = task_;
    task.points = points.data();
    task.count = static_cast<uint32_t>(parts_[part].size());
    task.clusters = shares_[part];
    task.seed = task_.seed + part + 1;
    auto here = [&stop](bool, const ThreadWork &work) { work(stop); };
    centroids_[part] = Clustering(task).run(here);
}

std::vector<float> TwoSteps::run(const RunThreads &run) {
    KMeansTask coarse = task_;
    coarse.clusters = static_cast<uint32_t>(std::sqrt(task_.clusters));
    divide(Clustering(coarse).run(run), run);
    next_ = 0;
    run(true, [this](const std::atomic<bool> &stop) {
        for (uint32_t part; !stop && (part = next_++) < parts_.size();)
            cluster_part(part, stop);
    });
    std::vector<float> all;
    for (const std::vector<float> &some : centroids_)
        all.insert(all.end(), some.begin(), some.end());
    size_t most = static_cast<size_t>(task_.clusters) * task_.dim;
    all.resize(std::min(all.size(), most));
    return all;
}

} // namespace

std::vector<float> kmeans(const KMeansTask &task, const RunThreads &run) {
    if (task.clusters <= kFlatClusters || task.clusters >= task.count)
        return Clustering(task).run(run);
    return TwoSteps(task).run(run);
}

size_t kmeans_bytes(uint32_t count, uint32_t dim, uint32_t clusters) {
    size_t rows = static_cast<size_t>(clusters) * (dim + 2) * sizeof(float);
    size_t parts = clusters > kFlatClusters ? rows : 0;
    return rows + parts + static_cast<size_t>(count) * 6 * sizeof(uint32_t);
}

} // namespace ann
