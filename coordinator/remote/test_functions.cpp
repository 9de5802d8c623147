// Functions for tests of this layer alone; in builds with -DPANVEL_CRASH_POINTS=ON only, and in no
// install script: a test declares what it calls (test/cluster/remote_support.py).
#if defined(PANVEL_CRASH_POINTS)
#include "coordinator/remote/remote.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "utils/array.h"
#include "utils/builtins.h"
}

namespace panvel {
namespace {

Effect effect_of(const char *name) {
    if (strcmp(name, "read_once") == 0)
        return Effect::kReadOnce;
    if (strcmp(name, "read") == 0)
        return Effect::kRead;
    if (strcmp(name, "write") == 0)
        return Effect::kWrite;
    if (strcmp(name, "no_transaction") == 0)
        return Effect::kNoTransaction;
    ereport(ERROR, (errmsg("no such effect: %s", name)));
    pg_unreachable();
}

text *first_value(PGresult *result) {
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        return cstring_to_text(PQcmdStatus(result));
    if (PQntuples(result) == 0 || PQgetisnull(result, 0, 0))
        return nullptr;
    return cstring_to_text(PQgetvalue(result, 0, 0));
}

} // namespace

// remote(node int, sql text, effect text, keep_prepared bool, param text) returns text
SQL_FUNCTION(panvel_test_remote) {
    char *sql = text_to_cstring(PG_GETARG_TEXT_PP(1));
    RemoteStatement statement = {sql, nullptr, effect_of(text_to_cstring(PG_GETARG_TEXT_PP(2))),
                                 PG_GETARG_BOOL(3), false};
    const char *values[] = {nullptr};
    RemoteParams params = {1, nullptr, values, nullptr, nullptr};
    if (!PG_ARGISNULL(4)) {
        values[0] = text_to_cstring(PG_GETARG_TEXT_PP(4));
        statement.params = &params;
    }
    RemoteRequest *request = remote_send(PG_GETARG_INT32(0), &statement);
    text *value = first_value(remote_wait(request));
    remote_release(request);
    if (value == nullptr)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(value);
}

// remote_all(nodes int[], sql text, effect text, wait bool) returns int: sends the statement to all
// nodes, then waits for all in the order of their answers, or for none.
SQL_FUNCTION(panvel_test_remote_all) {
    ArrayType *nodes = PG_GETARG_ARRAYTYPE_P(0);
    int count = ArrayGetNItems(ARR_NDIM(nodes), ARR_DIMS(nodes));
    const int32 *ids = reinterpret_cast<int32 *>(ARR_DATA_PTR(nodes));
    RemoteStatement statement = {text_to_cstring(PG_GETARG_TEXT_PP(1)), nullptr,
                                 effect_of(text_to_cstring(PG_GETARG_TEXT_PP(2))), false, false};
    auto **requests = static_cast<RemoteRequest **>(palloc(sizeof(RemoteRequest *) * (count + 1)));
    for (int i = 0; i < count; i++)
        requests[i] = remote_send(ids[i], &statement);
    int done = 0;
    for (int i; PG_GETARG_BOOL(3) && (i = remote_wait_any(requests, count)) >= 0; done++) {
        remote_wait(requests[i]);
        requests[i] = nullptr;
    }
    PG_RETURN_INT32(done);
}

// remote_copy(node int, sql text, data text) returns bigint
SQL_FUNCTION(panvel_test_remote_copy) {
    text *data = PG_GETARG_TEXT_PP(2);
    RemoteRequest *request =
        remote_send_copy(PG_GETARG_INT32(0), text_to_cstring(PG_GETARG_TEXT_PP(1)),
                         VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
    PG_RETURN_INT64(remote_affected(remote_wait(request)));
}

} // namespace panvel
#endif
