// Places where a test build stops on demand: `panvel.crash_point = 'after_prepare:kill'` (or
// :error, or :stop, by SIGSTOP until SIGCONT, once in a session) is hit when execution gets there.
// Without -DPANVEL_CRASH_POINTS=ON there is nothing.
//
// before_prepare, between_prepares, after_prepare, after_record, after_local_commit,
// between_commit_prepared
#pragma once

namespace panvel {

#if defined(PANVEL_CRASH_POINTS)
void crash_point(const char *name);
bool crash_point_is(const char *name);
void init_crash_points();
#define PANVEL_CRASH_POINT(name) ::panvel::crash_point(name)
#define PANVEL_CRASH_POINT_IS(name) ::panvel::crash_point_is(name)
#else
inline void init_crash_points() {}
#define PANVEL_CRASH_POINT(name) ((void)0)
#define PANVEL_CRASH_POINT_IS(name) false
#endif

} // namespace panvel
