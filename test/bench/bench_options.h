// What hnsw_compare is told on its command line: words NAME=VALUE, those of a list more than once.
#pragma once

#include "test/bench/dataset.h"
#include "test/bench/postgres_peer.h"

#include <set>
#include <string>
#include <vector>

namespace bench {

struct BenchOptions {
    DatasetOptions data;
    std::vector<PostgresOptions> servers;
    std::set<std::string> parts; // search, build, insert, vacuum
    std::vector<size_t> efs;
    std::vector<size_t> server_efs; // of the servers' ef_setting; as many as efs, or the same
    int rounds = 5;
    int threads = 2; // of a build
    size_t m = 16;
    size_t ef_construction = 200;
    size_t insert_ef_construction = 64;
    size_t insert_rows = 1000; // a round

    bool has(const std::string &part) const { return parts.contains(part); }
};

// Throws std::invalid_argument.
BenchOptions parse_options(const std::vector<std::string> &words);

} // namespace bench
