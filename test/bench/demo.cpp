// The demo's client: makes a cluster of running servers, loads handwritten digits into a
// distributed table, queries it, and measures the answers against exact ones.
//
// usage: panvel_demo DATA_DIRECTORY COORDINATOR_CONNINFO WORKER_CONNINFO...
// The servers have no database `demo` yet. Nodes are added as worker1, ... at 127.0.0.1 with the
// port that their connection has.
#include "test/bench/client.h"
#include "test/bench/drawing.h"
#include "test/bench/idx.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

using client::Buffer;
using client::Connection;
using client::Result;

constexpr size_t kRows = 9000; // the rest of the images are the queries
constexpr size_t kNeighbours = 10;
constexpr const char *kQuery = "select id, label, embedding <-> $1 as distance\n"
                               "from digits order by embedding <-> $1 limit 10";

struct Neighbour {
    int64_t id;
    int label;
    double distance;
};
using Answer = std::vector<Neighbour>; // nearest first

struct Digits {
    idx::File images;
    idx::File labels;

    size_t query_count() const { return images.count - kRows; }
    int label(size_t index) const { return *labels.item(index); }
    std::vector<float> vector(size_t index) const {
        const uint8_t *image = images.item(index);
        return {image, image + images.width};
    }
};

Digits read_digits(const std::string &directory) {
    Digits digits{idx::read(directory + "/t10k-images-idx3-ubyte.gz"),
                  idx::read(directory + "/t10k-labels-idx1-ubyte.gz")};
    if (digits.images.count != digits.labels.count || digits.images.count <= kRows ||
        digits.images.width != 28 * 28 || digits.labels.width != 1)
        throw std::runtime_error("not MNIST's test images and labels: " + directory);
    return digits;
}

// ------------------------------------------------------------------ what the user sees
class Progress {
  public:
    Progress(std::string what, size_t total) : what_(std::move(what)), total_(total) {}

    // At most ten times a second, and the last time.
    void show(size_t done) {
        auto now = std::chrono::steady_clock::now();
        bool last = done == total_;
        if (!last && (!terminal_ || now - shown_ < std::chrono::milliseconds(100)))
            return;
        shown_ = now;
        double seconds = std::chrono::duration<double>(now - start_).count();
        std::printf("%s%s %zu/%zu (%.0f per second)%s", terminal_ ? "\r" : "", what_.c_str(), done,
                    total_, static_cast<double>(done) / std::max(seconds, 1e-9), last ? "\n" : "");
        std::fflush(stdout);
    }

  private:
    std::string what_;
    size_t total_;
    bool terminal_ = isatty(STDOUT_FILENO) == 1;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    std::chrono::steady_clock::time_point shown_ = {};
};

// Runs a statement and shows it as psql would.
Result shown(Connection &connection, const std::string &sql) {
    std::printf("demo=# %s;\n", sql.c_str());
    std::fflush(stdout);
    return connection.query(sql);
}

void print_rows(const Result &result) {
    for (int row = 0; row < result.rows(); row++) {
        for (int column = 0; column < result.columns(); column++)
            std::printf("%s%s", column > 0 ? " | " : "  ",
                        std::string(result.value(row, column)).c_str());
        std::printf("\n");
    }
}

// ------------------------------------------------------------------ the cluster
std::string demo_database(const std::string &conninfo) {
    return conninfo + " dbname=demo";
}

void create_cluster(const std::string &coordinator, const std::vector<std::string> &workers) {
    Connection(coordinator).query("create database demo");
    Connection admin(demo_database(coordinator));
    shown(admin, "create extension panvel cascade");
    for (size_t i = 0; i < workers.size(); i++) {
        Connection(workers[i]).query("create database demo");
        Connection worker(demo_database(workers[i]));
        worker.query("create extension vector");
        shown(admin, "select panvel.add_node('worker" + std::to_string(i + 1) + "', '127.0.0.1', " +
                         worker.port() + ")");
    }
}

