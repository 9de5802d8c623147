// Names of prepared transactions. Pure C++.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace panvel {

// What a prepared transaction's name on a worker says. `nonce` tells two transactions apart that
// had the same transaction id: a coordinator that crashes before its first WAL record of a
// transaction is flushed hands the id out again after its restart.
struct Gid {
    uint64_t system;      // the coordinator's system identifier
    uint32_t database;    // OID of the coordinator's database
    uint64_t transaction; // 64-bit transaction id
    uint64_t nonce;
    int32_t node;
    int32_t branch; // tells a transaction's sessions apart: it has one for each role

    bool operator==(const Gid &) const = default;
};

// "panvel_<system>_<database>_<transaction>_<nonce, hexadecimal>_<node>_<branch>": at most 107
// bytes of letters, digits and underscores, so that it needs no quoting inside quotes.
std::string format_gid(const Gid &gid);

// What all gids of a coordinator's database begin with: "panvel_<system>_<database>_".
std::string gid_prefix(uint64_t system, uint32_t database);

// Inverse of format_gid(); nothing for a name that format_gid() does not make.
std::optional<Gid> parse_gid(std::string_view name);

// What recovery does with a prepared transaction.
enum class Verdict { kUndecided, kCommit, kRollback };

// `running` must have been found out before `recorded` was looked up: the record appears before
// the transaction ends, so that a transaction seen to have ended has its record by then or never.
Verdict decide(bool running, bool recorded);

} // namespace panvel
