// Host names to addresses without blocking the backend: libpq would resolve them in
// PQconnectStart(), where no signal ends it.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/timestamp.h"
}

namespace panvel {

// Appends the addresses of `host` to `addresses`, separated by commas, and returns how many.
// Numeric addresses are taken as they are; a name is resolved by the C library's asynchronous
// resolver until `deadline` at most, checking for interrupts. 0 with a message in `*error`
// (static or palloc'd) when there is none. Not for directories of Unix sockets.
int resolve_host(const char *host, TimestampTz deadline, StringInfo addresses, const char **error);

} // namespace panvel
