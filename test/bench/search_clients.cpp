// k-NN by one and by several clients at once, on tables of several servers in turn: queries a
// second, recall and the CPU time of the servers' backends. `reads.py` calls it.
//
// usage: search_clients DATA ROUNDS CLIENTS EFS LIMIT QUERIES {NAME TABLE CONNINFO}...
//   CLIENTS and EFS: numbers, separated by commas; DATA: a directory with MNIST's files; LIMIT: how
//   many of its vectors are in the tables, 0 for all; QUERIES: how many are asked
// Prints one line for each name, number of clients, ef and round, values separated by tabs:
//   NAME CLIENTS EF ROUND QUERIES_PER_SECOND RECALL CPU_US USER_US SYSTEM_US
// The last three: CPU time of the clients' backends, microseconds a query.
#include "test/bench/client.h"
#include "test/bench/dataset.h"
#include "test/bench/exact.h"
#include "test/bench/process.h"
#include "test/bench/stopwatch.h"

#include <algorithm>
#include <barrier>
#include <cstdio>
#include <span>
#include <sstream>
#include <thread>

namespace bench {
namespace {

using client::Buffer;
using client::Connection;

struct Session {
    Session(const std::string &conninfo, const std::string &table) : connection(conninfo) {
        connection.query("set jit = off; set max_parallel_workers_per_gather = 0; "
                         "set plan_cache_mode = force_generic_plan");
        connection.prepare("nearest",
                           "select id from " + table + " order by embedding <-> $1 limit " +
                               std::to_string(kNeighbours),
                           {"vector"});
        process = std::stoi(connection.value("select pg_backend_pid()"));
    }

    Connection connection;
    pid_t process;
};

struct Target {
    std::string name;
    std::vector<Session> sessions;
};

// CPU seconds that the sessions' backends have used.
struct Used {
    double all = 0;
    double user = 0;
    double system = 0;

    explicit Used(std::span<const Session> sessions) {
        for (const Session &session : sessions) {
            CpuTimes times = process_cpu_times(session.process);
            all += process_cpu_seconds(session.process).value_or(0);
            user += times.user;
            system += times.system;
        }
    }
};

std::vector<size_t> numbers(const std::string &text) {
    std::vector<size_t> values;
    std::istringstream in(text);
    for (std::string part; std::getline(in, part, ',');)
        values.push_back(std::stoul(part));
    return values;
}

class Bench {
  public:
    Bench(const std::string &data, size_t rounds, std::vector<size_t> clients,
          std::vector<size_t> efs, size_t limit, size_t queries)
        : rounds_(rounds), clients_(std::move(clients)), efs_(std::move(efs)),
          data_(load({.path = data,
                      .metric = "l2",
                      .limit = limit == 0 ? kAll : limit,
                      .queries = queries})),
          exact_(data_.base, data_.queries, Metric::kL2) {
        for (size_t i = 0; i < data_.queries.size(); i++) {
            queries_.emplace_back();
            queries_.back().add_vector(data_.queries[i]);
        }
    }

    void add(const std::string &name, const std::string &table, const std::string &conninfo) {
        Target target{name, {}};
        for (size_t i = 0; i < *std::max_element(clients_.begin(), clients_.end()); i++)
            target.sessions.emplace_back(conninfo, table);
        targets_.push_back(std::move(target));
    }

    // The first round warms up.
    void run() {
        for (size_t round = 0; round <= rounds_; round++)
            for (size_t ef : efs_)
                for (size_t clients : clients_)
                    for (Target &target : targets_)
                        measure(target, clients, ef, round);
    }

  private:
    void measure(Target &target, size_t clients, size_t ef, size_t round) {
        std::span<Session> sessions(target.sessions.data(), clients);
        for (Session &session : sessions)
            session.connection.query("set hnsw.ef_search = " + std::to_string(ef));
        Used before(sessions);
        Answers answers;
        double seconds = search(sessions, answers);
        double total = static_cast<double>(clients * queries_.size());
        Used after(sessions);
        if (round == 0)
            return;
        std::printf(
            "%s\t%zu\t%zu\t%zu\t%.1f\t%.5f\t%.1f\t%.1f\t%.1f\n", target.name.c_str(), clients, ef,
            round, total / seconds, exact_.recall(answers), (after.all - before.all) / total * 1e6,
            (after.user - before.user) / total * 1e6, (after.system - before.system) / total * 1e6);
        std::fflush(stdout);
    }

    // Every client asks all queries, each from another on.
    double search(std::span<Session> sessions, Answers &answers) {
        std::barrier start(static_cast<std::ptrdiff_t>(sessions.size()) + 1);
        std::vector<std::jthread> threads;
        for (size_t i = 0; i < sessions.size(); i++)
            threads.emplace_back([&, i] {
                start.arrive_and_wait();
                Answers found = ask(sessions[i].connection, i * queries_.size() / sessions.size());
                start.arrive_and_wait();
                if (i == 0)
                    answers = std::move(found);
            });
        start.arrive_and_wait();
        return seconds_of([&] { start.arrive_and_wait(); });
    }

    Answers ask(Connection &connection, size_t first) {
        Answers answers(queries_.size());
        for (size_t i = 0; i < queries_.size(); i++) {
            size_t query = (first + i) % queries_.size();
            client::Result result = connection.execute("nearest", {queries_[query]});
            for (int row = 0; row < result.rows(); row++)
                answers[query].push_back(result.int64(row, 0));
        }
        return answers;
    }

    size_t rounds_;
    std::vector<size_t> clients_;
    std::vector<size_t> efs_;
    Dataset data_;
    Exact exact_;
    std::vector<Buffer> queries_;
    std::vector<Target> targets_;
};

} // namespace
} // namespace bench

int main(int argc, char **argv) {
    try {
        if (argc < 10 || (argc - 7) % 3 != 0)
            throw std::runtime_error("wrong number of arguments");
        bench::Bench bench(argv[1], std::stoul(argv[2]), bench::numbers(argv[3]),
                           bench::numbers(argv[4]), std::stoul(argv[5]), std::stoul(argv[6]));
        for (int i = 7; i < argc; i += 3)
            bench.add(argv[i], argv[i + 1], argv[i + 2]);
        bench.run();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "search_clients: %s\n", error.what());
        return 1;
    }
    return 0;
}