void load(Connection &connection, const Digits &digits) {
    shown(connection, "create table digits (id bigint primary key, label smallint not null, "
                      "embedding vector(784) not null)");
    shown(connection, "select panvel.create_distributed_table('digits', 'id')");
    std::printf("demo=# copy digits from stdin (format binary);\n");
    connection.copy_start("copy digits from stdin (format binary)");
    Progress progress("  rows loaded:", kRows);
    Buffer buffer;
    buffer.add_text({"PGCOPY\n\377\r\n\0", 11});
    buffer.add32(0);
    buffer.add32(0);
    for (size_t i = 0; i < kRows; i++) {
        Buffer vector;
        vector.add_vector(digits.vector(i));
        buffer.add16(3);
        buffer.add32(8);
        buffer.add64(i);
        buffer.add32(2);
        buffer.add16(static_cast<uint16_t>(digits.label(i)));
        buffer.add32(static_cast<uint32_t>(vector.bytes().size()));
        buffer.add_text(vector.bytes());
        connection.copy_put(buffer);
        buffer.clear();
        if (i + 1 < kRows)
            progress.show(i + 1);
    }
    buffer.add16(0xffff);
    connection.copy_put(buffer);
    connection.copy_end();
    progress.show(kRows);
    auto start = std::chrono::steady_clock::now();
    shown(connection, "create index on digits using hnsw (embedding vector_l2_ops)");
    auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start);
    std::printf("  %.1f s\n", seconds.count());
    shown(connection, "analyze digits");
    print_rows(shown(connection, "select shard_id, hash_min, hash_max, node, role, state, rows, "
                                 "pg_size_pretty(bytes) from panvel.shards order by shard_id"));
}

// ------------------------------------------------------------------ answers
Answer answer_of(const Result &result) {
    Answer answer;
    for (int row = 0; row < result.rows(); row++)
        answer.push_back({result.int64(row, 0), result.int16(row, 1), result.float64(row, 2)});
    return answer;
}

// The nearest of one worker's rows for every query, by sequential scans. They read a copy of the
// shards with the vectors inline: fetching each out of its TOAST table would take most of the time.
std::vector<Answer> exact_on_worker(const std::string &conninfo, const Digits &digits,
                                    std::atomic<size_t> &done) {
    Connection connection(demo_database(conninfo));
    connection.query("set temp_buffers = '64MB'; set jit = off;"
                     "create temporary table exact (id bigint, label smallint, embedding vector);"
                     "alter table exact alter embedding set storage plain");
    Result shards = connection.query("select format('%I.%I', nspname, relname) from pg_class "
                                     "join pg_namespace n on n.oid = relnamespace "
                                     "where relname = 'digits' and relkind = 'r'");
    for (int row = 0; row < shards.rows(); row++)
        connection.query("insert into exact select id, label, embedding from " +
                         std::string(shards.value(row, 0)));
    connection.prepare("exact",
                       "select id, label, embedding <-> $1 as distance from exact "
                       "order by distance limit 10",
                       {"vector"});
    std::vector<Answer> answers(digits.query_count());
    for (size_t i = 0; i < answers.size(); i++) {
        Buffer parameter;
        parameter.add_vector(digits.vector(kRows + i));
        answers[i] = answer_of(connection.execute("exact", {parameter}));
        done++;
    }
    return answers;
}

// The exact answers: all workers at once, their answers merged.
std::vector<Answer> exact_answers(const std::vector<std::string> &workers, const Digits &digits) {
    std::vector<std::vector<Answer>> parts(workers.size());
    std::vector<std::exception_ptr> errors(workers.size());
    std::atomic<size_t> done = 0;
    std::atomic<size_t> ended = 0;
    std::vector<std::thread> threads;
    for (size_t w = 0; w < workers.size(); w++)
        threads.emplace_back([&, w] {
            try {
                parts[w] = exact_on_worker(workers[w], digits, done);
            } catch (...) {
                errors[w] = std::current_exception();
            }
            ended++;
        });
    Progress progress("  exact answers by sequential scans on the workers:", digits.query_count());
    while (ended < workers.size()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        progress.show(std::min(done / workers.size(), digits.query_count() - 1));
    }
    for (std::thread &thread : threads)
        thread.join();
    for (const std::exception_ptr &error : errors)
        if (error)
            std::rethrow_exception(error);
    progress.show(digits.query_count());

    std::vector<Answer> merged(digits.query_count());
    for (size_t i = 0; i < merged.size(); i++) {
        for (const std::vector<Answer> &part : parts)
            merged[i].insert(merged[i].end(), part[i].begin(), part[i].end());
        std::sort(merged[i].begin(), merged[i].end(),
                  [](const Neighbour &a, const Neighbour &b) { return a.distance < b.distance; });
        merged[i].resize(std::min(merged[i].size(), kNeighbours));
    }
    return merged;
}

struct Measured {
    std::vector<Answer> answers;
    double queries_per_second;
};

// One client, one query after the other, through the coordinator.
Measured run_queries(Connection &connection, const Digits &digits) {
    connection.prepare("knn", kQuery, {"vector"});
    std::vector<Buffer> parameters(digits.query_count());
    for (size_t i = 0; i < parameters.size(); i++)
        parameters[i].add_vector(digits.vector(kRows + i));
    for (size_t i = 0; i < 100; i++) // warm caches, plans and connections
        connection.execute("knn", {parameters[i]});
    Measured measured;
    auto start = std::chrono::steady_clock::now();
    for (const Buffer &parameter : parameters)
        measured.answers.push_back(answer_of(connection.execute("knn", {parameter})));
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    measured.queries_per_second = static_cast<double>(parameters.size()) / seconds.count();
    return measured;
}

