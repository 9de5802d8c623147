#include "coordinator/replication/replay.h"

#include "coordinator/catalog/make_shards.h"
#include "coordinator/planner/modify_sql.h"
#include "coordinator/remote/remote.h"
#include "coordinator/replication/catch_up.h"
#include "coordinator/replication/jobs.h"

extern "C" {
#include "access/table.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

// A text[] as array_recv reads it.
struct TextArray {
    StringInfoData data;
    int count;
};

void begin_array(TextArray *array, int count) {
    initStringInfo(&array->data);
    array->count = count;
    pq_sendint32(&array->data, count > 0 ? 1 : 0); // dimensions
    pq_sendint32(&array->data, 1);                 // may have nulls
    pq_sendint32(&array->data, TEXTOID);
    if (count == 0)
        return;
    pq_sendint32(&array->data, count);
    pq_sendint32(&array->data, 1); // lower bound
}

void add_text(TextArray *array, const char *text) {
    if (text == nullptr) {
        pq_sendint32(&array->data, -1);
        return;
    }
    int length = static_cast<int>(strlen(text));
    pq_sendint32(&array->data, length);
    pq_sendbytes(&array->data, text, length);
}

RemoteParams array_params(const TextArray *arrays, int count) {
    auto *types = palloc_array(Oid, count);
    auto *values = palloc_array(const char *, count);
    auto *lengths = palloc_array(int, count);
    auto *formats = palloc_array(int, count);
    for (int i = 0; i < count; i++) {
        types[i] = TEXTARRAYOID;
        values[i] = arrays[i].data.data;
        lengths[i] = arrays[i].data.len;
        formats[i] = 1;
    }
    return {count, types, values, lengths, formats};
}

PGresult *query(int32 node_id, const char *sql, const RemoteParams *params) {
    RemoteStatement statement = {sql, params, Effect::kWrite, false, false};
    return remote_wait(remote_send(node_id, &statement));
}

char *type_of(Relation relation, AttrNumber attribute) {
    Oid type = TupleDescAttr(RelationGetDescr(relation), attribute - 1)->atttypid;
    return qualified_type_name(getBaseType(type));
}

char *shard_table(const StalePlacement *stale, Relation relation) {
    return quote_qualified_identifier(stale->schema, RelationGetRelationName(relation));
}

List *stored_columns(Relation relation) {
    List *columns = NIL;
    for (int i = 0; i < RelationGetDescr(relation)->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), i);
        if (!column->attisdropped && column->attgenerated == '\0')
            columns = lappend_int(columns, column->attnum);
    }
    return columns;
}

char *column_list(Relation relation, List *columns, const char *prefix) {
    StringInfoData sql;
    initStringInfo(&sql);
    ListCell *cell;
    foreach (cell, columns)
        appendStringInfo(&sql, "%s%s%s", foreach_current_index(cell) > 0 ? ", " : "", prefix,
                         column_name(relation, lfirst_int(cell)));
    return sql.data;
}

// "t.id OPERATOR(pg_catalog.=) ((k.v::pg_catalog.text[])[1])::pg_catalog.int4 AND ..."
char *key_condition(Relation relation) {
    FollowedKey key = followed_key(relation);
    StringInfoData sql;
    initStringInfo(&sql);
    ListCell *attribute;
    ListCell *name;
    forboth(attribute, key.attributes, name, key.operators) {
        int number = foreach_current_index(attribute);
        appendStringInfo(&sql, "%st.%s %s ((k.v::pg_catalog.text[])[%d])::%s",
                         number > 0 ? " AND " : "", column_name(relation, lfirst_int(attribute)),
                         strVal(lfirst(name)), number + 1,
                         type_of(relation, static_cast<AttrNumber>(lfirst_int(attribute))));
    }
    return sql.data;
}

void insert_rows(const StalePlacement *stale, Relation relation, List *columns, PGresult *rows) {
    if (PQntuples(rows) == 0)
        return;
    int count = list_length(columns);
    auto *arrays = palloc_array(TextArray, count);
    StringInfoData values;
    StringInfoData sources;
    StringInfoData names;
    initStringInfo(&values);
    initStringInfo(&sources);
    initStringInfo(&names);
    ListCell *cell;
    foreach (cell, columns) {
        int i = foreach_current_index(cell);
        const char *separator = i > 0 ? ", " : "";
        begin_array(&arrays[i], PQntuples(rows));
        for (int row = 0; row < PQntuples(rows); row++)
            add_text(&arrays[i], PQgetisnull(rows, row, i) ? nullptr : PQgetvalue(rows, row, i));
        appendStringInfo(&values, "%sr.c%d::%s", separator, i,
                         type_of(relation, static_cast<AttrNumber>(lfirst_int(cell))));
        appendStringInfo(&sources, "%spg_catalog.unnest($%d::pg_catalog.text[])", separator, i + 1);
        appendStringInfo(&names, "%sc%d", separator, i);
    }
    RemoteParams params = array_params(arrays, count);
    query(stale->node_id,
          psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM ROWS FROM (%s) AS "
                   "r(%s)",
                   shard_table(stale, relation), column_list(relation, columns, ""), values.data,
                   sources.data, names.data),
          &params);
}

