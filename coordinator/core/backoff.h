// When to try again. Pure C++.
#pragma once

#include <cstdint>

namespace panvel {

// Doubling pauses between attempts: `first` after the first failure, never more than `longest`.
class Backoff {
  public:
    constexpr Backoff(int64_t first_ms, int64_t longest_ms)
        : first_(first_ms), longest_(longest_ms), next_(first_ms) {}

    // The pause before the next attempt, in milliseconds, after one more failure.
    int64_t failed();
    void succeeded() { next_ = first_; }

  private:
    int64_t first_;
    int64_t longest_;
    int64_t next_;
};

} // namespace panvel
