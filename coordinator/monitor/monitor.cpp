#include "coordinator/monitor/monitor.h"

#include "coordinator/monitor/deadlock.h"
#include "coordinator/monitor/probe.h"
#include "coordinator/monitor/sessions.h"
#include "extension/pg/boundary.h"
#include "extension/pg/shared_memory.h"

extern "C" {
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
}

namespace panvel {
namespace {

// Between the two samples that tell a deadlock, and between one search and the next.
constexpr int kConfirm_ms = 50;
constexpr int kSearchPause_ms = 250;
// How long a sample waits for the servers.
constexpr int kSample_ms = 1000;

pg_atomic_uint32 *search_wanted;

ServerProbe *probes[kMaxServers]; // by place of the server

enum class Search { kNone, kSampling, kBetween };

struct Searching {
    Search state;
    TimestampTz until; // kSampling: deadline; kBetween: when the second sample is due
    TimestampTz next;  // no search before
};

Searching searching;

void attach(void *piece, bool fresh) {
    search_wanted = static_cast<pg_atomic_uint32 *>(piece);
    if (fresh)
        pg_atomic_init_u32(search_wanted, 0);
}

bool is_same(const ServerHandle &a, const ServerHandle &b) {
    return a.index == b.index && a.generation == b.generation;
}

// One probe for each server there is, and does what is due on it. Returns when to come back.
TimestampTz drive_probes(ServerState *servers) {
    int count = list_servers(servers);
    TimestampTz first = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 60000);
    bool known[kMaxServers] = {};
    for (int i = 0; i < count; i++) {
        int place = servers[i].handle.index;
        known[place] = true;
        if (probes[place] != nullptr && !is_same(probes[place]->server, servers[i].handle)) {
            free_probe(probes[place]);
            probes[place] = nullptr;
        }
        if (probes[place] == nullptr)
            probes[place] = make_probe(servers[i]);
        strlcpy(probes[place]->dbname, servers[i].dbname, NAMEDATALEN);
        TimestampTz next = drive_probe(probes[place], servers[i].wanted);
        first = Min(first, next);
    }
    for (int place = 0; place < kMaxServers; place++) {
        if (probes[place] != nullptr && !known[place]) {
            free_probe(probes[place]);
            probes[place] = nullptr;
        }
    }
    return first;
}

void begin_sampling() {
    begin_sample();
    for (ServerProbe *probe : probes) {
        if (probe == nullptr)
            continue;
        bool can = probe->step == ProbeStep::kIdle || probe->step == ProbeStep::kAsking;
        probe->waits_wanted = can;
        probe->waits_done = !can;
    }
    searching.state = Search::kSampling;
    searching.until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kSample_ms);
}

bool all_sampled() {
    for (const ServerProbe *probe : probes)
        if (probe != nullptr && !probe->waits_done)
            return false;
    return true;
}

void finish_sampling() {
    bool again = end_sample();
    TimestampTz now = GetCurrentTimestamp();
    searching.state = again ? Search::kBetween : Search::kNone;
    searching.until = TimestampTzPlusMilliseconds(now, kConfirm_ms);
    searching.next = TimestampTzPlusMilliseconds(now, kSearchPause_ms);
    if (!again)
        forget_samples();
}

// Returns when to come back.
TimestampTz drive_search(TimestampTz first) {
    TimestampTz now = GetCurrentTimestamp();
    switch (searching.state) {
    case Search::kNone:
        if (now < searching.next)
            return Min(first, searching.next);
        if (deadlock_search_wanted()) {
            begin_sampling();
            return now;
        }
        break;
    case Search::kSampling:
        if (all_sampled() || now >= searching.until) {
            finish_sampling();
            return now;
        }
        return Min(first, searching.until);
    case Search::kBetween:
        if (now >= searching.until) {
            begin_sampling();
            return now;
        }
        return Min(first, searching.until);
    }
    return first;
}

void reload_settings() {
    if (!ConfigReloadPending)
        return;
    ConfigReloadPending = false;
    ProcessConfigFile(PGC_SIGHUP);
}

void run_monitor() {
    MemoryContext context =
        AllocSetContextCreate(TopMemoryContext, "panvel monitor", ALLOCSET_DEFAULT_SIZES);
    auto *servers = static_cast<ServerState *>(
        MemoryContextAlloc(TopMemoryContext, sizeof(ServerState) * kMaxServers));
    announce_monitor();
    for (;;) {
        MemoryContextReset(context);
        MemoryContextSwitchTo(context);
        reload_settings();
        TimestampTz next = drive_probes(servers);
        next = drive_search(next);
        if (next > GetCurrentTimestamp())
            wait_for_progress(next, true);
        else
            CHECK_FOR_INTERRUPTS();
    }
}

} // namespace

void want_deadlock_search() {
    if (search_wanted == nullptr)
        return;
    pg_atomic_write_u32(search_wanted, 1);
    wake_monitor();
}

bool deadlock_search_wanted() {
    return pg_atomic_exchange_u32(search_wanted, 0) != 0;
}

extern "C" {
__attribute__((visibility("default"))) void panvel_monitor_main(Datum);
}

void panvel_monitor_main(Datum) {
    pqsignal(SIGTERM, die);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    pg::entry([] { run_monitor(); });
}

void init_monitor() {
    init_servers();
    init_sessions();
    pg::add_shared_piece(
        {"panvel monitor", [] { return sizeof(pg_atomic_uint32); }, attach, nullptr});

    BackgroundWorker worker = {};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
    worker.bgw_start_time = BgWorkerStart_PostmasterStart;
    worker.bgw_restart_time = 1;
    strlcpy(worker.bgw_library_name, "panvel", sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, "panvel_monitor_main", sizeof(worker.bgw_function_name));
    strlcpy(worker.bgw_name, "panvel monitor", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "panvel monitor", BGW_MAXLEN);
    RegisterBackgroundWorker(&worker);
}

} // namespace panvel