// The rows with these keys (List of array literals), as the leader has them now, or their absence.
void bring_over(const StalePlacement *stale, Relation relation, List *keys) {
    TextArray array;
    begin_array(&array, list_length(keys));
    ListCell *cell;
    foreach (cell, keys)
        add_text(&array, static_cast<char *>(lfirst(cell)));
    RemoteParams params = array_params(&array, 1);
    List *columns = stored_columns(relation);
    char *table = shard_table(stale, relation);
    char *condition = key_condition(relation);
    PGresult *rows = query(stale->leader_id,
                           psprintf("SELECT %s FROM %s t WHERE EXISTS (SELECT FROM "
                                    "pg_catalog.unnest($1::pg_catalog.text[]) k(v) WHERE %s)",
                                    column_list(relation, columns, "t."), table, condition),
                           &params);
    query(stale->node_id,
          psprintf("DELETE FROM %s t USING pg_catalog.unnest($1::pg_catalog.text[]) k(v) WHERE %s",
                   table, condition),
          &params);
    insert_rows(stale, relation, columns, rows);
}

// The journal's keys for one table, from a result of (relation, key).
List *keys_of(PGresult *entries, const char *name) {
    List *keys = NIL;
    for (int row = 0; row < PQntuples(entries); row++)
        if (strcmp(PQgetvalue(entries, row, 0), name) == 0)
            keys = lappend(keys, PQgetvalue(entries, row, 1));
    return keys;
}

} // namespace

void execute_on(int32 node_id, const char *sql) {
    query(node_id, sql, nullptr);
}

void fence_placement(const StalePlacement *stale) {
    execute_on(stale->node_id, "SET LOCAL lock_timeout = '1s'");
    // Foreign keys neither check what comes row by row nor carry a deletion on: the leader's have.
    execute_on(stale->node_id, "SET LOCAL session_replication_role = 'replica'");
    ListCell *cell;
    foreach (cell, stale->tables)
        execute_on(stale->node_id, psprintf("LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE",
                                            quote_qualified_identifier(
                                                stale->schema, get_rel_name(lfirst_oid(cell)))));
}

int64 journal_length(const StalePlacement *stale, int64 limit) {
    PGresult *result = query(stale->leader_id,
                             psprintf("SELECT pg_catalog.count(*) FROM (SELECT FROM %s.%s WHERE "
                                      "node_id = %d LIMIT " INT64_FORMAT ") entries",
                                      stale->schema, kJournal, stale->node_id, limit + 1),
                             nullptr);
    return pg_strtoint64(PQgetvalue(result, 0, 0));
}

void drop_journal(const StalePlacement *stale) {
    execute_on(stale->leader_id, psprintf("DELETE FROM %s.%s WHERE node_id = %d", stale->schema,
                                          kJournal, stale->node_id));
}

void copy_anew(const StalePlacement *stale) {
    drop_journal(stale); // their rows are among those that are read afterwards
    ListCell *cell;
    foreach (cell, stale->tables) {
        char *table = quote_qualified_identifier(stale->schema, get_rel_name(lfirst_oid(cell)));
        PGresult *count =
            query(stale->leader_id, psprintf("SELECT pg_catalog.count(*) FROM %s", table), nullptr);
        add_to_job(pg_strtoint64(PQgetvalue(count, 0, 0)));
    }
    StringInfoData names;
    initStringInfo(&names);
    foreach (cell, stale->tables)
        appendStringInfo(&names, "%s%s", foreach_current_index(cell) > 0 ? ", " : "",
                         quote_qualified_identifier(stale->schema, get_rel_name(lfirst_oid(cell))));
    execute_on(stale->node_id, psprintf("TRUNCATE TABLE %s", names.data));
    foreach (cell, stale->tables) {
        Relation relation = table_open(lfirst_oid(cell), NoLock);
        copy_shard_rows(relation, stale->shard_id, stale->leader_id, stale->node_id, advance_job);
        table_close(relation, NoLock);
    }
}

Replayed replay_journal(const StalePlacement *stale, int limit, int *count) {
    PGresult *entries =
        query(stale->leader_id,
              psprintf("DELETE FROM %s.%s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %s.%s WHERE "
                       "node_id = %d LIMIT %d)) RETURNING relation, key",
                       stale->schema, kJournal, stale->schema, kJournal, stale->node_id, limit),
              nullptr);
    *count = PQntuples(entries);
    int found = 0;
    ListCell *cell;
    foreach (cell, stale->tables) {
        Relation relation = table_open(lfirst_oid(cell), NoLock);
        List *keys = keys_of(entries, RelationGetRelationName(relation));
        found += list_length(keys);
        if (keys != NIL)
            bring_over(stale, relation, keys);
        table_close(relation, NoLock);
    }
    if (found < PQntuples(entries)) // of no table that there is
        return Replayed::kMustCopy;
    return found < limit ? Replayed::kAll : Replayed::kSome;
}

} // namespace panvel
