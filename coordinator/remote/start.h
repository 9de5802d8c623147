// How a libpq connection to a node is started: its address, its options, TLS.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "libpq-fe.h"
}

namespace panvel {

struct Target {
    const char *host; // a name, an address, or the directory of a Unix socket
    int32 port;
    const char *dbname;
    const char *role;
};

bool is_socket_directory(const char *host);

// Starts connecting, without waiting. `addresses`: those of a host that is a name or an address,
// separated by commas. Null with `*error` when out of memory; what else goes wrong, the connection
// says.
PGconn *start_libpq(const Target &target, const char *addresses, const char *application,
                    const char **error);

void init_start(); // panvel.node_conninfo

} // namespace panvel
