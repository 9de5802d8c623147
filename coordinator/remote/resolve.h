// Host names to addresses without blocking the backend: libpq would resolve them in
// PQconnectStart(), where no signal ends it.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/timestamp.h"
}

namespace panvel {

// A look-up under way. The C library's helper thread works on it (all its signals are blocked, and
// it calls nothing of PostgreSQL).
struct Lookup;

bool is_numeric_address(const char *host);

// Null with a message in `*error` (static) when it cannot even be begun.
Lookup *start_lookup(const char *host, const char **error);
bool lookup_done(Lookup *lookup);
// Of one that is done: appends the addresses to `addresses`, separated by commas, and returns how
// many; 0 with a message in `*error` (static) when there is none. Frees the look-up.
int finish_lookup(Lookup *lookup, StringInfo addresses, const char **error);
// Of one that is not: it is freed when it has ended.
void abandon_lookup(Lookup *lookup);

// All of that: waits until `deadline` at most, checking for interrupts. Numeric addresses are
// taken as they are. Not for directories of Unix sockets.
int resolve_host(const char *host, TimestampTz deadline, StringInfo addresses, const char **error);

} // namespace panvel
