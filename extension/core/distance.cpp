#include "extension/core/distance.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "extension/core/distance_sets.h"

namespace ann {
namespace {

#if defined(__x86_64__)
// What __builtin_cpu_supports() has no name for in every compiler.
bool cpu_has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

// __builtin_cpu_supports() looks at what the operating system saves, too (XCR0).
bool cpu_runs(SimdLevel level) {
    switch (level) {
    case SimdLevel::kPortable:
        return true;
#if defined(__x86_64__)
    case SimdLevel::kAvx2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && cpu_has_f16c();
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

double squared_norm(const Half *x, size_t dim) {
    constexpr size_t kBlock = 256;
    float block[kBlock];
    double sum = 0;
    for (size_t start = 0; start < dim; start += kBlock) {
        size_t count = std::min(kBlock, dim - start);
        kernels().to_floats(x + start, block, count);
        sum += squared_norm(block, count);
    }
    return sum;
}

} // namespace ann
