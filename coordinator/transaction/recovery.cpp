// What a crash, a lost connection or a slow node left prepared: listed and resolved.
#include "coordinator/transaction/recovery.h"
#include "coordinator/core/gid.h"
#include "coordinator/remote/connection.h"
#include "coordinator/transaction/commit_record.h"
#include "coordinator/transaction/doubt.h"
#include "coordinator/transaction/orphans.h"
#include "coordinator/transaction/transaction.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/transam.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"
}

namespace panvel {
namespace {

// A prepared transaction of this coordinator's database on a node.
struct Prepared {
    Gid gid;
    char *name;
    const ClusterNode *node;
    char *since; // timestamptz as text
    Verdict verdict;
    RemoteRequest *request; // its resolution
    bool resolved;
};

struct NodeAnswer {
    const ClusterNode *node;
    RemoteRequest *request;
    bool reached;
};

constexpr const char *kListPrepared =
    "SELECT gid, prepared::text FROM pg_catalog.pg_prepared_xacts "
    "WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, $1)";

bool is_running(uint64 transaction) {
    uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());
    if (transaction >= next || next - transaction > MaxTransactionId / 2)
        return false;
    return TransactionIdIsInProgress(static_cast<TransactionId>(transaction));
}

// The background workers come back every few seconds, and the monitor has logged that a node is
// down.
void warn(const char *doing, const ClusterNode *node, const ErrorData *error) {
    int level = IsBackgroundWorker ? DEBUG1 : WARNING;
    ereport(level, (errcode(error->sqlerrcode), errmsg("%s: %s", doing, error->message),
                    error->detail ? errdetail("%s", error->detail) : 0,
                    errcontext("on node \"%s\"", node->name)));
}

NodeAnswer *ask_nodes(List *nodes) {
    auto *answers =
        static_cast<NodeAnswer *>(palloc0(sizeof(NodeAnswer) * (list_length(nodes) + 1)));
    char *prefix = nullptr;
    pg::core([&] {
        prefix = strdup(gid_prefix(GetSystemIdentifier(), MyDatabaseId).c_str());
        if (prefix == nullptr)
            throw std::bad_alloc();
    });
    char *copy = pstrdup(prefix);
    free(prefix);
    const char *values[] = {copy};
    RemoteParams params = {1, nullptr, values, nullptr, nullptr};
    RemoteStatement statement = {kListPrepared, &params, Effect::kNoTransaction, false, false};
    int i = 0;
    ListCell *cell;
    foreach (cell, nodes) {
        answers[i].node = static_cast<ClusterNode *>(lfirst(cell));
        answers[i].request = remote_send(answers[i].node->node_id, &statement);
        i++;
    }
    return answers;
}

Prepared *read_prepared(const ClusterNode *node, const PGresult *result, int row) {
    const char *name = PQgetvalue(result, row, 0);
    std::optional<Gid> gid = pg::core([&] { return parse_gid(name); });
    if (!gid || gid->node != node->node_id)
        return nullptr;
    Prepared *prepared = static_cast<Prepared *>(palloc0(sizeof(Prepared)));
    prepared->gid = *gid;
    prepared->name = pstrdup(name);
    prepared->node = node;
    prepared->since = pstrdup(PQgetvalue(result, row, 1));
    return prepared;
}

// List of Prepared *; nodes that do not answer are reported and marked.
List *prepared_on(NodeAnswer *answers, int count) {
    List *found = NIL;
    for (int i = 0; i < count; i++) {
        RemoteRequest *all[] = {answers[i].request};
        remote_wait_any(all, 1);
        if (ErrorData *error = remote_error(answers[i].request); error != nullptr) {
            warn("could not look for prepared transactions", answers[i].node, error);
            continue;
        }
        answers[i].reached = true;
        PGresult *result = remote_wait(answers[i].request);
        for (int row = 0; row < PQntuples(result); row++)
            if (Prepared *prepared = read_prepared(answers[i].node, result, row))
                found = lappend(found, prepared);
    }
    return found;
}

Verdict verdict_on(const Gid &gid) {
    bool running = is_running(gid.transaction); // before the record is looked for
    return decide(running, has_commit_record(gid.transaction, gid.nonce));
}

void resolve_all(List *found) {
    ListCell *cell;
    foreach (cell, found) {
        Prepared *prepared = static_cast<Prepared *>(lfirst(cell));
        prepared->verdict = verdict_on(prepared->gid);
        if (prepared->verdict == Verdict::kUndecided)
            continue;
        bool commit = prepared->verdict == Verdict::kCommit;
        char *sql = psprintf("%s PREPARED '%s'", commit ? "COMMIT" : "ROLLBACK", prepared->name);
        RemoteStatement statement = {sql, nullptr, Effect::kNoTransaction, false, false};
        prepared->request = remote_send(prepared->node->node_id, &statement);
    }
}

int64 count_resolved(List *found) {
    int64 resolved = 0;
    ListCell *cell;
    foreach (cell, found) {
        Prepared *prepared = static_cast<Prepared *>(lfirst(cell));
        if (prepared->request == nullptr)
            continue;
        RemoteRequest *all[] = {prepared->request};
        remote_wait_any(all, 1);
        ErrorData *error = remote_error(prepared->request);
        if (error == nullptr || error->sqlerrcode == ERRCODE_UNDEFINED_OBJECT) {
            prepared->resolved = true;
            resolved += error == nullptr; // else its own session was quicker
        } else {
            warn("could not resolve a prepared transaction", prepared->node, error);
        }
    }
    return resolved;
}

bool is_of(const Prepared *prepared, const CommitRecord *record) {
    return prepared->gid.transaction == record->transaction && prepared->gid.nonce == record->nonce;
}

// A node that has been removed has nothing to confirm.
bool node_confirms(const CommitRecord *record, int32 node_id, const NodeAnswer *answers, int count,
                   List *found) {
    for (int i = 0; i < count; i++)
        if (answers[i].node->node_id == node_id && !answers[i].reached)
            return false;
    ListCell *cell;
    foreach (cell, found) {
        const Prepared *prepared = static_cast<Prepared *>(lfirst(cell));
        if (prepared->node->node_id == node_id && !prepared->resolved && is_of(prepared, record))
            return false;
    }
    return true;
}

bool all_confirm(const CommitRecord *record, const NodeAnswer *answers, int count, List *found) {
    ListCell *cell;
    foreach (cell, record->nodes)
        if (!node_confirms(record, lfirst_int(cell), answers, count, found))
            return false;
    return true;
}

// Nodes on which something committed may not be visible yet: a record names them, and they have
// not confirmed it.
List *uncertain_nodes(List *records, const NodeAnswer *answers, int count, List *found) {
    List *nodes = NIL;
    ListCell *cell;
    foreach (cell, records) {
        const CommitRecord *record = static_cast<CommitRecord *>(lfirst(cell));
        ListCell *node;
        foreach (node, record->nodes)
            if (!node_confirms(record, lfirst_int(node), answers, count, found))
                nodes = list_append_unique_int(nodes, lfirst_int(node));
    }
    foreach (cell, found) {
        const Prepared *prepared = static_cast<Prepared *>(lfirst(cell));
        if (prepared->verdict == Verdict::kCommit && !prepared->resolved)
            nodes = list_append_unique_int(nodes, prepared->node->node_id);
    }
    return nodes;
}

bool all_resolved(List *found) {
    ListCell *cell;
    foreach (cell, found)
        if (!static_cast<Prepared *>(lfirst(cell))->resolved)
            return false;
    return true;
}

} // namespace

