#include "test/bench/process.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <sstream>

namespace bench {

std::optional<size_t> process_status(pid_t pid, const std::string &name) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string field;
        size_t value = 0;
        if (words >> field >> value && field == name + ":")
            return value;
    }
    return std::nullopt;
}

std::optional<double> process_cpu_seconds(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/schedstat");
    double nanoseconds = 0;
    return file >> nanoseconds ? std::optional(nanoseconds / 1e9) : std::nullopt;
}

CpuTimes process_cpu_times(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(file, line);
    size_t end_of_name = line.rfind(')'); // the name may contain anything
    if (end_of_name == std::string::npos)
        return {};
    std::istringstream words(line.substr(end_of_name + 1));
    std::string skipped;
    for (int field = 3; field < 14; field++)
        words >> skipped;
    double user = 0;
    double system = 0;
    words >> user >> system;
    const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
    return {user / ticks, system / ticks};
}

double thread_cpu_seconds() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

size_t reset_own_peak() {
    malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << 5;
    return process_status(getpid(), "VmRSS").value_or(0);
}

ProcessWatch::ProcessWatch(pid_t pid)
    : pid_(pid), thread_([this](const std::stop_token &stop) {
          while (!stop.stop_requested()) {
              look();
              std::this_thread::sleep_for(std::chrono::milliseconds(10));
          }
      }) {}

void ProcessWatch::look() {
    private_ = std::max<size_t>(private_, process_status(pid_, "RssAnon").value_or(0));
    threads_ = std::max<size_t>(threads_, process_status(pid_, "Threads").value_or(0));
}

} // namespace bench
