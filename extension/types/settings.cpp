// Settings of the vector types.
#include "extension/core/distance.h"
#include "extension/types/vector.h"

extern "C" {
#include "executor/instrument.h"
#include "utils/guc.h"
}

namespace vec {
namespace {

// Index into this table is the enum's value.
constexpr config_enum_entry kSimdOptions[] = {
    {"auto", 0, false},     {"avx512", 1, false}, {"avx2", 2, false},
    {"portable", 3, false}, {nullptr, 0, false},
};

int simd = 0;

bool check_simd(int *value, void **, GucSource) {
    const char *name = kSimdOptions[*value].name;
    if (ann::find_kernels(name) != nullptr)
        return true;
    GUC_check_errcode(ERRCODE_FEATURE_NOT_SUPPORTED);
    GUC_check_errmsg("vector.simd cannot be \"%s\" on this machine", name);
    GUC_check_errdetail("Its CPU or operating system does not support these instructions.");
    GUC_check_errhint("\"auto\" takes the best that is supported, here \"%s\".",
                      ann::find_kernels("auto")->name);
    return false;
}

void assign_simd(int value, void *) {
    ann::select_kernels(kSimdOptions[value].name);
}

char *buffer_usage; // unused: the value is made when it is asked for

const char *show_buffer_usage() {
    static char text[10 * 21];
    const BufferUsage &used = pgBufferUsage;
    const int64 counters[] = {used.shared_blks_hit,     used.shared_blks_read,
                              used.shared_blks_dirtied, used.shared_blks_written,
                              used.local_blks_hit,      used.local_blks_read,
                              used.local_blks_dirtied,  used.local_blks_written,
                              used.temp_blks_read,      used.temp_blks_written};
    int length = 0;
    for (int64 counter : counters)
        length += snprintf(text + length, sizeof(text) - static_cast<size_t>(length),
                           "%s" INT64_FORMAT, length > 0 ? " " : "", counter);
    return text;
}

} // namespace

void init_types() {
    DefineCustomEnumVariable("vector.simd", "Forces the instruction set of the distance functions.",
                             "For tests. \"auto\" takes the best that the CPU supports.", &simd, 0,
                             kSimdOptions, PGC_USERSET, GUC_NOT_IN_SAMPLE, check_simd, assign_simd,
                             nullptr);
    DefineCustomStringVariable("vector.buffer_usage", "Shows what buffers this session has used.",
                               "Blocks so far: shared hit, read, dirtied, written; local hit, "
                               "read, dirtied, written; temporary read, written.",
                               &buffer_usage, "", PGC_INTERNAL,
                               GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, nullptr, nullptr,
                               show_buffer_usage);
    MarkGUCPrefixReserved("vector");
}

} // namespace vec
