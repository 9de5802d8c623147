#include "coordinator/remote/start.h"

#include "coordinator/remote/connection.h"

extern "C" {
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/guc.h"
}

namespace panvel {
namespace {

// What a worker's session is like whatever its configuration: names mean the same everywhere,
// values travel without loss, and a coordinator that has gone is noticed within a second while a
// statement runs, within two minutes while none does.
constexpr const char *kSessionOptions =
    "-c search_path=pg_catalog -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 "
    "-c standard_conforming_strings=on -c statement_timeout=0 "
    "-c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 "
    "-c client_connection_check_interval=1000 -c tcp_keepalives_idle=60 "
    "-c tcp_keepalives_interval=15 -c tcp_keepalives_count=4";

// What panvel.node_conninfo may set: how the coordinator and a worker trust each other. Not where
// a worker is and not who connects; and no password, which SHOW and postgresql.conf would tell.
constexpr const char *kAllowed[] = {
    "sslmode",  "sslcert",     "sslkey",          "sslrootcert",
    "sslcrl",   "sslcrldir",   "sslsni",          "ssl_min_protocol_version",
    "passfile", "gssencmode",  "krbsrvname",      "ssl_max_protocol_version",
    "gsslib",   "requirepeer", "channel_binding",
};

constexpr int kMaxKeywords = 40;

char *node_conninfo;

bool is_allowed(const char *keyword) {
    for (const char *allowed : kAllowed)
        if (strcmp(keyword, allowed) == 0)
            return true;
    return false;
}

bool check_conninfo(char **value, void **, GucSource) {
    char *error = nullptr;
    PQconninfoOption *options = PQconninfoParse(*value, &error);
    if (options == nullptr) {
        GUC_check_errdetail("%s", error != nullptr ? error : "out of memory");
        PQfreemem(error);
        return false;
    }
    bool valid = true;
    for (PQconninfoOption *option = options; option->keyword != nullptr && valid; option++) {
        if (option->val == nullptr || is_allowed(option->keyword))
            continue;
        GUC_check_errdetail("\"%s\" cannot be set here.", option->keyword);
        GUC_check_errhint("TLS, passfile and Kerberos options can be set; nodes are where "
                          "panvel.add_node() says.");
        valid = false;
    }
    PQconninfoFree(options);
    return valid;
}

} // namespace

bool is_socket_directory(const char *host) {
    return is_absolute_path(host) || host[0] == '@';
}

PGconn *start_libpq(const Target &target, const char *addresses, const char *application,
                    const char **error) {
    char port[16];
    char timeout[16];
    snprintf(port, sizeof(port), "%d", target.port);
    snprintf(timeout, sizeof(timeout), "%d", node_timeout_ms);
    // libpq wants as many hosts as addresses.
    StringInfoData hosts;
    initStringInfo(&hosts);
    appendStringInfoString(&hosts, target.host);
    if (addresses != nullptr)
        for (const char *c = strchr(addresses, ','); c != nullptr; c = strchr(c + 1, ','))
            appendStringInfo(&hosts, ",%s", target.host);

    const char *keywords[kMaxKeywords];
    const char *values[kMaxKeywords];
    int count = 0;
    auto set = [&](const char *keyword, const char *value) {
        keywords[count] = keyword;
        values[count++] = value;
    };
    PQconninfoOption *options = PQconninfoParse(node_conninfo, nullptr);
    if (options == nullptr) {
        pfree(hosts.data);
        *error = "out of memory";
        return nullptr;
    }
    for (PQconninfoOption *option = options; option->keyword != nullptr; option++)
        if (option->val != nullptr)
            set(option->keyword, option->val);
    set("host", hosts.data);
    if (addresses != nullptr)
        set("hostaddr", addresses);
    set("port", port);
    set("dbname", target.dbname);
    set("user", target.role);
    set("application_name", application);
    set("client_encoding", GetDatabaseEncodingName());
    set("options", kSessionOptions);
    set("keepalives_idle", "10");
    set("keepalives_interval", "5");
    set("keepalives_count", "3");
    set("tcp_user_timeout", timeout);
    set(nullptr, nullptr);
    PGconn *pg = PQconnectStartParams(keywords, values, 0);
    PQconninfoFree(options);
    pfree(hosts.data);
    if (pg == nullptr)
        *error = "out of memory";
    return pg;
}

void init_start() {
    DefineCustomStringVariable(
        "panvel.node_conninfo", "libpq options for connections to nodes: TLS, passfile.",
        "For example \"sslmode=verify-full sslrootcert=/etc/ssl/panvel.crt\". New connections use "
        "a new value.",
        &node_conninfo, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_conninfo, nullptr, nullptr);
}

} // namespace panvel
