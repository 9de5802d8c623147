// Times the hnsw index of one or more servers beside hnswlib in this process, on the same vectors.
// `make bench` (run.py) calls it; README.md says what is measured and how.
//
// usage: hnsw_compare NAME=VALUE ... (bench_options.cpp)
// Prints one measurement a line, values separated by tabs:
//   measurement WHO WHAT EF ROUND VALUE        EF is 0 where it does not matter
//   fact NAME VALUE
#include "test/bench/bench_options.h"
#include "test/bench/exact.h"
#include "test/bench/hnswlib_peer.h"
#include "test/bench/postgres_peer.h"
#include "test/bench/process.h"
#include "test/bench/stopwatch.h"

#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <cstdio>
#include <memory>
#include <thread>

namespace bench {
namespace {

constexpr const char *kHnswlib = "hnswlib";

class Bench {
  public:
    explicit Bench(BenchOptions options);
    void run();

  private:
    void build_all(int round);
    void build_hnswlib(int round);
    void search_all();
    void search_round(std::vector<std::vector<Searcher>> &searchers, int round, bool warm_up);
    void search_hnswlib(size_t ef, int round);
    void search_server(std::vector<Searcher> &sessions, size_t ef, int round);
    void insert_all();
    void vacuum_all(int round);
    void delete_and_insert(PostgresPeer &peer);
    void recall_of(PostgresPeer &peer, const std::string &what);
    void measured(const std::string &who, const std::string &what, size_t ef, int round,
                  double value);
    void searched(const std::string &who, const std::string &form, size_t ef, int round,
                  const Answers &answers, double per_second);

