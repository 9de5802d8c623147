// panvel.check_placements(): whether all placements of a table's shards have the same rows.
#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/metadata.h"
#include "coordinator/catalog/nodes.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/table.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

// One placement's answer: rows and checksum, or why there is none.
struct Checked {
    const ClusterNode *node;
    NodeRequest *request;
    PGresult *result; // null: it did not answer
};

// The sums of two hashes of each row's text form do not depend on the order of rows, and rows would
// have to collide in 128 bits to be taken for equal.
char *check_query(const DistributedTable *table, const Shard *shard) {
    return psprintf(
        "SELECT pg_catalog.count(*), pg_catalog.md5(pg_catalog.concat_ws(',', "
        "pg_catalog.sum(pg_catalog.hashtextextended(t::pg_catalog.text, 0)), "
        "pg_catalog.sum(pg_catalog.hashtextextended(t::pg_catalog.text, 1)))) FROM %s t",
        shard_relation_name(table, shard));
}

Checked *ask(const DistributedTable *table, const Shard *shard) {
    auto *checked = palloc0_array(Checked, shard->placement_count);
    RemoteStatement statement = {};
    statement.sql = check_query(table, shard);
    statement.effect = Effect::kReadOnce;
    statement.shard_id = shard->shard_id;
    for (int i = 0; i < shard->placement_count; i++) {
        checked[i].node = get_node(shard->placements[i].node_id);
        checked[i].request = send_to_node(checked[i].node, &statement);
    }
    return checked;
}

bool is_same(const Checked *a, const Checked *b) {
    return a->result != nullptr && b->result != nullptr &&
           strcmp(PQgetvalue(a->result, 0, 0), PQgetvalue(b->result, 0, 0)) == 0 &&
           strcmp(PQgetvalue(a->result, 0, 1), PQgetvalue(b->result, 0, 1)) == 0;
}

// `equal`: to the leader; null where a placement did not answer.
void put_row(ReturnSetInfo *out, const Shard *shard, const Checked *checked,
             const Checked *leader) {
    bool known = checked->result != nullptr && leader->result != nullptr;
    Datum values[5] = {};
    bool isnull[5] = {false, false, checked->result == nullptr, checked->result == nullptr, !known};
    values[0] = Int64GetDatum(shard->shard_id);
    values[1] = CStringGetTextDatum(checked->node->name);
    if (checked->result != nullptr) {
        values[2] = Int64GetDatum(pg_strtoint64(PQgetvalue(checked->result, 0, 0)));
        values[3] = CStringGetTextDatum(PQgetvalue(checked->result, 0, 1));
    }
    values[4] = BoolGetDatum(known && is_same(checked, leader));
    tuplestore_putvalues(out->setResult, out->setDesc, values, isnull);
}

// Writers wait until the transaction ends; those that were there have committed everywhere, or left
// their nodes in doubt, which a statement waits for.
void check_placements(FunctionCallInfo fcinfo, Oid relid) {
    InitMaterializedSRF(fcinfo, 0);
    if (!pg_class_ownercheck(relid, GetUserId()))
        aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(relid));
    LockRelationOid(relid, ShareLock);
    const DistributedTable *table = get_distributed_table(relid);
    auto *out = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    for (int i = 0; i < table->shard_count; i++) {
        const Shard *shard = &table->shards[i];
        Checked *checked = ask(table, shard);
        for (int j = 0; j < shard->placement_count; j++)
            checked[j].result = wait_for_node(checked[j].request);
        for (int j = 0; j < shard->placement_count; j++)
            put_row(out, shard, &checked[j], &checked[0]);
    }
}

} // namespace
} // namespace panvel

SQL_FUNCTION(panvel_check_placements) {
    panvel::require_preload();
    panvel::check_placements(fcinfo, PG_GETARG_OID(0));
    return static_cast<Datum>(0);
}
