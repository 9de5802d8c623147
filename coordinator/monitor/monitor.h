// The monitor: a background process that keeps a connection to every server, asks it something
// short again and again, and looks for deadlocks over several nodes when asked to.
#pragma once

namespace panvel {

void init_monitor(); // shared memory, the process; from _PG_init while preloading

// A statement has been waiting for longer than deadlock_timeout.
void want_deadlock_search();

// For the monitor process: whether one is wanted; clears the wish.
bool deadlock_search_wanted();

} // namespace panvel
