#include "coordinator/core/backoff.h"

#include <algorithm>

namespace panvel {

int64_t Backoff::failed() {
    int64_t pause = next_;
    next_ = next_ > longest_ / 2 ? longest_ : std::max<int64_t>(next_ * 2, 1);
    return std::min(pause, longest_);
}

} // namespace panvel
