#pragma once

#include <chrono>

namespace bench {

// How long `work` takes by the wall clock.
template <typename Work> double seconds_of(Work work) {
    auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

} // namespace bench
