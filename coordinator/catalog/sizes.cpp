// How much space a distributed table takes on the nodes: what pg_relation_size() and its kin say of
// the shell's parts, added up over all placements.
#include "coordinator/catalog/metadata.h"
#include "coordinator/ddl/ddl.h"
#include "coordinator/remote/remote.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/genam.h"
#include "catalog/pg_class.h"
#include "common/int.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

// The names, quoted, of all shards' tables (or indexes) on the node: '{a.x,b.x}'::regclass[].
char *size_query(const DistributedTable *table, int32 node_id, const char *relation,
                 const char *function) {
    StringInfoData sql;
    initStringInfo(&sql);
    for (int i = 0; i < table->shard_count; i++)
        for (int j = 0; j < table->shards[i].placement_count; j++)
            if (table->shards[i].placements[j].node_id == node_id)
                appendStringInfo(&sql, "%spg_catalog.%s(%s::pg_catalog.regclass)",
                                 sql.len > 0 ? " + " : "SELECT ", function,
                                 quote_literal_cstr(quote_qualified_identifier(
                                     table->shards[i].schema, relation)));
    return sql.data;
}

int64 size_on_nodes(const DistributedTable *table, const char *relation, const char *function) {
    List *requests = NIL;
    ListCell *cell;
    foreach (cell, nodes_of_table(table)) {
        RemoteStatement statement = {};
        statement.sql = size_query(table, lfirst_int(cell), relation, function);
        statement.effect = Effect::kReadOnce;
        requests = lappend(requests, remote_send(lfirst_int(cell), &statement));
    }
    int64 total = 0;
    foreach (cell, requests) {
        PGresult *result = remote_wait(static_cast<RemoteRequest *>(lfirst(cell)));
        if (PQntuples(result) != 1 || PQnfields(result) != 1 || PQgetisnull(result, 0, 0) ||
            pg_add_s64_overflow(total, pg_strtoint64(PQgetvalue(result, 0, 0)), &total))
            ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                            errmsg("a node answered with no valid size of \"%s\"", relation)));
    }
    return total;
}

// Of a table that is not distributed, what PostgreSQL's own function says.
Datum relation_size(FunctionCallInfo fcinfo, const char *function, PGFunction local) {
    Oid relid = PG_GETARG_OID(0);
    LockRelationOid(relid, AccessShareLock); // shards are not dropped meanwhile
    const DistributedTable *table = distributed_by_relid(relid);
    if (table != nullptr)
        PG_RETURN_INT64(size_on_nodes(table, get_rel_name(relid), function));
    if (get_rel_name(relid) == nullptr)
        PG_RETURN_NULL();
    if (local == pg_relation_size)
        return DirectFunctionCall2(local, ObjectIdGetDatum(relid),
                                   PointerGetDatum(cstring_to_text("main")));
    return DirectFunctionCall1(local, ObjectIdGetDatum(relid));
}

} // namespace
} // namespace panvel

SQL_FUNCTION(panvel_relation_size) {
    return panvel::relation_size(fcinfo, "pg_relation_size", pg_relation_size);
}

SQL_FUNCTION(panvel_table_size) {
    return panvel::relation_size(fcinfo, "pg_table_size", pg_table_size);
}

SQL_FUNCTION(panvel_indexes_size) {
    return panvel::relation_size(fcinfo, "pg_indexes_size", pg_indexes_size);
}

SQL_FUNCTION(panvel_total_relation_size) {
    return panvel::relation_size(fcinfo, "pg_total_relation_size", pg_total_relation_size);
}