double recall(const std::vector<Answer> &answers, const std::vector<Answer> &exact) {
    size_t found = 0;
    size_t wanted = 0;
    for (size_t i = 0; i < exact.size(); i++) {
        std::set<int64_t> ids;
        for (const Neighbour &neighbour : answers[i])
            ids.insert(neighbour.id);
        for (const Neighbour &neighbour : exact[i])
            found += ids.count(neighbour.id);
        wanted += exact[i].size();
    }
    return static_cast<double>(found) / static_cast<double>(std::max<size_t>(wanted, 1));
}

// The label most of the neighbours have; the nearest decides among equals.
int vote(const Answer &answer) {
    std::array<int, 256> votes = {};
    for (const Neighbour &neighbour : answer)
        votes[static_cast<uint8_t>(neighbour.label)]++;
    int best = -1;
    for (const Neighbour &neighbour : answer)
        if (best < 0 ||
            votes[static_cast<uint8_t>(neighbour.label)] > votes[static_cast<uint8_t>(best)])
            best = neighbour.label;
    return best;
}

double accuracy(const std::vector<Answer> &answers, const Digits &digits) {
    size_t right = 0;
    for (size_t i = 0; i < answers.size(); i++)
        right += vote(answers[i]) == digits.label(kRows + i);
    return static_cast<double>(right) / static_cast<double>(answers.size());
}

// ------------------------------------------------------------------ one query, seen closely
void explain(Connection &connection, const Digits &digits) {
    std::string text = "[";
    for (float value : digits.vector(kRows))
        text += (text.size() > 1 ? "," : "") + std::to_string(static_cast<int>(value));
    std::string sql = kQuery;
    std::string literal = connection.literal(text + "]") + "::vector";
    for (size_t at; (at = sql.find("$1")) != std::string::npos;)
        sql.replace(at, 2, literal);
    std::printf("demo=# explain (analyze, verbose, costs off)\n%s;\n", kQuery);
    Result plan = connection.query("explain (analyze, verbose, costs off) " + sql);
    for (int row = 0; row < plan.rows(); row++) {
        // The vector's 784 values tell nobody anything.
        std::string line(plan.value(row, 0));
        for (size_t at = 0; (at = line.find("'[", at)) != std::string::npos; at += 6)
            if (size_t end = line.find("]'", at); end != std::string::npos)
                line.replace(at, end + 2 - at, "'[...]'");
        std::printf("  %s\n", line.c_str());
    }
}

void draw(const Digits &digits, const std::vector<Answer> &answers) {
    constexpr size_t kQueryDrawn = 7;
    constexpr size_t kDrawn = 5;
    const Answer &answer = answers[kQueryDrawn];
    std::vector<const uint8_t *> pictures = {digits.images.item(kRows + kQueryDrawn)};
    std::vector<std::string> captions = {"query"};
    for (size_t i = 0; i < std::min(kDrawn, answer.size()); i++) {
        pictures.push_back(digits.images.item(static_cast<size_t>(answer[i].id)));
        captions.push_back(std::to_string(answer[i].label) + " at " +
                           std::to_string(static_cast<int>(answer[i].distance)));
    }
    std::printf("\na digit it has not seen, and its nearest neighbours (label, distance)\n");
    for (const std::string &line :
         drawing::side_by_side(pictures, captions, drawing::locale_is_utf8()))
        std::printf("  %s\n", line.c_str());
}

void run(const std::string &data, const std::string &coordinator,
         const std::vector<std::string> &workers) {
    Digits digits = read_digits(data);
    create_cluster(coordinator, workers);
    Connection connection(demo_database(coordinator));
    load(connection, digits);
    explain(connection, digits);
    std::vector<Answer> exact = exact_answers(workers, digits);
    Measured measured = run_queries(connection, digits);
    draw(digits, measured.answers);
    std::printf("\nrecall@10 %.4f\n%.0f q/s over %zu queries\ndigit accuracy %.1f%%\n",
                recall(measured.answers, exact), measured.queries_per_second,
                measured.answers.size(), 100 * accuracy(measured.answers, digits));
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 4) {
        std::fprintf(stderr, "usage: panvel_demo DATA_DIRECTORY COORDINATOR WORKER...\n");
        return 2;
    }
    try {
        run(argv[1], argv[2], {argv + 3, argv + argc});
    } catch (const std::exception &error) {
        std::fprintf(stderr, "panvel_demo: %s\n", error.what());
        return 1;
    }
    return 0;
}
