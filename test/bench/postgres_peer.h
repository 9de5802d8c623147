// A server with vectors in a table and an index on them, as a program that uses it sees it: ours,
// or another with the same SQL.
#pragma once

#include "test/bench/client.h"
#include "test/bench/dataset.h"
#include "test/bench/exact.h"

#include <optional>
#include <string>
#include <vector>

namespace bench {

struct PostgresOptions {
    std::string name; // in the table of results
    std::string conninfo;
    std::string extension;             // what CREATE EXTENSION makes, CASCADE
    std::string type = "vector";       // of the column; another is cast from vector
    std::string index;                 // USING ..., with {opclass}, {m}, {ef_construction}, {lists}
    std::string ef_setting;            // the setting that takes ef
    std::vector<std::string> settings; // NAME=VALUE for each session that searches
    std::vector<std::string> build_settings; // and for the one that builds
    int m = 16;
};

struct IndexBuild {
    double seconds = 0;
    // Of the backend, kilobytes and a count: its largest size with the shared buffers that it
    // touched, without them, its threads. Absent for a server elsewhere.
    std::optional<size_t> peak_kilobytes;
    std::optional<size_t> private_kilobytes;
    std::optional<size_t> threads;
};

// A session that searches. It may be used by one thread at a time.
class Searcher {
  public:
    // Throws Error if a plan does not use the index.
    Searcher(const PostgresOptions &options, Metric metric, const Vectors &queries);

    const PostgresOptions &options() const { return options_; }
    void set_ef(size_t ef);
    // One prepared statement per query, from number `first` on and then from 0.
    Answers each(size_t first = 0);
    // One statement for all queries: a lateral join with the table of queries.
    Answers all();
    // That the server's process has used; nothing for a server elsewhere.
    std::optional<double> cpu_seconds() const;

  private:
    void check_plan(const std::string &statement);

    PostgresOptions options_;
    client::Connection connection_;
    std::optional<pid_t> process_;
    std::vector<client::Buffer> queries_;
};

class PostgresPeer {
  public:
    // Makes the extension and the tables bench_items and bench_queries anew, with all rows.
    PostgresPeer(PostgresOptions options, Metric metric, const Vectors &base,
                 const Vectors &queries);
    ~PostgresPeer();
    PostgresPeer(const PostgresPeer &) = delete;
    PostgresPeer &operator=(const PostgresPeer &) = delete;

    const PostgresOptions &options() const { return options_; }
    // All rows of `base` again, in a new heap without an index.
    void reload();
    // CREATE INDEX by a new session; an index that is there is dropped first.
    IndexBuild build(size_t ef_construction);
    double index_pages();
    Searcher searcher() const { return {options_, metric_, queries_}; }

    // Single-row prepared INSERTs of fresh[first .. last): seconds.
    double insert(const Vectors &fresh, size_t first, size_t last, bool one_transaction);
    // Deletes the rows whose id modulo `divisor` is one of `remainders` ("0, 2").
    void remove(int divisor, const std::string &remainders);
    double vacuum();
    // COPY of the base's rows with these ids into the indexed table: seconds.
    double copy(const Ids &ids);

  private:
    void drop_tables();
    void create_table(const std::string &name);
    // Rows (id, vectors[id]).
    void copy_rows(const std::string &table, const Vectors &vectors, const Ids &ids);
    void copy_vectors(const std::string &table, const Vectors &vectors, const Ids &ids);
    void checkpoint();

    PostgresOptions options_;
    Metric metric_;
    const Vectors &base_;
    const Vectors &queries_;
    client::Connection connection_;
};

} // namespace bench
