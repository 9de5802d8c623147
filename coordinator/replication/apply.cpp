#include "coordinator/replication/apply.h"

#include "coordinator/planner/modify_sql.h"
#include "coordinator/remote/connection.h"
#include "coordinator/replication/catch_up.h"
#include "coordinator/replication/consistency.h"
#include "coordinator/replication/membership.h"

extern "C" {
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

// Images in one statement.
constexpr int kMaxRows = 10000;
constexpr int64 kMaxBytes = 8 * 1024 * 1024;
// Statements under way before the first is waited for.
constexpr int kMaxUnderWay = 16;
constexpr int kRetry_ms = 2;

struct Apply {
    MemoryContext context; // of all of it
    int32 node_id;
    RemoteStatement statement;
    RemoteRequest *request;
    bool repeatable;      // executing it again changes the rows that it did not find the first time
    bool deletes;         // and those it has changed are not found again
    int64 rows;           // that it has to change
    const Shard *shard;   // of which it is the part of a follower; null: the leader's journal
    TimestampTz deadline; // until when the session has patience; 0: for ever
};

[[noreturn]] void raise_diverged(const Followers *followers, const Apply *apply, int64 changed) {
    const char *name = RelationGetRelationName(followers->relation);
    if (IsolationUsesXactSnapshot()) // whose snapshots on two nodes may be of different times
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("could not serialize access to table \"%s\"", name),
                        errdetail("Its placement on node \"%s\" has an older snapshot than the "
                                  "leader.",
                                  get_node(apply->node_id)->name),
                        errhint("The transaction might succeed if retried.")));
    ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                    errmsg("a placement of table \"%s\" on node \"%s\" differs from its leader",
                           name, get_node(apply->node_id)->name),
                    errdetail("Of " INT64_FORMAT " rows that changed it has " INT64_FORMAT ".",
                              apply->rows, changed),
                    errhint("Compare the placements with panvel.check_placements().")));
    pg_unreachable();
}

void send(Apply *apply) {
    MemoryContext previous = MemoryContextSwitchTo(apply->context);
    apply->request = remote_send(apply->node_id, &apply->statement);
    MemoryContextSwitchTo(previous);
}

// As long as a majority is left without it (require_insync_replicas()), a follower that is slow is
// not waited for: the transaction fails, with nothing written, and the next one goes without it.
void wait_patiently(const Followers *followers, const Apply *apply) {
    RemoteRequest *request = apply->request;
    if (apply->deadline == 0 || remote_wait_any(&request, 1, apply->deadline) >= 0)
        return;
    int in_sync = 0;
    for (int i = 0; i < apply->shard->placement_count; i++)
        in_sync += apply->shard->placements[i].active;
    if (in_sync <= required_placements(followers->table->replication_factor))
        return;
    exclude_slow_node(followers->table, apply->node_id);
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("node \"%s\" takes too long for its part of the transaction",
                           get_node(apply->node_id)->name),
                    errdetail("With panvel.write_consistency = quorum it is not waited for."),
                    errhint("The transaction might succeed if retried.")));
}

// A row that another transaction has inserted is not found on a follower while its COMMIT PREPARED
// is under way there, although the leader has it: try again until it is.
void finish_apply(const Followers *followers, Apply *apply) {
    wait_patiently(followers, apply);
    int64 changed = remote_affected(remote_wait(apply->request));
    TimestampTz deadline = 0;
    while (changed != apply->rows) {
        if (!apply->repeatable || IsolationUsesXactSnapshot())
            raise_diverged(followers, apply, changed);
        if (deadline == 0)
            deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), node_timeout_ms);
        else if (GetCurrentTimestamp() >= deadline)
            raise_diverged(followers, apply, changed);
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kRetry_ms,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        remote_release(apply->request);
        send(apply);
        int64 found = remote_affected(remote_wait(apply->request));
        changed = apply->deletes ? changed + found : found;
    }
    MemoryContextDelete(apply->context);
}

void finish_first(Followers *followers) {
    auto *apply = static_cast<Apply *>(linitial(followers->under_way));
    followers->under_way = list_delete_first(followers->under_way);
    finish_apply(followers, apply);
}

Apply *start_apply(Followers *followers, const Shard *shard, int32 node_id, int64 rows) {
    while (list_length(followers->under_way) >= kMaxUnderWay)
        finish_first(followers);
    MemoryContext context =
        AllocSetContextCreate(followers->context, "panvel apply", ALLOCSET_SMALL_SIZES);
    auto *apply = static_cast<Apply *>(MemoryContextAllocZero(context, sizeof(Apply)));
    apply->context = context;
    apply->node_id = node_id;
    apply->rows = rows;
    apply->shard = shard;
    if (shard != nullptr && patience_ms() > 0)
        apply->deadline =
            GetCurrentTimestamp() + patience_ms() * INT64CONST(1000) + 2 * followers->leader_us;
    MemoryContext previous = MemoryContextSwitchTo(followers->context);
    followers->under_way = lappend(followers->under_way, apply);
    MemoryContextSwitchTo(previous);
    return apply;
}

