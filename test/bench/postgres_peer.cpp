#include "test/bench/postgres_peer.h"

#include "test/bench/process.h"
#include "test/bench/stopwatch.h"

#include <fstream>
#include <numeric>

namespace bench {

using client::Buffer;
using client::Connection;
using client::Result;

namespace {

constexpr const char *kIndex = "bench_items_embedding";

const char *distance_operator(Metric metric) {
    return metric == Metric::kCosine ? "<=>" : "<->";
}

std::string nearest_to(Metric metric, const std::string &query) {
    return std::string("select id from bench_items order by embedding ") +
           distance_operator(metric) + " " + query + " limit " + std::to_string(kNeighbours);
}

std::string with(std::string text, const std::string &name, const std::string &value) {
    for (size_t at = 0; (at = text.find(name, at)) != std::string::npos; at += value.size())
        text.replace(at, name.size(), value);
    return text;
}

void set_all(Connection &connection, const std::vector<std::string> &settings) {
    for (const std::string &setting : settings) {
        size_t equals = setting.find('=');
        if (equals == std::string::npos)
            throw client::Error("not NAME=VALUE: " + setting);
        connection.query("set " + setting.substr(0, equals) + " = " +
                         connection.literal(setting.substr(equals + 1)));
    }
}

Buffer binary_id(size_t id) {
    Buffer buffer;
    buffer.add64(id);
    return buffer;
}

Buffer binary_vector(std::span<const float> values) {
    Buffer buffer;
    buffer.add_vector(values);
    return buffer;
}

std::string vector_text(std::span<const float> values) {
    std::string text;
    for (float value : values)
        text += (text.empty() ? "[" : ",") + std::to_string(value);
    return text + "]";
}

// The session's process, if it is on this machine.
std::optional<pid_t> local_process(Connection &connection) {
    pid_t pid = std::stoi(connection.value("select pg_backend_pid()"));
    std::string name;
    std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/comm"), name);
    return name == "postgres" ? std::optional(pid) : std::nullopt;
}

} // namespace

// ------------------------------------------------------------------ searching
Searcher::Searcher(const PostgresOptions &options, Metric metric, const Vectors &queries)
    : options_(options), connection_(options.conninfo), process_(local_process(connection_)) {
    for (size_t i = 0; i < queries.size(); i++)
        queries_.push_back(binary_vector(queries[i]));
    // One backend a session, and the plan that a program gets which runs its statement often.
    connection_.query("set max_parallel_workers_per_gather = 0; set jit = off; "
                      "set plan_cache_mode = force_generic_plan");
    set_all(connection_, options.settings);
    connection_.prepare("one_query", nearest_to(metric, "$1::" + options.type), {"vector"});
    connection_.prepare("all_queries",
                        "select q.id, t.id from bench_queries q cross join lateral (" +
                            nearest_to(metric, "q.embedding") + ") t",
                        {});
    set_ef(kNeighbours);
    check_plan("one_query('" + vector_text(queries[0]) + "')");
    check_plan("all_queries");
}

void Searcher::check_plan(const std::string &statement) {
    std::string plan;
    Result lines = connection_.query("explain execute " + statement);
    for (int row = 0; row < lines.rows(); row++)
        plan += std::string(lines.value(row, 0)) + "\n";
    if (plan.find(kIndex) == std::string::npos)
        throw client::Error(options_.name + ": the plan does not use the index " + kIndex + "\n" +
                            plan);
}

void Searcher::set_ef(size_t ef) {
    connection_.query("set " + options_.ef_setting + " = " + std::to_string(ef));
}

Answers Searcher::each(size_t first) {
    Answers answers(queries_.size());
    for (size_t i = 0; i < answers.size(); i++) {
        size_t query = (first + i) % answers.size();
        Result result = connection_.execute("one_query", {queries_[query]});
        for (int row = 0; row < result.rows(); row++)
            answers[query].push_back(result.int64(row, 0));
    }
    return answers;
}

Answers Searcher::all() {
    Answers answers(queries_.size());
    Result result = connection_.execute("all_queries", {});
    for (int row = 0; row < result.rows(); row++)
        answers.at(static_cast<size_t>(result.int64(row, 0))).push_back(result.int64(row, 1));
    return answers;
}

std::optional<double> Searcher::cpu_seconds() const {
    return process_ ? process_cpu_seconds(*process_) : std::nullopt;
}

// ------------------------------------------------------------------ tables
PostgresPeer::PostgresPeer(PostgresOptions options, Metric metric, const Vectors &base,
                           const Vectors &queries)
    : options_(std::move(options)), metric_(metric), base_(base), queries_(queries),
      connection_(options_.conninfo) {
    connection_.query("set client_min_messages = warning; create extension if not exists " +
                      options_.extension + " cascade");
    drop_tables();
    create_table("bench_queries");
    Ids ids(queries.size());
    std::iota(ids.begin(), ids.end(), 0);
    copy_rows("bench_queries", queries, ids);
    connection_.query("vacuum analyze bench_queries");
    create_table("bench_items");
    reload();
}

PostgresPeer::~PostgresPeer() {
    try {
        drop_tables();
    } catch (const client::Error &) {
        // The server is gone, or the next run drops them.
    }
}

void PostgresPeer::drop_tables() {
    connection_.query("drop table if exists bench_items, bench_queries");
}

void PostgresPeer::create_table(const std::string &name) {
    connection_.query("create table " + name + " (id bigint, embedding " + options_.type + "(" +
                      std::to_string(base_.dim()) +
                      ")) with (autovacuum_enabled = off, toast.autovacuum_enabled = off)");
}

void PostgresPeer::reload() {
    connection_.query(std::string("drop index if exists ") + kIndex);
    connection_.query("truncate bench_items");
    Ids ids(base_.size());
    std::iota(ids.begin(), ids.end(), 0);
    copy_rows("bench_items", base_, ids);
    connection_.query("vacuum analyze bench_items");
}

void PostgresPeer::copy_rows(const std::string &table, const Vectors &vectors, const Ids &ids) {
    if (options_.type == "vector") {
        copy_vectors(table, vectors, ids);
        return;
    }
    connection_.query("create temp table bench_vectors (id bigint, embedding vector)");
    copy_vectors("bench_vectors", vectors, ids);
    connection_.query("insert into " + table + " table bench_vectors; drop table bench_vectors");
}

void PostgresPeer::copy_vectors(const std::string &table, const Vectors &vectors, const Ids &ids) {
    connection_.copy_start("copy " + table + " from stdin (format binary)");
    Buffer buffer;
    buffer.add_text({"PGCOPY\n\377\r\n\0", 11});
    buffer.add64(0);
    for (int64_t id : ids) {
        Buffer vector = binary_vector(vectors[static_cast<size_t>(id)]);
        buffer.add16(2);
        buffer.add32(8);
        buffer.add64(static_cast<uint64_t>(id));
        buffer.add32(static_cast<uint32_t>(vector.bytes().size()));
        buffer.add_text(vector.bytes());
        connection_.copy_put(buffer);
        buffer.clear();
    }
    buffer.add16(0xffff);
    connection_.copy_put(buffer);
    connection_.copy_end();
}

// What was written before is not written out while something is timed.
void PostgresPeer::checkpoint() {
    connection_.query("checkpoint");
}

// ------------------------------------------------------------------ the index
IndexBuild PostgresPeer::build(size_t ef_construction) {
    connection_.query(std::string("drop index if exists ") + kIndex);
    std::string sql = std::string("create index ") + kIndex + " on bench_items " + options_.index;
    sql = with(sql, "{opclass}",
               options_.type + (metric_ == Metric::kCosine ? "_cosine_ops" : "_l2_ops"));
    sql = with(sql, "{m}", std::to_string(options_.m));
    sql = with(sql, "{ef_construction}", std::to_string(ef_construction));
    sql = with(sql, "{lists}", std::to_string(std::max<size_t>(base_.size() / 240, 4)));
    checkpoint();
    Connection builder(options_.conninfo);
    set_all(builder, options_.build_settings);
    IndexBuild build;
    std::optional<pid_t> pid = local_process(builder);
    std::optional<ProcessWatch> watch;
    if (pid)
        watch.emplace(*pid);
    build.seconds = seconds_of([&] { builder.query(sql); });
    if (watch && watch->threads() > 0) {
        build.peak_kilobytes = process_status(*pid, "VmHWM");
        build.private_kilobytes = watch->private_kilobytes();
        build.threads = watch->threads();
    }
    checkpoint();
    return build;
}

double PostgresPeer::index_pages() {
    return std::stod(connection_.value(std::string("select pg_relation_size('") + kIndex +
                                       "') / current_setting('block_size')::bigint"));
}

// ------------------------------------------------------------------ changing rows
double PostgresPeer::insert(const Vectors &fresh, size_t first, size_t last, bool one_transaction) {
    Connection connection(options_.conninfo);
    connection.query("set plan_cache_mode = force_generic_plan");
    connection.prepare("insert", "insert into bench_items values ($1, $2)", {"int8", "vector"});
    std::vector<Buffer> ids;
    std::vector<Buffer> vectors;
    for (size_t i = first; i < last; i++) {
        ids.push_back(binary_id(base_.size() + i));
        vectors.push_back(binary_vector(fresh[i]));
    }
    return seconds_of([&] {
        if (one_transaction)
            connection.query("begin");
        for (size_t i = 0; i < ids.size(); i++)
            connection.execute("insert", {ids[i], vectors[i]});
        if (one_transaction)
            connection.query("commit");
    });
}

void PostgresPeer::remove(int divisor, const std::string &remainders) {
    connection_.query("delete from bench_items where id % " + std::to_string(divisor) + " in (" +
                      remainders + ")");
}

double PostgresPeer::vacuum() {
    checkpoint();
    return seconds_of([&] { connection_.query("vacuum bench_items"); });
}

double PostgresPeer::copy(const Ids &ids) {
    return seconds_of([&] { copy_rows("bench_items", base_, ids); });
}

} // namespace bench