int64 recover_transactions() {
    prevent_in_distributed_transaction("panvel.recover_transactions()");
    RecoveryPass pass = begin_recovery_pass();
    // Records first: whatever they name was prepared before they appeared, so that a node that is
    // asked afterwards either shows it or has committed it.
    List *records = commit_records();
    List *nodes = all_nodes();
    // Before the node is asked for what is prepared: a session that has ended by now prepares
    // nothing.
    List *asked = look_for_orphans(nodes);
    NodeAnswer *answers = ask_nodes(nodes);
    List *found = prepared_on(answers, list_length(nodes));
    List *unsettled = end_orphans(asked);
    resolve_all(found);
    int64 resolved = count_resolved(found);
    bool clean = all_resolved(found);
    ListCell *cell;
    foreach (cell, records) {
        const CommitRecord *record = static_cast<CommitRecord *>(lfirst(cell));
        if (all_confirm(record, answers, list_length(nodes), found))
            delete_commit_record(record);
        else
            clean = false;
    }
    end_recovery_pass(pass, uncertain_nodes(records, answers, list_length(nodes), found),
                      unsettled);
    if (!clean)
        want_recovery(false);
    return resolved;
}

namespace {

bool is_prepared(const CommitRecord *record, List *found) {
    ListCell *cell;
    foreach (cell, found)
        if (is_of(static_cast<Prepared *>(lfirst(cell)), record))
            return true;
    return false;
}

const char *state_of(const Gid &gid) {
    switch (verdict_on(gid)) {
    case Verdict::kCommit:
        return "committing";
    case Verdict::kRollback:
        return "rolling back";
    case Verdict::kUndecided:
        break;
    }
    return "running";
}

void put_row(ReturnSetInfo *results, const char *gid, const char *node, const char *state,
             Datum since) {
    Datum values[] = {CStringGetTextDatum(gid), node ? CStringGetTextDatum(node) : Datum(0),
                      CStringGetTextDatum(state), since};
    bool nulls[] = {false, node == nullptr, false, false};
    tuplestore_putvalues(results->setResult, results->setDesc, values, nulls);
}

void put_record(ReturnSetInfo *results, const CommitRecord *record) {
    char *name = psprintf("panvel_" UINT64_FORMAT "_%u_" UINT64_FORMAT "_"
                          "%" INT64_MODIFIER "x",
                          GetSystemIdentifier(), MyDatabaseId, record->transaction, record->nonce);
    put_row(results, name, nullptr, "recorded", TimestampTzGetDatum(record->since));
}

} // namespace

SQL_FUNCTION(panvel_recover_transactions) {
    PreventCommandDuringRecovery("panvel.recover_transactions()");
    lock_commit_records();
    PG_RETURN_INT64(recover_transactions());
}

SQL_FUNCTION(panvel_transactions_in_doubt) {
    ReturnSetInfo *results = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    InitMaterializedSRF(fcinfo, 0);
    prevent_in_distributed_transaction("panvel.transactions");
    List *records = commit_records();
    List *nodes = all_nodes();
    NodeAnswer *answers = ask_nodes(nodes);
    List *found = prepared_on(answers, list_length(nodes));
    ListCell *cell;
    foreach (cell, found) {
        const Prepared *prepared = static_cast<Prepared *>(lfirst(cell));
        Datum since = DirectFunctionCall3(timestamptz_in, CStringGetDatum(prepared->since),
                                          ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
        put_row(results, prepared->name, prepared->node->name, state_of(prepared->gid), since);
    }
    foreach (cell, records) {
        const CommitRecord *record = static_cast<CommitRecord *>(lfirst(cell));
        // Where it is still prepared on a node, that has been listed above.
        if (!is_prepared(record, found) && !all_confirm(record, answers, list_length(nodes), found))
            put_record(results, record);
    }
    return Datum(0);
}

} // namespace panvel