    BenchOptions options_;
    Dataset data_;
    // What hnswlib and the exact answers compare: of length 1 under cosine.
    Vectors base_;
    Vectors queries_;
    std::unique_ptr<Exact> exact_;
    std::vector<std::unique_ptr<PostgresPeer>> peers_;
    std::unique_ptr<HnswlibPeer> hnswlib_;
    bool quiet_ = false; // while warming up
};

void say(const std::string &text) {
    std::fprintf(stderr, "   %s\n", text.c_str());
}

Bench::Bench(BenchOptions options) : options_(std::move(options)) {
    if (options_.has("insert"))
        options_.data.fresh = options_.insert_rows * static_cast<size_t>(options_.rounds);
    data_ = load(options_.data);
    bool cosine = data_.metric == Metric::kCosine;
    base_ = cosine ? data_.base.normalized() : data_.base;
    queries_ = cosine ? data_.queries.normalized() : data_.queries;
    std::printf("fact\tname\t%s\nfact\tvectors\t%zu\nfact\tdimensions\t%zu\nfact\tmetric\t%s\n"
                "fact\tqueries\t%zu\n",
                data_.name.c_str(), base_.size(), base_.dim(), cosine ? "cosine" : "l2",
                queries_.size());
    say(std::to_string(base_.size()) + " vectors of " + std::to_string(base_.dim()) +
        " dimensions; exact answers, loading");
    exact_ = std::make_unique<Exact>(base_, queries_, data_.metric);
    for (const PostgresOptions &server : options_.servers)
        peers_.push_back(
            std::make_unique<PostgresPeer>(server, data_.metric, data_.base, data_.queries));
}

void Bench::measured(const std::string &who, const std::string &what, size_t ef, int round,
                     double value) {
    if (!quiet_)
        std::printf("measurement\t%s\t%s\t%zu\t%d\t%.9g\n", who.c_str(), what.c_str(), ef, round,
                    value);
    std::fflush(stdout);
}

void Bench::searched(const std::string &who, const std::string &form, size_t ef, int round,
                     const Answers &answers, double per_second) {
    measured(who, "recall " + form, ef, round, exact_->recall(answers));
    measured(who, "q/s " + form, ef, round, per_second);
}

// Index and graph are built in each round where their building or vacuuming is asked for, else once
// for the searches.
void Bench::run() {
    const bool every_round = options_.has("build") || options_.has("vacuum");
    const int rounds = every_round ? options_.rounds : options_.has("search") ? 1 : 0;
    for (int round = 0; round < rounds; round++) {
        build_all(round);
        if (options_.has("search") && round == 0)
            search_all();
        if (options_.has("vacuum"))
            vacuum_all(round);
    }
    hnswlib_.reset();
    if (options_.has("insert"))
        insert_all();
}

// ------------------------------------------------------------------ building
void Bench::build_all(int round) {
    build_hnswlib(round);
    for (auto &peer : peers_) {
        const std::string &name = peer->options().name;
        if (round > 0 && options_.has("vacuum"))
            peer->reload();
        IndexBuild build = peer->build(options_.ef_construction);
        measured(name, "build seconds", 0, round, build.seconds);
        measured(name, "pages per element", 0, round,
                 peer->index_pages() / static_cast<double>(base_.size()));
        if (build.peak_kilobytes)
            measured(name, "build kB", 0, round, static_cast<double>(*build.peak_kilobytes));
        if (build.private_kilobytes)
            measured(name, "build private kB", 0, round,
                     static_cast<double>(*build.private_kilobytes));
        if (build.threads)
            measured(name, "build threads", 0, round, static_cast<double>(*build.threads));
        say("build " + std::to_string(round + 1) + ": " + name + " " +
            std::to_string(build.seconds) + " s");
    }
}

void Bench::build_hnswlib(int round) {
    hnswlib_.reset();
    const size_t before = reset_own_peak();
    double seconds = seconds_of([&] {
        hnswlib_ = std::make_unique<HnswlibPeer>(data_.metric, base_.dim(), base_.size(),
                                                 options_.m, options_.ef_construction);
        hnswlib_->build(base_, options_.threads);
    });
    size_t peak = process_status(getpid(), "VmHWM").value_or(0);
    measured(kHnswlib, "build seconds", 0, round, seconds);
    measured(kHnswlib, "build kB", 0, round, static_cast<double>(peak - std::min(peak, before)));
    say("build " + std::to_string(round + 1) + ": hnswlib " + std::to_string(seconds) + " s");
}

// ------------------------------------------------------------------ searching
// Queries a second of two clients at once: all queries by each, from other ends.
double two_clients(std::vector<Searcher> &searchers, size_t queries, Answers &answers) {
    std::barrier start(3);
    std::jthread other([&] {
        start.arrive_and_wait();
        searchers[1].each(queries / 2);
        start.arrive_and_wait();
    });
    std::jthread one([&] {
        start.arrive_and_wait();
        answers = searchers[0].each();
        start.arrive_and_wait();
    });
    start.arrive_and_wait();
    double seconds = seconds_of([&] { start.arrive_and_wait(); });
    return static_cast<double>(2 * queries) / seconds;
}

void Bench::search_all() {
    std::vector<std::vector<Searcher>> searchers;
    for (auto &peer : peers_) {
        std::vector<Searcher> sessions;
        sessions.push_back(peer->searcher());
        sessions.push_back(peer->searcher());
        searchers.push_back(std::move(sessions));
    }
    const BenchOptions all = options_;
    options_.efs = {all.efs.back()};
    options_.server_efs = {all.server_efs.back()};
    search_round(searchers, 0, true);
    options_ = all;
    for (int round = 0; round < options_.rounds; round++) {
        say("search " + std::to_string(round + 1));
        search_round(searchers, round, false);
    }
}

// hnswlib and the servers in turn, also where they have other values to go through.
void Bench::search_round(std::vector<std::vector<Searcher>> &searchers, int round, bool warm_up) {
    quiet_ = warm_up;
    const size_t steps = std::max(options_.efs.size(), options_.server_efs.size());
    for (size_t step = 0; step < steps; step++) {
        if (step < options_.efs.size())
            search_hnswlib(options_.efs[step], round);
        if (step < options_.server_efs.size())
            for (std::vector<Searcher> &sessions : searchers)
                search_server(sessions, options_.server_efs[step], round);
    }
    quiet_ = false;
}

void Bench::search_hnswlib(size_t ef, int round) {
    const auto queries = static_cast<double>(queries_.size());
    Answers answers;
    const double cpu = thread_cpu_seconds();
    const double seconds = seconds_of([&] { answers = hnswlib_->search(queries_, ef); });
    measured(kHnswlib, "q/cpu s one", ef, round, queries / (thread_cpu_seconds() - cpu));
    searched(kHnswlib, "one", ef, round, answers, queries / seconds);
}

void Bench::search_server(std::vector<Searcher> &sessions, size_t ef, int round) {
    const auto queries = static_cast<double>(queries_.size());
    const std::string &name = sessions[0].options().name;
    Answers answers;
    for (Searcher &session : sessions)
        session.set_ef(ef);
    double seconds = seconds_of([&] { answers = sessions[0].each(); });
    searched(name, "one", ef, round, answers, queries / seconds);
    const double both = two_clients(sessions, queries_.size(), answers);
    searched(name, "two", ef, round, answers, both);
    const std::optional<double> before = sessions[0].cpu_seconds();
    seconds = seconds_of([&] { answers = sessions[0].all(); });
    if (before)
        measured(name, "q/cpu s inside", ef, round,
                 queries / (*sessions[0].cpu_seconds() - *before));
    searched(name, "inside", ef, round, answers, queries / seconds);
}

void Bench::recall_of(PostgresPeer &peer, const std::string &what) {
    Searcher searcher = peer.searcher();
    for (size_t ef : options_.server_efs) {
        searcher.set_ef(ef);
        measured(peer.options().name, what, ef, 0, exact_->recall(searcher.each()));
    }
}

// ------------------------------------------------------------------ changing rows
// Into an index and a graph of their own, of a lower ef_construction.
void Bench::insert_all() {
    const auto rounds = static_cast<size_t>(options_.rounds);
    const size_t rows = std::min(options_.insert_rows, data_.fresh.size() / rounds);
    if (rows < 2)
        throw std::runtime_error("too few vectors to insert");
    const Vectors &raw = data_.fresh;
    const Vectors fresh = data_.metric == Metric::kCosine ? raw.normalized() : raw;
    HnswlibPeer hnswlib(data_.metric, base_.dim(), base_.size() + fresh.size(), options_.m,
                        options_.insert_ef_construction);
    hnswlib.build(base_, options_.threads);
    for (auto &peer : peers_) {
        peer->reload();
        peer->build(options_.insert_ef_construction);
    }
    for (size_t round = 0; round < rounds; round++) {
        const size_t first = round * rows;
        const size_t half = first + rows / 2;
        const size_t last = first + rows;
        double seconds = seconds_of([&] {
            for (size_t i = first; i < last; i++)
                hnswlib.add(fresh[i], base_.size() + i);
        });
        auto number = static_cast<int>(round);
        auto rate = [&](size_t count) { return static_cast<double>(count) / seconds; };
        measured(kHnswlib, "inserts/s", 0, number, rate(rows));
        for (auto &peer : peers_) {
            seconds = peer->insert(raw, first, half, false);
            measured(peer->options().name, "inserts/s each committed", 0, number,
                     rate(half - first));
            seconds = peer->insert(raw, half, last, true);
            measured(peer->options().name, "inserts/s one transaction", 0, number,
                     rate(last - half));
        }
        say("insert " + std::to_string(round + 1));
    }
}

void Bench::vacuum_all(int round) {
    const bool last = round == options_.rounds - 1;
    for (auto &peer : peers_) {
        if (last)
            recall_of(*peer, "recall fresh");
        peer->remove(10, "0, 2");
        double seconds = peer->vacuum();
        measured(peer->options().name, "vacuum seconds", 0, round, seconds);
        say("vacuum " + std::to_string(round + 1) + ": " + peer->options().name + " " +
            std::to_string(seconds) + " s");
        if (last)
            delete_and_insert(*peer);
    }
}

// Every other row is gone in the end (a part of them is already), and comes back.
void Bench::delete_and_insert(PostgresPeer &peer) {
    peer.remove(2, "0");
    peer.vacuum();
    Ids gone;
    for (size_t id = 0; id < base_.size(); id += 2)
        gone.push_back(static_cast<int64_t>(id));
    double seconds = peer.copy(gone);
    say("inserted half again: " + peer.options().name + " " + std::to_string(seconds) + " s");
    measured(peer.options().name, "inserts/s by COPY", 0, 0,
             static_cast<double>(gone.size()) / seconds);
    recall_of(peer, "recall after half was deleted and inserted");
}

} // namespace
} // namespace bench

int main(int argc, char **argv) {
    try {
        bench::Bench(bench::parse_options({argv + 1, argv + argc})).run();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "hnsw_compare: %s\n", error.what());
        return 1;
    }
    return 0;
}
