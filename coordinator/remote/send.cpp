// From the queue to the wire.
#include "coordinator/remote/connection.h"

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "access/xact.h"
#include "common/hashfn.h"
}

namespace panvel {
namespace {

// A connection keeps at most this many prepared statements; the one not used for longest goes.
constexpr int kMaxPrepared = 256;
constexpr size_t kCopyChunk = 256 * 1024;

uint64 use_counter;

bool send_command(Connection *connection, const char *sql) {
    return PQsendQueryParams(connection->watched.pg, sql, 0, nullptr, nullptr, nullptr, nullptr,
                             0) != 0;
}

void begin_command(char *text, size_t size, const Entry *entry) {
    const char *isolation = "READ COMMITTED";
    if (XactIsoLevel == XACT_REPEATABLE_READ)
        isolation = "REPEATABLE READ";
    else if (XactIsoLevel == XACT_SERIALIZABLE)
        isolation = "SERIALIZABLE";
    snprintf(text, size, "BEGIN ISOLATION LEVEL %s %s%s", isolation,
             entry->read_only ? "READ ONLY" : "READ WRITE", XactDeferrable ? " DEFERRABLE" : "");
}

// The remote transaction and its savepoints up to the entry's level.
bool send_levels(Connection *connection, const Entry *entry, int *commands) {
    if (!entry->needs_transaction && connection->depth == 0)
        return true;
    while (connection->depth < entry->level) {
        char command[100];
        if (connection->depth == 0)
            begin_command(command, sizeof(command), entry);
        else
            snprintf(command, sizeof(command), "SAVEPOINT s%d", connection->depth + 1);
        if (!send_command(connection, command))
            return false;
        connection->depth++;
        (*commands)++;
    }
    return true;
}

// A failed statement would end the transaction. That of a guarded one is undone in any case, by
// send_guard_end(): it has only read, and nobody has to wait for its outcome first.
bool send_guard(Connection *connection, const Entry *entry, int *commands) {
    if (!entry->guarded || connection->depth == 0)
        return true;
    connection->guarded = true;
    (*commands)++;
    return send_command(connection, "SAVEPOINT panvel_guard");
}

// The settings that differ from what the worker's session has, in one statement.
bool send_settings(Connection *connection, Entry *entry, int *commands) {
    const Settings *wanted = entry->settings;
    const Settings *known = connection->settings;
    if (wanted == nullptr || wanted == known)
        return true;
    bool comparable = known != nullptr && known->count == wanted->count;
    for (int i = 0; comparable && i < wanted->count; i++)
        comparable = strcmp(known->names[i], wanted->names[i]) == 0;

    StringInfoData sql;
    initStringInfo(&sql);
    const char **values =
        static_cast<const char **>(palloc(sizeof(char *) * (2 * wanted->count + 1)));
    int count = 0;
    for (int i = 0; i < wanted->count; i++) {
        if (comparable && strcmp(known->values[i], wanted->values[i]) == 0)
            continue;
        appendStringInfo(&sql, "%s pg_catalog.set_config($%d, $%d, false)",
                         count == 0 ? "SELECT" : ",", count + 1, count + 2);
        values[count++] = wanted->names[i];
        values[count++] = wanted->values[i];
    }
    bool sent = true;
    if (count > 0) {
        sent = PQsendQueryParams(connection->watched.pg, sql.data, count, nullptr, values, nullptr,
                                 nullptr, 0) != 0;
        (*commands)++;
        entry->sets = true;
        connection->settings_in_transaction |= connection->depth > 0;
    }
    pfree(sql.data);
    pfree(values);
    hold_settings(wanted);
    release_settings(known);
    connection->settings = wanted;
    return sent;
}

uint64 prepared_key(const Entry *entry) {
    uint64 key = DatumGetUInt64(hash_any_extended(
        reinterpret_cast<const unsigned char *>(entry->sql), strlen(entry->sql), 0));
    if (entry->params.count > 0 && entry->params.types != nullptr)
        key ^= DatumGetUInt64(
            hash_any_extended(reinterpret_cast<const unsigned char *>(entry->params.types),
                              sizeof(Oid) * entry->params.count, key));
    return key == 0 ? 1 : key;
}

void make_prepared_table(Connection *connection) {
    HASHCTL control = {};
    control.keysize = sizeof(uint64);
    control.entrysize = sizeof(PreparedStatement);
    control.hcxt = remote_context;
    connection->prepared = hash_create("panvel prepared statements", kMaxPrepared, &control,
                                       HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

bool drop_prepared(Connection *connection, PreparedStatement *statement, int *commands) {
    char command[64];
    snprintf(command, sizeof(command), "DEALLOCATE panvel_" UINT64_FORMAT, statement->number);
    forget_prepared(connection, statement->key);
    (*commands)++;
    return send_command(connection, command);
}

bool drop_least_used(Connection *connection, int *commands) {
    PreparedStatement *oldest = nullptr;
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, connection->prepared);
    while (auto *statement = static_cast<PreparedStatement *>(hash_seq_search(&scan)))
        if (oldest == nullptr || statement->used < oldest->used)
            oldest = statement;
    return oldest == nullptr || drop_prepared(connection, oldest, commands);
}

// Sends the statement by its prepared form, and prepares it before where that is new.
bool send_prepared(Connection *connection, Entry *entry, int *commands) {
    if (connection->prepared == nullptr)
        make_prepared_table(connection);
    uint64 key = prepared_key(entry);
    bool found;
    auto *statement = static_cast<PreparedStatement *>(
        hash_search(connection->prepared, &key, HASH_FIND, &found));
    if (found && strcmp(statement->sql, entry->sql) != 0) {
        forget_prepared(connection, key);
        found = false;
    }
    // After DDL the columns may have other types, which the node would refuse ("cached plan must
    // not change result type").
    if (found && statement->generation != definition_generation()) {
        if (!drop_prepared(connection, statement, commands))
            return false;
        found = false;
    }
    char name[40];
    if (!found) {
        if (hash_get_num_entries(connection->prepared) >= kMaxPrepared &&
            !drop_least_used(connection, commands))
            return false;
        char *sql = MemoryContextStrdup(remote_context, entry->sql);
        statement = static_cast<PreparedStatement *>(
            hash_search(connection->prepared, &key, HASH_ENTER, &found));
        statement->sql = sql;
        statement->number = ++use_counter;
        statement->generation = definition_generation();
        snprintf(name, sizeof(name), "panvel_" UINT64_FORMAT, statement->number);
        if (!PQsendPrepare(connection->watched.pg, name, entry->sql, entry->params.count,
                           entry->params.types))
            return false;
        entry->parses = true;
        entry->parse_step = (*commands)++;
    }
    statement->used = ++use_counter;
    entry->prepared = key;
    snprintf(name, sizeof(name), "panvel_" UINT64_FORMAT, statement->number);
    return PQsendQueryPrepared(connection->watched.pg, name, entry->params.count,
                               entry->params.values, entry->params.lengths, entry->params.formats,
                               entry->binary_results) != 0;
}

bool send_with_params(Connection *connection, const Entry *entry) {
    return PQsendQueryParams(connection->watched.pg, entry->sql, entry->params.count,
                             entry->params.types, entry->params.values, entry->params.lengths,
                             entry->params.formats, entry->binary_results) != 0;
}

bool enter_pipeline(Connection *connection) {
    if (!connection->pipeline && !PQenterPipelineMode(connection->watched.pg))
        return false;
    connection->pipeline = true;
    return true;
}

bool end_group(Connection *connection) {
    if (!PQpipelineSync(connection->watched.pg))
        return false;
    int left = PQflush(connection->watched.pg);
    connection->watched.wants_write = left > 0;
    return left >= 0;
}

bool send_group(Connection *connection, Entry *entry) {
    int commands = 0;
    entry->stage = Stage::kBody;
    return enter_pipeline(connection) && send_levels(connection, entry, &commands) &&
           send_settings(connection, entry, &commands) &&
           send_guard(connection, entry, &commands) &&
           (entry->keep_prepared ? send_prepared(connection, entry, &commands)
                                 : send_with_params(connection, entry)) &&
           end_group(connection);
}

// Outside the pipeline one statement is under way at a time: first, still in the pipeline, what
// precedes it, then, by send_body(), itself.
bool send_exclusive(Connection *connection, Entry *entry) {
    int commands = 0;
    connection->exclusive = entry;
    entry->stage = Stage::kPrefix;
    if (!enter_pipeline(connection) || !send_levels(connection, entry, &commands) ||
        !send_settings(connection, entry, &commands))
        return false;
    return commands > 0 ? end_group(connection) : send_body(entry);
}

// Control whose savepoint or transaction was never begun on the node has nothing to do there.
bool is_void(const Connection *connection, const Entry *entry) {
    if (entry->ends_guard)
        return !connection->guarded;
    return entry->kind == EntryKind::kControl && entry->level > connection->depth;
}

bool send_control_entry(Connection *connection, Entry *entry) {
    entry->stage = Stage::kBody;
    if (!enter_pipeline(connection) || !send_command(connection, entry->sql) ||
        (entry->second_sql && !send_command(connection, entry->second_sql)))
        return false;
    if (entry->level > 0)
        connection->depth = entry->level - 1;
    if (entry->ends_guard)
        connection->guarded = false;
    return end_group(connection);
}

bool send_entry(Connection *connection, Entry *entry) {
    INSTR_TIME_SET_CURRENT(entry->sent_at);
    if (entry->kind == EntryKind::kControl)
        return send_control_entry(connection, entry);
    return entry->pipelined ? send_group(connection, entry) : send_exclusive(connection, entry);
}

// Sizes and places the copies of a statement's parameters behind its entry.
size_t params_size(const RemoteParams *params) {
    if (params == nullptr)
        return 0;
    size_t size = mul_size(params->count, sizeof(Oid) + sizeof(char *) + 2 * sizeof(int) + 16);
    for (int i = 0; i < params->count; i++) {
        if (params->values[i] == nullptr)
            continue;
        bool binary = params->formats != nullptr && params->formats[i] != 0;
        size_t length =
            binary ? static_cast<size_t>(params->lengths[i]) : strlen(params->values[i]);
        size = add_size(size, MAXALIGN(length + 1));
    }
    return size;
}

char *copy_params(Entry *entry, const RemoteParams *params, char *place) {
    if (params == nullptr || params->count == 0)
        return place;
    int count = params->count;
    auto take = [&place](size_t size) {
        char *taken = place;
        place += MAXALIGN(size);
        return taken;
    };
    auto **values = reinterpret_cast<const char **>(take(sizeof(char *) * count));
    Oid *types = reinterpret_cast<Oid *>(take(sizeof(Oid) * count));
    int *lengths = reinterpret_cast<int *>(take(sizeof(int) * count));
    int *formats = reinterpret_cast<int *>(take(sizeof(int) * count));
    for (int i = 0; i < count; i++) {
        types[i] = params->types ? params->types[i] : InvalidOid;
        formats[i] = params->formats ? params->formats[i] : 0;
        lengths[i] = 0;
        values[i] = nullptr;
        if (params->values[i] == nullptr)
            continue;
        size_t length =
            formats[i] != 0 ? static_cast<size_t>(params->lengths[i]) : strlen(params->values[i]);
        char *copy = take(length + 1);
        memcpy(copy, params->values[i], length);
        copy[length] = '\0';
        values[i] = copy;
        lengths[i] = static_cast<int>(length);
    }
    entry->params = {count, types, values, lengths, formats};
    return place;
}

} // namespace

void forget_prepared(Connection *connection, uint64 key) {
    if (connection->prepared == nullptr)
        return;
    auto *statement = static_cast<PreparedStatement *>(
        hash_search(connection->prepared, &key, HASH_FIND, nullptr));
    if (statement == nullptr)
        return;
    pfree(statement->sql);
    hash_search(connection->prepared, &key, HASH_REMOVE, nullptr);
}

Entry *make_entry(Connection *connection, EntryKind kind, const char *sql,
                  const RemoteParams *params, const char *data, size_t size) {
    size_t sql_size = strlen(sql) + 1;
    size_t total = MAXALIGN(sizeof(Entry));
    total = add_size(total, MAXALIGN(sql_size));
    total = add_size(total, params_size(params));
    total = add_size(total, size);
    char *place = static_cast<char *>(MemoryContextAllocHuge(remote_context, total));
    Entry *entry = reinterpret_cast<Entry *>(place);
    memset(entry, 0, sizeof(Entry));
    place += MAXALIGN(sizeof(Entry));
    memcpy(place, sql, sql_size);
    entry->sql = place;
    place += MAXALIGN(sql_size);
    place = copy_params(entry, params, place);
    if (size > 0)
        memcpy(place, data, size);
    entry->data = place;
    entry->data_size = size;
    entry->connection = connection;
    entry->kind = kind;
    return entry;
}

void enqueue(Entry *entry) {
    dlist_push_tail(&entry->connection->queue, &entry->node);
    if (entry->connection->phase == Phase::kClosed) { // lost since the caller looked
        Failure failure = make_failure(ERRCODE_CONNECTION_FAILURE, nullptr, nullptr);
        finish_entry(entry, &failure);
        free_failure(&failure);
        return;
    }
    send_queued(entry->connection);
}

void send_queued(Connection *connection) {
    while (connection->phase == Phase::kReady && connection->exclusive == nullptr &&
           !dlist_is_empty(&connection->queue)) {
        Entry *entry = dlist_head_element(Entry, node, &connection->queue);
        if (is_void(connection, entry)) {
            finish_entry(entry, nullptr);
            continue;
        }
        if (!entry->pipelined && !dlist_is_empty(&connection->under_way))
            return;
        dlist_delete(&entry->node);
        dlist_push_tail(&connection->under_way, &entry->node);
        if (!send_entry(connection, entry)) {
            connection_failed(connection, PQerrorMessage(connection->watched.pg));
            return;
        }
    }
    show_connection(connection);
}

namespace {

Entry *make_control(Connection *connection, const char *sql, const char *second_sql) {
    Entry *entry = make_entry(connection, EntryKind::kControl, sql, nullptr, second_sql,
                              second_sql ? strlen(second_sql) + 1 : 0);
    entry->second_sql = second_sql ? entry->data : nullptr;
    entry->pipelined = true;
    return entry;
}

} // namespace

void send_control(Connection *connection, const char *sql, const char *second_sql, int level) {
    PQclear(connection->control);
    connection->control = nullptr;
    Entry *entry = make_control(connection, sql, second_sql);
    entry->level = level;
    enqueue(entry);
}

void send_guard_end(Connection *connection) {
    Entry *entry = make_control(connection, "ROLLBACK TO SAVEPOINT panvel_guard",
                                "RELEASE SAVEPOINT panvel_guard");
    entry->ends_guard = true;
    entry->retryable = true;
    enqueue(entry);
}

bool send_body(Entry *entry) {
    Connection *connection = entry->connection;
    PGconn *pg = connection->watched.pg;
    if (connection->pipeline && !PQexitPipelineMode(pg))
        return false;
    connection->pipeline = false;
    entry->stage = Stage::kBody;
    bool sent = entry->kind == EntryKind::kCopy ? PQsendQuery(pg, entry->sql) != 0
                                                : send_with_params(connection, entry);
    int left = sent ? PQflush(pg) : -1;
    connection->watched.wants_write = left > 0;
    return left >= 0;
}

bool send_copy_data(Entry *entry, bool *broken) {
    PGconn *pg = entry->connection->watched.pg;
    for (;;) {
        int left = PQflush(pg);
        entry->connection->watched.wants_write = left > 0;
        *broken = left < 0;
        if (left != 0)
            return false;
        if (entry->data_sent == entry->data_size)
            break;
        size_t chunk = Min(kCopyChunk, entry->data_size - entry->data_sent);
        int put = PQputCopyData(pg, entry->data + entry->data_sent, static_cast<int>(chunk));
        *broken = put < 0;
        if (put <= 0)
            return false;
        entry->data_sent += chunk;
    }
    *broken = PQputCopyEnd(pg, nullptr) < 0;
    if (*broken)
        return false;
    int left = PQflush(pg);
    entry->connection->watched.wants_write = left > 0;
    *broken = left < 0;
    return !*broken;
}

void abort_copy(Entry *entry) {
    PGconn *pg = entry->connection->watched.pg;
    if (PQputCopyEnd(pg, "canceled by the coordinator") <= 0)
        return;
    entry->stage = Stage::kBody;
    entry->connection->watched.wants_write = PQflush(pg) != 0;
}

} // namespace panvel
