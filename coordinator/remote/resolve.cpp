#include "coordinator/remote/resolve.h"

#include <arpa/inet.h>
#include <cstdlib>
#include <netdb.h>
#include <sys/socket.h>

extern "C" {
#include "miscadmin.h"
}

namespace panvel {

// The C library's helper thread writes to it, so it is malloc'd, and one that could not be
// cancelled is left alone until it has ended by itself.
struct Lookup {
    gaicb request;
    addrinfo hints;
    char *host;
    Lookup *next;
};

namespace {

Lookup *abandoned;

void free_lookup(Lookup *lookup) {
    if (lookup->request.ar_result)
        freeaddrinfo(lookup->request.ar_result);
    free(lookup->host);
    free(lookup);
}

void free_abandoned() {
    for (Lookup **link = &abandoned; *link != nullptr;) {
        Lookup *lookup = *link;
        if (gai_error(&lookup->request) == EAI_INPROGRESS) {
            link = &lookup->next;
            continue;
        }
        *link = lookup->next;
        free_lookup(lookup);
    }
}

int append_addresses(const addrinfo *list, StringInfo addresses) {
    int count = 0;
    for (const addrinfo *address = list; address != nullptr; address = address->ai_next) {
        char text[NI_MAXHOST];
        if (getnameinfo(address->ai_addr, address->ai_addrlen, text, sizeof(text), nullptr, 0,
                        NI_NUMERICHOST) != 0)
            continue;
        appendStringInfo(addresses, "%s%s", count > 0 ? "," : "", text);
        count++;
    }
    return count;
}

// Waits in steps that are short enough for Ctrl-C; a latch cannot wake gai_suspend().
void wait_for(Lookup *lookup, TimestampTz deadline) {
    const gaicb *list[1] = {&lookup->request};
    while (!lookup_done(lookup) && GetCurrentTimestamp() < deadline) {
        timespec step = {0, 20 * 1000 * 1000};
        gai_suspend(list, 1, &step);
        CHECK_FOR_INTERRUPTS();
    }
}

} // namespace

bool is_numeric_address(const char *host) {
    unsigned char buffer[sizeof(in6_addr)];
    return inet_pton(AF_INET, host, buffer) == 1 || inet_pton(AF_INET6, host, buffer) == 1;
}

Lookup *start_lookup(const char *host, const char **error) {
    free_abandoned();
    Lookup *lookup = static_cast<Lookup *>(calloc(1, sizeof(Lookup)));
    if (lookup == nullptr || (lookup->host = strdup(host)) == nullptr) {
        free(lookup);
        *error = "out of memory";
        return nullptr;
    }
    lookup->hints.ai_family = AF_UNSPEC;
    lookup->hints.ai_socktype = SOCK_STREAM;
    lookup->request.ar_name = lookup->host;
    lookup->request.ar_request = &lookup->hints;

    gaicb *list[1] = {&lookup->request};
    if (int code = getaddrinfo_a(GAI_NOWAIT, list, 1, nullptr); code != 0) {
        free_lookup(lookup);
        *error = gai_strerror(code);
        return nullptr;
    }
    return lookup;
}

bool lookup_done(Lookup *lookup) {
    return gai_error(&lookup->request) != EAI_INPROGRESS;
}

int finish_lookup(Lookup *lookup, StringInfo addresses, const char **error) {
    int code = gai_error(&lookup->request);
    int count = code == 0 ? append_addresses(lookup->request.ar_result, addresses) : 0;
    if (count == 0)
        *error = code == 0 ? "the name has no address" : gai_strerror(code);
    free_lookup(lookup);
    return count;
}

void abandon_lookup(Lookup *lookup) {
    gai_cancel(&lookup->request);
    lookup->next = abandoned;
    abandoned = lookup;
    free_abandoned();
}

int resolve_host(const char *host, TimestampTz deadline, StringInfo addresses, const char **error) {
    if (is_numeric_address(host)) {
        appendStringInfoString(addresses, host);
        return 1;
    }
    Lookup *lookup = start_lookup(host, error);
    if (lookup == nullptr)
        return 0;
    PG_TRY();
    { wait_for(lookup, deadline); }
    PG_CATCH();
    {
        abandon_lookup(lookup);
        PG_RE_THROW();
    }
    PG_END_TRY();
    if (!lookup_done(lookup)) {
        abandon_lookup(lookup);
        *error = "name resolution timed out";
        return 0;
    }
    return finish_lookup(lookup, addresses, error);
}

} // namespace panvel
