// create_distributed_table(): an ordinary table becomes a shell, its rows move to shards.
//
// Everything happens in the caller's transaction: an error at any point, on any node, leaves the
// table as it was and no shard anywhere.
#include "coordinator/catalog/create_table.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/distributable.h"
#include "coordinator/catalog/distribution_label.h"
#include "coordinator/catalog/make_shards.h"
#include "coordinator/catalog/metadata.h"
#include "coordinator/catalog/settings.h"
#include "coordinator/core/hash_range.h"
#include "coordinator/core/placement.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {
namespace {

// ---------------------------------------------------------------- the colocation group

// Nodes of each shard, `factor` per shard: node_ids[shard * factor + i].
int32 *plan_nodes(List *nodes, int shard_count, int factor) {
    int count = list_length(nodes);
    auto *loads = palloc_array(NodeLoad, count);
    ListCell *cell;
    foreach (cell, nodes) {
        int32 node_id = static_cast<ClusterNode *>(lfirst(cell))->node_id;
        loads[foreach_current_index(cell)] = {node_id, count_placements(node_id)};
    }
    auto *planned = palloc_array(int32, shard_count * factor);
    pg::core([&] {
        auto plan =
            plan_placements(std::vector<NodeLoad>(loads, loads + count),
                            static_cast<uint32_t>(shard_count), static_cast<uint32_t>(factor));
        for (int shard = 0; shard < shard_count; shard++)
            std::copy(plan[shard].begin(), plan[shard].end(), planned + shard * factor);
    });
    return planned;
}

void check_replication_factor(int factor, int node_count) {
    if (node_count == 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("there is no node that could hold shards"),
                        errhint("Add nodes with panvel.add_node().")));
    if (factor > node_count)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("replication factor %d needs %d nodes, there are %d", factor, factor,
                               node_count),
                        errhint("Add nodes with panvel.add_node(), or choose a lower factor.")));
}

// A group of its own for the table. Returns its id.
int32 create_colocation(const DistributionRequest *request, Oid type, Oid collation) {
    int shard_count = request->shard_count > 0 ? request->shard_count : default_shard_count;
    int factor =
        request->replication_factor > 0 ? request->replication_factor : default_replication_factor;
    LockRelationOid(catalog_oid(Catalog::kNode), ShareLock); // until the shards are in the catalog
    List *nodes = all_nodes();
    check_replication_factor(factor, list_length(nodes));
    int32 *plan = plan_nodes(nodes, shard_count, factor);

    auto colocation_id = static_cast<int32>(next_catalog_id("colocation_id_seq"));
    Datum values[kColocationColumns];
    values[kColocationId - 1] = Int32GetDatum(colocation_id);
    values[kColocationShardCount - 1] = Int32GetDatum(shard_count);
    values[kColocationReplicationFactor - 1] = Int32GetDatum(factor);
    values[kColocationType - 1] = ObjectIdGetDatum(type);
    values[kColocationCollation - 1] = ObjectIdGetDatum(collation);
    Relation colocations = open_catalog(Catalog::kColocation, RowExclusiveLock);
    insert_catalog_row(colocations, values);
    table_close(colocations, NoLock);

    auto *ranges = palloc_array(HashRange, shard_count);
    pg::core([&] {
        auto split = split_hash_space(static_cast<uint32_t>(shard_count));
        std::copy(split.begin(), split.end(), ranges);
    });
    Relation shards = open_catalog(Catalog::kShard, RowExclusiveLock);
    Relation placements = open_catalog(Catalog::kPlacement, RowExclusiveLock);
    for (int i = 0; i < shard_count; i++)
        insert_shard(shards, placements, colocation_id, ranges[i].min, ranges[i].max,
                     plan + i * factor, factor);
    table_close(placements, NoLock);
    table_close(shards, NoLock);
    return colocation_id;
}