// ------------------------------------------------------------------ parameters

// Rows of a leader's result whose images go in one statement.
struct Chunk {
    const PGresult *result;
    int first_row;
    int row_count;
    int first_column;
};

// As array_recv reads it. Elements of text arrays are text, whatever the column's type.
void append_array(StringInfo out, const Chunk *chunk, int column, Oid element_type) {
    bool has_null = false;
    for (int i = 0; i < chunk->row_count; i++)
        has_null |= PQgetisnull(chunk->result, chunk->first_row + i, column) != 0;
    pq_sendint32(out, 1); // dimensions
    pq_sendint32(out, has_null ? 1 : 0);
    pq_sendint32(out, element_type);
    pq_sendint32(out, chunk->row_count);
    pq_sendint32(out, 1); // lower bound
    for (int i = 0; i < chunk->row_count; i++) {
        int row = chunk->first_row + i;
        if (PQgetisnull(chunk->result, row, column)) {
            pq_sendint32(out, -1);
            continue;
        }
        int length = PQgetlength(chunk->result, row, column);
        pq_sendint32(out, length);
        pq_sendbytes(out, PQgetvalue(chunk->result, row, column), length);
    }
}

struct Param {
    Oid type;
    const char *value;
    int length;
    int format;
};

Oid wire_type(Oid type) {
    return type < FirstGenbkiObjectId ? type : InvalidOid;
}

Param image_param(const Chunk *chunk, int column, Oid type, bool binary) {
    if (chunk->row_count == 1) {
        int length = PQgetlength(chunk->result, chunk->first_row, column);
        char *value = nullptr;
        if (!PQgetisnull(chunk->result, chunk->first_row, column)) {
            value = static_cast<char *>(palloc(static_cast<Size>(length) + 1)); // and its zero byte
            memcpy(value, PQgetvalue(chunk->result, chunk->first_row, column),
                   static_cast<size_t>(length) + 1);
        }
        return {binary ? wire_type(type) : InvalidOid, value, length, binary ? 1 : 0};
    }
    Oid element = binary ? type : TEXTOID;
    StringInfoData array;
    initStringInfo(&array);
    append_array(&array, chunk, column, element);
    return {wire_type(get_array_type(element)), array.data, array.len, 1};
}

// The first `image_count` images, and one further parameter as text if `more` is not null.
RemoteParams *chunk_params(const Followers *followers, const ModifyPlan *plan, const Chunk *chunk,
                           int image_count, const char *more) {
    bool binary = images_are_binary(followers->relation, plan);
    int count = image_count + (more != nullptr ? 1 : 0);
    auto *types = palloc_array(Oid, count);
    auto *values = palloc_array(const char *, count);
    auto *lengths = palloc_array(int, count);
    auto *formats = palloc_array(int, count);
    ListCell *cell;
    foreach (cell, plan->images) {
        int i = foreach_current_index(cell);
        if (i >= image_count)
            break;
        Oid type =
            TupleDescAttr(RelationGetDescr(followers->relation), lfirst_int(cell) - 1)->atttypid;
        Param param = image_param(chunk, chunk->first_column + i, getBaseType(type), binary);
        types[i] = param.type;
        values[i] = param.value;
        lengths[i] = param.length;
        formats[i] = param.format;
    }
    if (more != nullptr) {
        types[count - 1] = InvalidOid;
        values[count - 1] = more;
        lengths[count - 1] = static_cast<int>(strlen(more));
        formats[count - 1] = 0;
    }
    auto *params = palloc_object(RemoteParams);
    *params = {count, types, values, lengths, formats};
    return params;
}

// How many rows from `first` on go in one statement.
int chunk_rows(const PGresult *result, int first, int first_column) {
    int64 bytes = 0;
    int row = first;
    while (row < PQntuples(result) && row - first < kMaxRows && bytes < kMaxBytes) {
        for (int column = first_column; column < PQnfields(result); column++)
            bytes += PQgetlength(result, row, column) + 4;
        row++;
    }
    return row - first;
}

void apply_chunk(Followers *followers, const ModifyPlan *plan, const Shard *shard, int32 node_id,
                 const Chunk *chunk) {
    Apply *apply = start_apply(followers, shard, node_id, chunk->row_count);
    MemoryContext previous = MemoryContextSwitchTo(apply->context);
    const char *tail = chunk->row_count == 1 ? plan->apply_one : plan->apply_many;
    apply->statement.sql =
        psprintf("%s%s%s", plan->apply_command, shard_relation_name(followers->table, shard), tail);
    apply->statement.params =
        chunk_params(followers, plan, chunk, list_length(plan->images), nullptr);
    apply->statement.effect = Effect::kWrite;
    apply->statement.keep_prepared = true;
    apply->statement.shard_id = shard->shard_id;
    apply->repeatable = plan->operation != CMD_INSERT;
    apply->deletes = plan->operation == CMD_DELETE;
    MemoryContextSwitchTo(previous);
    send(apply);
}

