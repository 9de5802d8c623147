// Who waits for whom, over several servers, and who waits in a circle. Pure C++.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace panvel {

// The coordinator among the servers.
constexpr int kHere = -1;

// A session: of the coordinator, or of a worker where it is no connection of the coordinator's.
struct Party {
    int server;
    int pid;

    auto operator<=>(const Party &) const = default;
};

// `waiter` waits for a lock that `blocker` holds, or is to get first, on server `place`, which
// knows them by other numbers: a party of the coordinator has sessions there, one for each role.
// `since` tells this wait from an earlier or later one of the same session.
struct Wait {
    Party waiter;
    Party blocker;
    int place;
    int64_t since;
    int waiter_pid;
    int blocker_pid;

    auto operator<=>(const Wait &) const = default;
};

// What is in both: two samples, neither of them taken at one moment on all servers. A wait in both
// lasted from the first to the second, and whoever waits frees no lock, so waits that are all in
// both existed at the same time: a circle of them is a deadlock, and no accident of sampling.
std::vector<Wait> lasting_waits(std::vector<Wait> first, std::vector<Wait> second);

// Without what a party's statements wait for on workers while the party itself waits here: it does
// not look at them, so that it could not be told to end, and it would not help to tell another.
// Where that other wait is in a circle too, it is enough to break that one; where it is not it
// ends, and then the party looks.
std::vector<Wait> attended_waits(std::vector<Wait> waits);

// A circle that no server sees alone, in order; empty when there is none. One whose sessions are
// all on one server is that server's to resolve. One party is a circle where one of its sessions
// waits for another.
std::vector<Wait> find_circle(const std::vector<Wait> &waits);

// Of the circle's parties that wait on a worker and of which `started` knows when their transaction
// began, the one that began last.
std::optional<Party>
choose_victim(const std::vector<Wait> &circle,
              const std::function<std::optional<int64_t>(const Party &)> &started);

} // namespace panvel
