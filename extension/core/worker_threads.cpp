#include "extension/core/worker_threads.h"

#include <csignal>
#include <system_error>

namespace ann {
namespace {

// Threads inherit the mask: signals stay PostgreSQL's own thread's.
class AllSignalsBlocked {
  public:
    AllSignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~AllSignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  private:
    sigset_t before_;
};

} // namespace

WorkerThreads::~WorkerThreads() {
    cancel();
    for (std::thread &thread : threads_)
        thread.join();
}

void WorkerThreads::start(int count, Work work) {
    work_ = std::move(work);
    stop_ = false;
    failure_ = nullptr;
    threads_.reserve(static_cast<size_t>(count));
    AllSignalsBlocked blocked;
    for (int i = 0; i < count; i++) {
        running_++;
        try {
            threads_.emplace_back([this, i] { run(i); });
        } catch (const std::system_error &) {
            running_--;
            if (threads_.empty())
                throw;
            return; // fewer threads do the same work
        }
    }
}

void WorkerThreads::run(int thread) {
    try {
        work_(thread, stop_);
    } catch (...) {
        std::lock_guard lock(mutex_);
        if (!failure_)
            failure_ = std::current_exception();
        stop_ = true;
    }
    running_--;
}

void WorkerThreads::join() {
    for (std::thread &thread : threads_)
        thread.join();
    threads_.clear();
    if (failure_)
        std::rethrow_exception(failure_);
}

} // namespace ann
