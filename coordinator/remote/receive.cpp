// From the wire to the requests.
#include "coordinator/remote/connection.h"

namespace panvel {
namespace {

bool is_error(const PGresult *result) {
    return result != nullptr && PQresultStatus(result) == PGRES_FATAL_ERROR;
}

// The server says that it ends the session, or libpq that the connection is gone.
bool ends_connection(const Connection *connection, const PGresult *result) {
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (severity != nullptr)
        return strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
    return PQstatus(connection->watched.pg) != CONNECTION_OK;
}

void fail_with_result(Connection *connection, PGresult *result) {
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    char copy[512];
    strlcpy(copy, text ? text : PQresultErrorMessage(result), sizeof(copy));
    PQclear(result);
    connection_failed(connection, copy);
}

// An error undoes what its group did before: settings, and whether a statement got prepared
// depends on which command of the group failed.
void note_error(Connection *connection, Entry *entry, const PGresult *error) {
    const char *function = PQresultErrorField(error, PG_DIAG_SOURCE_FUNCTION);
    bool stale = sqlstate_of(error) == ERRCODE_INVALID_SQL_STATEMENT_NAME ||
                 (function != nullptr && strcmp(function, "RevalidateCachedQuery") == 0);
    if (entry->prepared != 0 && (stale || (entry->parses && entry->step <= entry->parse_step)))
        forget_prepared(connection, entry->prepared);
    if (entry->sets) {
        release_settings(connection->settings);
        connection->settings = nullptr;
    }
}

void keep_result(Entry *entry, PGresult *result) {
    if (is_error(entry->result)) {
        PQclear(result);
        return;
    }
    if (is_error(result))
        note_error(entry->connection, entry, result);
    PQclear(entry->result);
    entry->result = result;
}

// All commands of a pipelined group have answered.
void end_group(Connection *connection, Entry *entry) {
    if (entry->stage != Stage::kPrefix || is_error(entry->result)) {
        finish_entry(entry, nullptr);
        return;
    }
    PQclear(entry->result);
    entry->result = nullptr;
    entry->sets = false;
    if (!send_body(entry))
        connection_failed(connection, PQerrorMessage(connection->watched.pg));
}

void take_result(Connection *connection, Entry *entry, PGresult *result) {
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        keep_result(entry, result);
        return;
    case PGRES_FATAL_ERROR:
        if (ends_connection(connection, result))
            fail_with_result(connection, result);
        else
            keep_result(entry, result);
        return;
    case PGRES_PIPELINE_SYNC:
        PQclear(result);
        end_group(connection, entry);
        return;
    case PGRES_PIPELINE_ABORTED:
        PQclear(result);
        return;
    case PGRES_COPY_IN:
        PQclear(result);
        if (entry->kind == EntryKind::kCopy && entry->stage == Stage::kBody) {
            entry->stage = Stage::kCopyData;
            return;
        }
        break;
    default:
        PQclear(result);
        break;
    }
    connection_failed(connection, "the node answered with something else than a result");
}

// No more results: of a command in the pipeline, or of the statement outside of it.
void end_of_results(Connection *connection, Entry *entry) {
    if (PQstatus(connection->watched.pg) != CONNECTION_OK || ++entry->nulls > 1) {
        connection_failed(connection, PQerrorMessage(connection->watched.pg));
        return;
    }
    if (connection->pipeline)
        entry->step++;
    else
        finish_entry(entry, nullptr);
}

void connect_further(Connection *connection) {
    PGconn *pg = connection->watched.pg;
    PostgresPollingStatusType status = PQconnectPoll(pg);
    watched_changed();
    connection->watched.wants_write = connection->watched.only_write =
        status == PGRES_POLLING_WRITING;
    if (status == PGRES_POLLING_FAILED) {
        connection_failed(connection, PQerrorMessage(pg));
        return;
    }
    if (status != PGRES_POLLING_OK)
        return;
    connection->phase = Phase::kReady;
    session_connected(connection->session, PQbackendPID(pg));
    if (PQsetnonblocking(pg, 1) != 0)
        connection_failed(connection, PQerrorMessage(pg));
    else
        send_queued(connection);
}

int64 microseconds_since(const instr_time &start) {
    instr_time now;
    INSTR_TIME_SET_CURRENT(now);
    INSTR_TIME_SUBTRACT(now, start);
    return static_cast<int64>(INSTR_TIME_GET_MICROSEC(now));
}

} // namespace

void finish_entry(Entry *entry, const Failure *failure) {
    Connection *connection = entry->connection;
    if (connection->exclusive == entry)
        connection->exclusive = nullptr;
    dlist_delete(&entry->node);
    if (failure != nullptr) {
        PQclear(entry->result);
        entry->result = nullptr;
    }
    if (entry->kind == EntryKind::kControl && !entry->ends_guard) {
        PQclear(connection->control);
        connection->control = entry->result;
    } else if (entry->request != nullptr) {
        int64 elapsed =
            entry->stage == Stage::kQueued ? 0 : Max(microseconds_since(entry->sent_at), 1);
        deliver(entry->request, entry->result, failure, elapsed);
    } else {
        PQclear(entry->result);
    }
    release_settings(entry->settings);
    pfree(entry);
}

void read_results(Connection *connection) {
    bool heard = false;
    while (connection->phase == Phase::kReady && !dlist_is_empty(&connection->under_way)) {
        Entry *entry = dlist_head_element(Entry, node, &connection->under_way);
        if (entry->stage == Stage::kCopyData) {
            bool broken = false;
            bool all_sent = send_copy_data(entry, &broken);
            if (broken)
                connection_failed(connection, PQerrorMessage(connection->watched.pg));
            if (!all_sent)
                return;
            entry->stage = Stage::kBody;
        }
        if (PQisBusy(connection->watched.pg))
            break;
        PGresult *result = PQgetResult(connection->watched.pg);
        if (result == nullptr) {
            end_of_results(connection, entry);
            continue;
        }
        entry->nulls = 0;
        heard = true;
        if (!is_error(result) || !ends_connection(connection, result))
            connection->answered = true;
        take_result(connection, entry, result);
    }
    if (connection->phase != Phase::kReady)
        return;
    if (heard)
        connection->watched.heard_at = GetCurrentTimestamp();
    send_queued(connection);
}

void connection_ready(Watched *watched) {
    Connection *connection = reinterpret_cast<Connection *>(watched);
    if (connection->phase == Phase::kConnecting) {
        connect_further(connection);
        return;
    }
    if (connection->phase != Phase::kReady)
        return;
    bool readable = PQconsumeInput(watched->pg) != 0;
    // TLS hands out a record in pieces, and what it holds back no socket event announces.
    for (int i = 0; readable && PQsslInUse(watched->pg) && i < 3; i++)
        readable = PQconsumeInput(watched->pg) != 0;
    read_results(connection);
    if (connection->phase != Phase::kReady || connection->watched.pg == nullptr)
        return;
    if (!readable) {
        connection_failed(connection, PQerrorMessage(watched->pg));
        return;
    }
    int left = PQflush(watched->pg);
    watched->wants_write = left > 0;
    if (left < 0)
        connection_failed(connection, PQerrorMessage(watched->pg));
}

} // namespace panvel
