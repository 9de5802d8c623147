#include "coordinator/transaction/crash_point.h"

#if defined(PANVEL_CRASH_POINTS)
#include "extension/pg/pg.h"

#include <csignal>
#include <unistd.h>

extern "C" {
#include "utils/guc.h"
}

namespace panvel {
namespace {
char *chosen;
}

void init_crash_points() {
    DefineCustomStringVariable("panvel.crash_point",
                               "Where to stop: name:kill, name:stop or name:error.", nullptr,
                               &chosen, "", PGC_SUSET, 0, nullptr, nullptr, nullptr);
}

bool crash_point_is(const char *name) {
    size_t length = strlen(name);
    return chosen != nullptr && strncmp(chosen, name, length) == 0 && chosen[length] == ':';
}

void crash_point(const char *name) {
    if (!crash_point_is(name))
        return;
    if (strcmp(chosen + strlen(name), ":kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(chosen + strlen(name), ":stop") == 0) {
        static bool stopped;
        if (!stopped)
            raise(SIGSTOP);
        stopped = true;
        return;
    }
    ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("crash point %s", name)));
}

} // namespace panvel
#endif
