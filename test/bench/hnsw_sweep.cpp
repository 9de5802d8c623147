// Recall and speed of the hnsw index over libpq beside hnswlib in this process, on the same
// vectors with the same m and ef_construction; one thread, one client, rounds interleaved.
//
// usage: hnsw_sweep DATA_DIRECTORY CONNINFO [ROUNDS]
// DATA_DIRECTORY holds MNIST's IDX files; with train-images there the 60,000 training images are
// the base and 1,000 test images the queries, else 9,000 test images the base. The server has
// extension vector available; the table panvel_sweep is made and dropped.
#include "test/bench/client.h"
#include "test/bench/idx.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <hnswlib/hnswlib.h>
#pragma GCC diagnostic pop

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace {

using client::Buffer;
using client::Connection;
using client::Result;

constexpr size_t kNeighbours = 10;
constexpr size_t kQueries = 1000;
constexpr int kM = 16;
constexpr int kEfConstruction = 200;
constexpr int kEfs[] = {10, 20, 40, 80, 160, 320};

using Vectors = std::vector<std::vector<float>>;
using Ids = std::vector<int64_t>;

struct Data {
    Vectors base;
    Vectors queries;
    std::vector<Ids> exact;
};

double seconds_of(const std::function<void()> &work) {
    auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Vectors vectors_of(const idx::File &file, size_t first, size_t last) {
    Vectors vectors;
    for (size_t i = first; i < last; i++)
        vectors.emplace_back(file.item(i), file.item(i) + file.width);
    return vectors;
}

Data read_data(const std::string &directory) {
    idx::File test = idx::read(directory + "/t10k-images-idx3-ubyte.gz");
    std::string train = directory + "/train-images-idx3-ubyte.gz";
    Data data;
    if (std::filesystem::exists(train)) {
        idx::File file = idx::read(train);
        data.base = vectors_of(file, 0, file.count);
        data.queries = vectors_of(test, 0, kQueries);
    } else {
        data.base = vectors_of(test, 0, test.count - kQueries);
        data.queries = vectors_of(test, test.count - kQueries, test.count);
    }
    return data;
}

class Hnswlib {
  public:
    explicit Hnswlib(const Vectors &base)
        : space_(base[0].size()), graph_(&space_, base.size(), kM, kEfConstruction) {
        for (size_t i = 0; i < base.size(); i++)
            graph_.addPoint(base[i].data(), i);
    }
    std::vector<Ids> search(const Vectors &queries, int ef) {
        graph_.setEf(static_cast<size_t>(ef));
        std::vector<Ids> answers;
        for (const std::vector<float> &query : queries) {
            auto heap = graph_.searchKnn(query.data(), kNeighbours);
            Ids ids;
            for (; !heap.empty(); heap.pop())
                ids.push_back(static_cast<int64_t>(heap.top().second));
            answers.push_back(std::move(ids));
        }
        return answers;
    }

  private:
    hnswlib::L2Space space_;
    hnswlib::HierarchicalNSW<float> graph_;
};

class Panvel {
  public:
    Panvel(const std::string &conninfo, const Vectors &base) : connection_(conninfo) {
        connection_.query("create extension if not exists vector");
        connection_.query("drop table if exists panvel_sweep");
        connection_.query("create table panvel_sweep (id bigint, embedding vector(" +
                          std::to_string(base[0].size()) + "))");
        connection_.copy_start("copy panvel_sweep from stdin (format binary)");
        Buffer buffer;
        buffer.add_text({"PGCOPY\n\377\r\n\0", 11});
        buffer.add64(0);
        for (size_t i = 0; i < base.size(); i++) {
            Buffer vector;
            vector.add_vector(base[i]);
            buffer.add16(2);
            buffer.add32(8);
            buffer.add64(i);
            buffer.add32(static_cast<uint32_t>(vector.bytes().size()));
            buffer.add_text(vector.bytes());
            connection_.copy_put(buffer);
            buffer.clear();
        }
        buffer.add16(0xffff);
        connection_.copy_put(buffer);
        connection_.copy_end();
    }
    ~Panvel() {
        try {
            connection_.query("drop table panvel_sweep");
        } catch (const client::Error &) {
            // The server is gone, and the table's cleaning up with it.
        }
    }
    Panvel(const Panvel &) = delete;
    Panvel &operator=(const Panvel &) = delete;

    void build() {
        connection_.query("create index on panvel_sweep using hnsw (embedding vector_l2_ops) "
                          "with (m = " +
                          std::to_string(kM) +
                          ", ef_construction = " + std::to_string(kEfConstruction) + ")");
        connection_.query("vacuum analyze panvel_sweep");
        connection_.prepare("knn", kKnn, "vector");
        connection_.query("set enable_seqscan = off; set plan_cache_mode = force_generic_plan");
        Result plan = connection_.query("explain execute knn('[" + zeros() + "]')");
        for (int row = 0; row < plan.rows(); row++)
            if (plan.value(row, 0).find("using panvel_sweep_embedding_idx") != std::string::npos)
                return;
        throw client::Error("the query does not use the index");
    }
    std::string index_size() {
        return connection_.value("select pg_size_pretty(pg_relation_size("
                                 "'panvel_sweep_embedding_idx'))");
    }
    std::vector<Ids> search(const std::vector<Buffer> &queries, int ef) {
        connection_.query("set hnsw.ef_search = " + std::to_string(ef));
        std::vector<Ids> answers;
        for (const Buffer &query : queries) {
            Result result = connection_.execute("knn", query);
            Ids ids;
            for (int row = 0; row < result.rows(); row++)
                ids.push_back(result.int64(row, 0));
            answers.push_back(std::move(ids));
        }
        return answers;
    }

  private:
    static constexpr const char *kKnn =
        "select id from panvel_sweep order by embedding <-> $1 limit 10";
    std::string zeros() {
        std::string text = "1";
        int dimensions = std::stoi(connection_.value(
            "select atttypmod from pg_attribute where attrelid = 'panvel_sweep'::regclass "
            "and attname = 'embedding'"));
        for (int i = 1; i < dimensions; i++)
            text += ",0";
        return text;
    }

    Connection connection_;
};

// By brute force in this process: no part of what is measured.
std::vector<Ids> exact_answers(const Data &data) {
    hnswlib::L2Space space(data.base[0].size());
    auto distance = space.get_dist_func();
    std::vector<Ids> answers;
    std::vector<std::pair<float, int64_t>> all(data.base.size());
    for (const std::vector<float> &query : data.queries) {
        for (size_t i = 0; i < all.size(); i++)
            all[i] = {distance(query.data(), data.base[i].data(), space.get_dist_func_param()),
                      static_cast<int64_t>(i)};
        std::partial_sort(all.begin(), all.begin() + kNeighbours, all.end());
        Ids ids;
        for (size_t i = 0; i < kNeighbours; i++)
            ids.push_back(all[i].second);
        answers.push_back(std::move(ids));
    }
    return answers;
}

double recall(const std::vector<Ids> &answers, const std::vector<Ids> &exact) {
    size_t found = 0;
    for (size_t i = 0; i < exact.size(); i++) {
        std::set<int64_t> ids(answers[i].begin(), answers[i].end());
        for (int64_t id : exact[i])
            found += ids.count(id);
    }
    return static_cast<double>(found) / static_cast<double>(exact.size() * kNeighbours);
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

void run(const std::string &directory, const std::string &conninfo, int rounds) {
    Data data = read_data(directory);
    std::vector<Buffer> parameters(data.queries.size());
    for (size_t i = 0; i < parameters.size(); i++)
        parameters[i].add_vector(data.queries[i]);
    data.exact = exact_answers(data);
    std::printf("%zu vectors of %zu dimensions, L2, m = %d, ef_construction = %d, %zu queries, "
                "medians of %d rounds\n",
                data.base.size(), data.base[0].size(), kM, kEfConstruction, data.queries.size(),
                rounds);

    std::unique_ptr<Hnswlib> hnswlib;
    double built = seconds_of([&] { hnswlib = std::make_unique<Hnswlib>(data.base); });
    std::printf("build: hnswlib, one thread, %.1f s; ", built);
    Panvel panvel(conninfo, data.base);
    built = seconds_of([&] { panvel.build(); });
    std::printf("hnsw index %.1f s, %s\n\n", built, panvel.index_size().c_str());

    std::printf("          hnswlib in process    hnsw over libpq\n");
    std::printf("   ef   recall@10       q/s   recall@10       q/s\n");
    for (int ef : kEfs) {
        std::vector<double> theirs, ours;
        std::vector<Ids> their_answers, our_answers;
        for (int round = 0; round < rounds; round++) {
            double queries = static_cast<double>(parameters.size());
            theirs.push_back(
                queries / seconds_of([&] { their_answers = hnswlib->search(data.queries, ef); }));
            ours.push_back(queries /
                           seconds_of([&] { our_answers = panvel.search(parameters, ef); }));
        }
        std::printf("%5d      %.4f %9.0f      %.4f %9.0f\n", ef, recall(their_answers, data.exact),
                    median(theirs), recall(our_answers, data.exact), median(ours));
        std::fflush(stdout);
    }
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: hnsw_sweep DATA_DIRECTORY CONNINFO [ROUNDS]\n");
        return 2;
    }
    try {
        run(argv[1], argv[2], argc > 3 ? std::stoi(argv[3]) : 5);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "hnsw_sweep: %s\n", error.what());
        return 1;
    }
    return 0;
}