// The group of another table, once it is clear that this one fits into it.
int32 join_colocation(const DistributionRequest *request, Relation relation, Oid type,
                      Oid collation) {
    if (request->colocate_with == request->relid)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("a table cannot be colocated with itself")));
    // Held until the end, so that the other table and with it the shards cannot be dropped.
    LockRelationOid(request->colocate_with, AccessShareLock);
    const DistributedTable *other = get_distributed_table(request->colocate_with);
    const char *other_name = get_rel_name(other->relid);
    if (other->is_reference)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("cannot colocate \"%s\" with reference table \"%s\"",
                               RelationGetRelationName(relation), other_name),
                        errhint("A reference table is on every node: any table can be joined with "
                                "it there.")));
    if (other->distribution_type != type || other->distribution_collation != collation)
        ereport(ERROR,
                (errcode(ERRCODE_DATATYPE_MISMATCH),
                 errmsg("cannot colocate \"%s\" with \"%s\"", RelationGetRelationName(relation),
                        other_name),
                 errdetail("Their distribution columns have types %s and %s%s.",
                           format_type_be(type), format_type_be(other->distribution_type),
                           other->distribution_type == type ? " with different collations" : "")));
    if (request->shard_count > 0 && request->shard_count != other->shard_count)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("colocated tables have the same shards: \"%s\" has %d, not %d",
                               other_name, other->shard_count, request->shard_count)));
    if (request->replication_factor > 0 && request->replication_factor != other->replication_factor)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("colocated tables have the same placements: \"%s\" has replication "
                        "factor %d, not %d",
                        other_name, other->replication_factor, request->replication_factor)));
    ListCell *cell;
    foreach (cell, colocated_tables(other->colocation_id))
        if (strcmp(get_rel_name(lfirst_oid(cell)), RelationGetRelationName(relation)) == 0)
            ereport(ERROR, (errcode(ERRCODE_DUPLICATE_TABLE),
                            errmsg("the group of \"%s\" already has a table called \"%s\"",
                                   other_name, RelationGetRelationName(relation)),
                            errdetail("Tables of one group share a schema on the nodes."),
                            errhint("Rename the table before distributing it.")));
    return other->colocation_id;
}

} // namespace

void create_distributed_table(const DistributionRequest *request) {
    require_preload();
    PreventCommandIfReadOnly("panvel.create_distributed_table()");
    check_shard_settings(request->shard_count, request->replication_factor);
    Relation relation = open_distributable(request->relid);
    AttrNumber column = check_distribution_column(relation, request->column);
    check_unique_constraints(relation, column);
    Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), column - 1);

    bool new_group = !OidIsValid(request->colocate_with);
    int32 colocation_id =
        new_group
            ? create_colocation(request, attribute->atttypid, attribute->attcollation)
            : join_colocation(request, relation, attribute->atttypid, attribute->attcollation);
    insert_distributed_table(relation, column, colocation_id);
    if (is_replicated(get_distributed_table(request->relid)))
        require_primary_key(relation);
    move_to_shards(relation, new_group);
    label_distributed_table(get_distributed_table(request->relid), request->group);
}

} // namespace panvel

SQL_FUNCTION(panvel_create_distributed_table) {
    for (int i = 0; i < 2; i++)
        if (PG_ARGISNULL(i))
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                            errmsg("argument \"%s\" must not be null",
                                   i == 0 ? "relation" : "distribution_column")));
    auto positive = [&](int number, const char *name) {
        if (PG_ARGISNULL(number))
            return 0;
        int32 value = PG_GETARG_INT32(number);
        if (value < 1)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("%s must be at least 1, not %d", name, value)));
        return value;
    };
    panvel::DistributionRequest request = {};
    request.relid = PG_GETARG_OID(0);
    request.column = NameStr(*PG_GETARG_NAME(1));
    request.shard_count = positive(2, "shard_count");
    request.replication_factor = positive(3, "replication_factor");
    request.colocate_with = PG_ARGISNULL(4) ? InvalidOid : PG_GETARG_OID(4);
    panvel::create_distributed_table(&request);
    PG_RETURN_VOID();
}
