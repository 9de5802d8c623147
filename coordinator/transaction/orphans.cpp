#include "coordinator/transaction/orphans.h"

#include "coordinator/catalog/metadata.h"
#include "coordinator/monitor/sessions.h"
#include "coordinator/remote/remote.h"

namespace panvel {
namespace {

struct Asked {
    const ClusterNode *node;
    RemoteRequest *request;
};

constexpr const char *kListSessions =
    "SELECT pid, application_name, backend_start::pg_catalog.text "
    "FROM pg_catalog.pg_stat_activity WHERE pg_catalog.starts_with(application_name, $1) "
    "AND pid <> pg_catalog.pg_backend_pid()";

constexpr const char *kTerminate =
    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity "
    "WHERE pid = $1::pg_catalog.int4 AND application_name = $2 "
    "AND backend_start = $3::pg_catalog.timestamptz";

// The backend that the session's name says it belongs to has it, or is about to have it.
bool has_owner(const RemoteSession *sessions, int count, int32 node_id, int remote_pid,
               const char *name) {
    const char *last = strrchr(name, ' ');
    int pid = last != nullptr ? atoi(last + 1) : 0;
    for (int i = 0; i < count; i++)
        if (sessions[i].database == MyDatabaseId && sessions[i].node_id == node_id &&
            sessions[i].pid == pid &&
            (sessions[i].remote_pid == remote_pid || sessions[i].remote_pid == 0))
            return true;
    return false;
}

RemoteRequest *terminate(int32 node_id, const PGresult *result, int row) {
    const char *values[] = {PQgetvalue(result, row, 0), PQgetvalue(result, row, 1),
                            PQgetvalue(result, row, 2)};
    RemoteParams params = {3, nullptr, values, nullptr, nullptr};
    RemoteStatement statement = {kTerminate, &params, Effect::kNoTransaction, false, false};
    return remote_send(node_id, &statement);
}

} // namespace

List *look_for_orphans(List *nodes) {
    char prefix[NAMEDATALEN];
    format_session_prefix(prefix, sizeof(prefix));
    const char *values[] = {prefix};
    RemoteParams params = {1, nullptr, values, nullptr, nullptr};
    RemoteStatement statement = {kListSessions, &params, Effect::kNoTransaction, false, false};
    List *asked = NIL;
    ListCell *cell;
    foreach (cell, nodes) {
        Asked *one = palloc_object(Asked);
        one->node = static_cast<ClusterNode *>(lfirst(cell));
        one->request = remote_send(one->node->node_id, &statement);
        asked = lappend(asked, one);
    }
    return asked;
}

List *end_orphans(List *asked) {
    List *unsettled = NIL;
    List *requests = NIL;
    ListCell *cell;
    foreach (cell, asked) {
        const Asked *one = static_cast<Asked *>(lfirst(cell));
        int32 node_id = one->node->node_id;
        remote_wait_any(&one->request, 1);
        if (remote_error(one->request) != nullptr) {
            unsettled = lappend_int(unsettled, node_id);
            continue;
        }
        PGresult *result = remote_wait(one->request);
        // After the answer: a session in it was in shared memory before it existed.
        RemoteSession *sessions;
        int count = list_sessions(&sessions);
        for (int row = 0; row < PQntuples(result); row++) {
            if (has_owner(sessions, count, node_id, atoi(PQgetvalue(result, row, 0)),
                          PQgetvalue(result, row, 1)))
                continue;
            unsettled = list_append_unique_int(unsettled, node_id);
            requests = lappend(requests, terminate(node_id, result, row));
        }
        pfree(sessions);
    }
    foreach (cell, requests) { // an error is the node's, which is unsettled already
        RemoteRequest *request = static_cast<RemoteRequest *>(lfirst(cell));
        remote_wait_any(&request, 1);
    }
    return unsettled;
}

} // namespace panvel
