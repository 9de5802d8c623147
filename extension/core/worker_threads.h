// Threads that compute while PostgreSQL's own thread waits for interrupts.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ann {

// The threads have all signals blocked and must call nothing of PostgreSQL. The owner starts
// them, polls finished(), and calls join() in the end, after an error too (then cancel() first);
// the destructor does both.
class WorkerThreads {
  public:
    // Runs on every thread; `stop` becomes true when the work is to be given up soon.
    using Work = std::function<void(int thread, const std::atomic<bool> &stop)>;

    WorkerThreads() = default;
    ~WorkerThreads();
    WorkerThreads(const WorkerThreads &) = delete;
    WorkerThreads &operator=(const WorkerThreads &) = delete;

    // REQUIRES: none are running. If not even one thread can be started, throws.
    void start(int count, Work work);
    bool finished() const { return running_ == 0; }
    void cancel() { stop_ = true; }
    // Waits for all; throws the first exception that one of them ended with.
    void join();

  private:
    void run(int thread);

    Work work_;
    std::vector<std::thread> threads_;
    std::atomic<int> running_ = 0;
    std::atomic<bool> stop_ = false;
    std::mutex mutex_;
    std::exception_ptr failure_;
};

} // namespace ann
