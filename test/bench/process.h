// What memory a process holds and what time it used, from /proc: Linux only, and only of processes
// one may look at.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <optional>
#include <string>
#include <thread>

namespace bench {

// Field `name` of /proc/PID/status ("VmHWM", "RssAnon", "Threads"), as it stands there (kB or a
// number); nothing if there is none.
std::optional<size_t> process_status(pid_t pid, const std::string &name);

// Seconds that a process of one thread has run on a CPU; nothing if that is not told.
std::optional<double> process_cpu_seconds(pid_t pid);

// The same of the calling thread.
double thread_cpu_seconds();

// What part of a process's CPU time is the kernel's work for it, and what its own. The kernel
// samples which is which, so only of long times is it true.
struct CpuTimes {
    double user = 0; // seconds
    double system = 0;
};
CpuTimes process_cpu_times(pid_t pid);

// Gives free memory back and makes this process's VmHWM start again from what it still holds:
// returns that, in kB.
size_t reset_own_peak();

// Looks at a process every 10 ms as long as this exists.
class ProcessWatch {
  public:
    explicit ProcessWatch(pid_t pid);

    // Largest seen so far; 0 if it could not be looked at.
    size_t private_kilobytes() const { return private_; }
    size_t threads() const { return threads_; }

  private:
    void look();

    pid_t pid_;
    std::atomic<size_t> private_ = 0;
    std::atomic<size_t> threads_ = 0;
    std::jthread thread_;
};

} // namespace bench