// The nodes of placements for which the leader keeps a journal, as the text of an array; null when
// there are none.
char *stale_nodes(const Shard *shard, int *count) {
    StringInfoData array;
    initStringInfo(&array);
    *count = 0;
    for (int i = 0; i < shard->placement_count; i++)
        if (!shard->placements[i].active && shard->placements[i].journaled)
            appendStringInfo(&array, "%s%d", (*count)++ > 0 ? "," : "{",
                             shard->placements[i].node_id);
    appendStringInfoChar(&array, '}');
    return *count > 0 ? array.data : nullptr;
}

void journal_chunk(Followers *followers, const ModifyPlan *plan, const Shard *shard,
                   const Chunk *chunk, const char *nodes, int node_count) {
    Apply *apply = start_apply(followers, nullptr, write_node(shard),
                               static_cast<int64>(chunk->row_count) * node_count);
    MemoryContext previous = MemoryContextSwitchTo(apply->context);
    const char *tail = chunk->row_count == 1 ? plan->journal_one : plan->journal_many;
    apply->statement.sql = psprintf("INSERT INTO %s.%s%s", shard->schema, kJournal, tail);
    apply->statement.params = chunk_params(
        followers, plan, chunk, list_length(followed_key(followers->relation).attributes), nodes);
    apply->statement.effect = Effect::kWrite;
    apply->statement.keep_prepared = true;
    apply->statement.shard_id = shard->shard_id;
    MemoryContextSwitchTo(previous);
    send(apply);
}

bool is_follower(const Placement *placement) {
    return placement->active && !placement->leader;
}

} // namespace

void repeat_on_followers(Followers *followers, const Shard *shard, const RemoteStatement *statement,
                         int64 rows) {
    for (int i = 0; i < shard->placement_count; i++) {
        if (!is_follower(&shard->placements[i]))
            continue;
        Apply *apply = start_apply(followers, shard, shard->placements[i].node_id, rows);
        apply->statement = *statement;
        apply->statement.binary_results = false;
        send(apply);
    }
}

// By rows, the number of the row comes between RETURNING's columns and the images; of rows that
// ON CONFLICT may have found, ctid and xmax.
static int first_image_column(const ModifyPlan *plan) {
    if (finds_conflicts(plan))
        return list_length(plan->returned) + 2;
    return list_length(plan->returned) + (plan->by_rows && plan->returned != NIL ? 1 : 0);
}

void send_images(Followers *followers, const ModifyPlan *plan, const Shard *shard,
                 const PGresult *result) {
    int first_column = first_image_column(plan);
    if (PQntuples(result) > 0 && PQnfields(result) != first_column + list_length(plan->images))
        ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                        errmsg("a node's answer has %d columns instead of %d", PQnfields(result),
                               first_column + list_length(plan->images))));
    Chunk chunk = {result, 0, 0, first_column};
    while (chunk.first_row < PQntuples(result)) {
        CHECK_FOR_INTERRUPTS();
        chunk.row_count = chunk_rows(result, chunk.first_row, first_column);
        for (int i = 0; i < shard->placement_count; i++)
            if (is_follower(&shard->placements[i]))
                apply_chunk(followers, plan, shard, shard->placements[i].node_id, &chunk);
        chunk.first_row += chunk.row_count;
    }
}

void journal_images(Followers *followers, const ModifyPlan *plan, const Shard *shard,
                    const PGresult *result) {
    int node_count;
    const char *nodes = stale_nodes(shard, &node_count);
    Chunk chunk = {result, 0, 0, first_image_column(plan)};
    while (nodes != nullptr && chunk.first_row < PQntuples(result)) {
        CHECK_FOR_INTERRUPTS();
        chunk.row_count = chunk_rows(result, chunk.first_row, chunk.first_column);
        journal_chunk(followers, plan, shard, &chunk, nodes, node_count);
        chunk.first_row += chunk.row_count;
    }
}

void journal_unknown(const Shard *shard) {
    int node_count;
    const char *nodes = stale_nodes(shard, &node_count);
    if (nodes == nullptr)
        return;
    char *sql =
        psprintf("INSERT INTO %s.%s (node_id, relation, key) "
                 "SELECT n.id, '', '{}' FROM pg_catalog.unnest('%s'::pg_catalog.int4[]) n(id)",
                 shard->schema, kJournal, nodes);
    remote_execute_on_nodes(list_make1_int(write_node(shard)), sql, Effect::kWrite);
}

void finish_followers(Followers *followers) {
    while (followers->under_way != NIL)
        finish_first(followers);
}

} // namespace panvel
