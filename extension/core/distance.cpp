#include "extension/core/distance.h"

#include <atomic>
#include <cstring>

#include "extension/core/distance_sets.h"

namespace ann {
namespace {

// __builtin_cpu_supports() looks at what the operating system saves, too (XCR0).
bool cpu_runs(SimdLevel level) {
    switch (level) {
    case SimdLevel::kPortable:
        return true;
#if defined(__x86_64__)
    case SimdLevel::kAvx2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case SimdLevel::kAvx512:
        return cpu_runs(SimdLevel::kAvx2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#else
    case SimdLevel::kAvx2:
    case SimdLevel::kAvx512:
        return false;
#endif
    }
    return false;
}

// Best first.
constexpr const Kernels *kSets[] = {
#if defined(__x86_64__)
    &kAvx512Kernels,
    &kAvx2Kernels,
#endif
    &kPortableKernels,
};

std::atomic<const Kernels *> in_use{nullptr};

} // namespace

const Kernels *find_kernels(const char *name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    bool automatic = std::strcmp(name, "auto") == 0;
    for (const Kernels *set : kSets) {
        if ((automatic || std::strcmp(name, set->name) == 0) && cpu_runs(set->level))
            return set;
    }
    return nullptr;
}

const Kernels &kernels() {
    const Kernels *set = in_use.load(std::memory_order_relaxed);
    if (set == nullptr) [[unlikely]] {
        set = find_kernels("auto");
        in_use.store(set, std::memory_order_relaxed);
    }
    return *set;
}

bool select_kernels(const char *name) {
    const Kernels *set = find_kernels(name);
    if (set == nullptr)
        return false;
    in_use.store(set, std::memory_order_relaxed);
    return true;
}

double squared_norm(const float *x, size_t dim) {
    double sums[4] = {};
    size_t i = 0;
    for (; i + 4 <= dim; i += 4) {
        float lane[4];
        std::memcpy(lane, x + i, sizeof(lane));
        for (int k = 0; k < 4; k++)
            sums[k] += static_cast<double>(lane[k]) * lane[k];
    }
    for (; i < dim; i++) {
        float value;
        std::memcpy(&value, x + i, sizeof(value));
        sums[0] += static_cast<double>(value) * value;
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

} // namespace ann
