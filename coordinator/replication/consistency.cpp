#include "coordinator/replication/consistency.h"

#include "coordinator/remote/connection.h"
#include "coordinator/replication/in_sync.h"

extern "C" {
#include "access/xact.h"
#include "utils/guc.h"
}

namespace panvel {
namespace {

int min_insync_replicas = 1;
int write_consistency_setting = static_cast<int>(WriteConsistency::kAll);
int read_consistency_setting = 0; // 1: eventual

const config_enum_entry kWriteConsistencies[] = {
    {"all", static_cast<int>(WriteConsistency::kAll), false},
    {"quorum", static_cast<int>(WriteConsistency::kQuorum), false},
    {"one", static_cast<int>(WriteConsistency::kOne), false},
    {nullptr, 0, false}};

const config_enum_entry kReadConsistencies[] = {
    {"strong", 0, false}, {"eventual", 1, false}, {nullptr, 0, false}};

int majority(int replication_factor) {
    return replication_factor / 2 + 1;
}

} // namespace

WriteConsistency write_consistency() {
    return static_cast<WriteConsistency>(write_consistency_setting);
}

int required_placements(int replication_factor) {
    return write_consistency() == WriteConsistency::kQuorum
               ? Max(min_insync_replicas, majority(replication_factor))
               : min_insync_replicas;
}

int written_placements(int replication_factor) {
    return write_consistency() == WriteConsistency::kOne ? min_insync_replicas : replication_factor;
}

int patience_ms() {
    return write_consistency() == WriteConsistency::kQuorum ? Max(node_timeout_ms / 5, 1) : 0;
}

// A transaction sees what it has written itself, and under a snapshot that is kept all its reads
// are of one placement.
bool reads_may_be_stale() {
    return read_consistency_setting != 0 && !IsolationUsesXactSnapshot() && !has_written();
}

void init_consistency() {
    DefineCustomIntVariable("panvel.min_insync_replicas",
                            "How many in-sync placements a shard must have to be written.",
                            "Where a node is down, its placements are left out of writes as long "
                            "as so many remain; else the write fails.",
                            &min_insync_replicas, 1, 1, 64, PGC_USERSET, 0, nullptr, nullptr,
                            nullptr);
    DefineCustomEnumVariable("panvel.write_consistency",
                             "Which placements of a shard have a write when COMMIT returns.",
                             "all: those in sync; quorum: likewise, a majority of all at least, "
                             "without waiting for slow ones; one: the leader alone.",
                             &write_consistency_setting, static_cast<int>(WriteConsistency::kAll),
                             kWriteConsistencies, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    DefineCustomEnumVariable("panvel.read_consistency", "Which placements of a shard answer reads.",
                             "strong: those that have every acknowledged write; eventual: any.",
                             &read_consistency_setting, 0, kReadConsistencies, PGC_USERSET, 0,
                             nullptr, nullptr, nullptr);
}

} // namespace panvel
