// panvel.activity and the health that panvel.nodes shows.
#include "coordinator/catalog/catalog.h"
#include "coordinator/monitor/sessions.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "catalog/pg_authid_d.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"
}

namespace panvel {
namespace {

const char *state_name(Activity activity) {
    switch (activity) {
    case Activity::kConnecting:
        return "connecting";
    case Activity::kActive:
        return "active";
    case Activity::kIdleInTransaction:
        return "idle in transaction";
    case Activity::kIdle:
        break;
    }
    return "idle";
}

// A statement is cut off anywhere, but not in the middle of a character.
Datum query_text(const RemoteSession *session) {
    int length = static_cast<int>(strnlen(session->query, kQuerySize));
    length = pg_mbcliplen(session->query, length, kQuerySize - 1);
    return PointerGetDatum(cstring_to_text_with_len(session->query, length));
}

void put_session(ReturnSetInfo *out, const RemoteSession *session) {
    Datum values[] = {Int32GetDatum(session->pid),
                      CStringGetTextDatum(session->node_name),
                      Int64GetDatum(session->shard_id),
                      query_text(session),
                      CStringGetTextDatum(state_name(session->activity)),
                      TimestampTzGetDatum(session->since)};
    bool isnull[] = {false, false, session->shard_id == 0, false, false, false};
    tuplestore_putvalues(out->setResult, out->setDesc, values, isnull);
}

} // namespace
} // namespace panvel

SQL_FUNCTION(panvel_remote_activity) {
    using namespace panvel;
    require_preload();
    InitMaterializedSRF(fcinfo, 0);
    auto *out = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    bool all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
    RemoteSession *sessions;
    int count = list_sessions(&sessions);
    for (int i = 0; i < count; i++) {
        const RemoteSession *session = &sessions[i];
        if (session->database == MyDatabaseId && session->activity != Activity::kIdle &&
            (all || has_privs_of_role(GetUserId(), session->role)))
            put_session(out, session);
    }
    return static_cast<Datum>(0);
}
