// Errors of other nodes as errors of this one.
#include "coordinator/remote/connection.h"

extern "C" {
#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

char *copy_field(const PGresult *result, int field) {
    const char *value = PQresultErrorField(result, field);
    return value != nullptr && *value != '\0' ? pstrdup(value) : nullptr;
}

// The shard's schema, "panvel_s12", is none of the user's: the schema of its table is. Null when it
// is not such a name, or there is no catalog to look at.
char *user_schema(const char *schema, const char *table) {
    constexpr char kPrefix[] = "panvel_s";
    if (schema == nullptr || table == nullptr || !IsTransactionState() ||
        strncmp(schema, kPrefix, strlen(kPrefix)) != 0)
        return nullptr;
    const char *digits = schema + strlen(kPrefix);
    if (*digits == '\0' || strlen(digits) > 18 || strspn(digits, "0123456789") != strlen(digits))
        return nullptr;
    Oid relid = find_table_of_shard(pg_strtoint64(digits), table);
    return OidIsValid(relid) ? get_namespace_name(get_rel_namespace(relid)) : nullptr;
}

ErrorData *new_error(int sqlstate) {
    ErrorData *error = static_cast<ErrorData *>(palloc0(sizeof(ErrorData)));
    error->elevel = ERROR;
    error->output_to_server = true;
    error->output_to_client = true;
    error->sqlerrcode = sqlstate;
    error->assoc_context = CurrentMemoryContext;
    return error;
}

char *trimmed(MemoryContext context, const char *text) {
    if (text == nullptr)
        return nullptr;
    size_t length = strlen(text);
    while (length > 0 && isspace(static_cast<unsigned char>(text[length - 1])))
        length--;
    return length > 0 ? MemoryContextStrdup(context, pnstrdup(text, length)) : nullptr;
}

} // namespace

int sqlstate_of(const PGresult *result) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (state == nullptr || strlen(state) != 5)
        return ERRCODE_CONNECTION_FAILURE;
    return MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
}

ErrorData *error_of_result(const PGresult *result, const char *node_name) {
    ErrorData *error = new_error(sqlstate_of(result));
    error->message = copy_field(result, PG_DIAG_MESSAGE_PRIMARY);
    if (error->message == nullptr)
        error->message = pstrdup("unknown error");
    error->detail = copy_field(result, PG_DIAG_MESSAGE_DETAIL);
    error->hint = copy_field(result, PG_DIAG_MESSAGE_HINT);
    error->table_name = copy_field(result, PG_DIAG_TABLE_NAME);
    error->schema_name = copy_field(result, PG_DIAG_SCHEMA_NAME);
    if (char *schema = user_schema(error->schema_name, error->table_name); schema != nullptr)
        error->schema_name = schema;
    error->column_name = copy_field(result, PG_DIAG_COLUMN_NAME);
    error->datatype_name = copy_field(result, PG_DIAG_DATATYPE_NAME);
    error->constraint_name = copy_field(result, PG_DIAG_CONSTRAINT_NAME);
    const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);
    error->context = context != nullptr && *context != '\0'
                         ? psprintf("%s\non node \"%s\"", context, node_name)
                         : psprintf("on node \"%s\"", node_name);
    return error;
}

ErrorData *error_of_failure(const Failure &failure, const char *node_name) {
    ErrorData *error = new_error(failure.sqlstate);
    if (failure.message != nullptr)
        error->message = pstrdup(failure.message);
    else if (failure.sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)
        error->message = psprintf("could not connect to node \"%s\"", node_name);
    else
        error->message = psprintf("the connection to node \"%s\" was lost", node_name);
    error->detail = failure.detail ? pstrdup(failure.detail) : nullptr;
    error->context = psprintf("on node \"%s\"", node_name);
    return error;
}

Failure make_failure(int sqlstate, const char *message, const char *detail) {
    return {sqlstate, trimmed(remote_context, message), trimmed(remote_context, detail)};
}

void free_failure(Failure *failure) {
    if (failure->message)
        pfree(failure->message);
    if (failure->detail)
        pfree(failure->detail);
    *failure = {};
}

// Workers' notices and warnings, each text once a statement: a statement's shards say the same.
void receive_notice(void *argument, const PGresult *notice) {
    static uint32 last_hash;
    static TimestampTz last_statement;
    const Connection *connection = static_cast<const Connection *>(argument);
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *text = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
    if (severity == nullptr || text == nullptr)
        return;
    int level;
    if (strcmp(severity, "WARNING") == 0)
        level = WARNING;
    else if (strcmp(severity, "NOTICE") == 0)
        level = NOTICE;
    else
        return;
    uint32 hash = string_hash(text, strlen(text) + 1);
    if (hash == last_hash && last_statement == GetCurrentStatementStartTimestamp())
        return;
    last_hash = hash;
    last_statement = GetCurrentStatementStartTimestamp();
    const char *detail = PQresultErrorField(notice, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(notice, PG_DIAG_MESSAGE_HINT);
    ereport(level,
            (errcode(sqlstate_of(notice)), errmsg("%s", text), detail ? errdetail("%s", detail) : 0,
             hint ? errhint("%s", hint) : 0, errcontext("on node \"%s\"", connection->node_name)));
}

} // namespace panvel
