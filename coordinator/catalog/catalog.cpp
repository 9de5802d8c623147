#include "coordinator/catalog/catalog.h"

#include "coordinator/catalog/settings.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace panvel {

bool preloaded = false;
int default_shard_count = 8;
int default_replication_factor = 1;

void require_preload() {
    if (preloaded)
        return;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("panvel must be loaded with shared_preload_libraries"),
             errhint("Add panvel to shared_preload_libraries in postgresql.conf (for example "
                     "shared_preload_libraries = 'panvel') and restart the server.")));
}

void init_catalog() {
    DefineCustomIntVariable("panvel.shard_count", "Number of shards of a new distributed table.",
                            "Used where create_distributed_table() is not told otherwise.",
                            &default_shard_count, 8, 1, kMaxShardCount, PGC_USERSET, 0, nullptr,
                            nullptr, nullptr);
    DefineCustomIntVariable(
        "panvel.replication_factor", "Number of placements of each shard of a new table.",
        "Used where create_distributed_table() is not told otherwise.", &default_replication_factor,
        1, 1, kMaxReplicationFactor, PGC_USERSET, 0, nullptr, nullptr, nullptr);
}

Oid find_panvel_relation(const char *name) {
    Oid schema = get_namespace_oid("panvel", true);
    return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

Oid panvel_relation(const char *name) {
    Oid relid = find_panvel_relation(name);
    if (!OidIsValid(relid))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("extension \"panvel\" is not installed in this database"),
                        errhint("Run CREATE EXTENSION panvel.")));
    return relid;
}

namespace {

const char *catalog_name(Catalog catalog) {
    switch (catalog) {
    case Catalog::kNode:
        return "node";
    case Catalog::kColocation:
        return "colocation";
    case Catalog::kDistributedTable:
        return "distributed_table";
    case Catalog::kShard:
        return "shard";
    case Catalog::kPlacement:
        return "placement";
    case Catalog::kLeftover:
        return "leftover";
    case Catalog::kNodeObject:
        return "node_object";
    }
    pg_unreachable();
}

CatalogScan begin_scan_by(Catalog catalog, LOCKMODE lockmode, const char *index, AttrNumber column,
                          RegProcedure equality, Datum value) {
    ScanKeyData key;
    ScanKeyInit(&key, column, BTEqualStrategyNumber, equality, value);
    return begin_catalog_scan(catalog, lockmode, index, 1, &key);
}

} // namespace

Oid catalog_oid(Catalog catalog) {
    return panvel_relation(catalog_name(catalog));
}

Relation open_catalog(Catalog catalog, LOCKMODE lockmode) {
    return table_open(catalog_oid(catalog), lockmode);
}

CatalogScan begin_catalog_scan(Catalog catalog, LOCKMODE lockmode, const char *index, int nkeys,
                               ScanKey keys) {
    CatalogScan scan;
    Oid index_oid = index != nullptr ? panvel_relation(index) : InvalidOid;
    scan.relation = open_catalog(catalog, lockmode);
    scan.scan =
        systable_beginscan(scan.relation, index_oid, index != nullptr, nullptr, nkeys, keys);
    return scan;
}

HeapTuple next_catalog_row(CatalogScan *scan) {
    return systable_getnext(scan->scan);
}

void end_catalog_scan(CatalogScan *scan) {
    systable_endscan(scan->scan);
    table_close(scan->relation, NoLock);
}

CatalogScan begin_catalog_scan_int32(Catalog catalog, LOCKMODE lockmode, const char *index,
                                     AttrNumber column, int32 value) {
    return begin_scan_by(catalog, lockmode, index, column, F_INT4EQ, Int32GetDatum(value));
}

CatalogScan begin_catalog_scan_int64(Catalog catalog, LOCKMODE lockmode, const char *index,
                                     AttrNumber column, int64 value) {
    return begin_scan_by(catalog, lockmode, index, column, F_INT8EQ, Int64GetDatum(value));
}

CatalogScan begin_catalog_scan_oid(Catalog catalog, LOCKMODE lockmode, const char *index,
                                   AttrNumber column, Oid value) {
    return begin_scan_by(catalog, lockmode, index, column, F_OIDEQ, ObjectIdGetDatum(value));
}

Datum catalog_value(const CatalogScan *scan, HeapTuple row, AttrNumber column) {
    bool isnull;
    Datum value = heap_getattr(row, column, RelationGetDescr(scan->relation), &isnull);
    if (isnull)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("column %d of catalog table \"%s\" is null", column,
                               RelationGetRelationName(scan->relation))));
    return value;
}

void insert_catalog_row(Relation catalog, Datum *values) {
    TupleDesc columns = RelationGetDescr(catalog);
    bool *isnull = static_cast<bool *>(palloc0(columns->natts * sizeof(bool)));
    HeapTuple row = heap_form_tuple(columns, values, isnull);
    CatalogTupleInsert(catalog, row);
    heap_freetuple(row);
    pfree(isnull);
}

void update_catalog_row(Relation catalog, HeapTuple row, Datum *values, const bool *replace) {
    TupleDesc columns = RelationGetDescr(catalog);
    bool *isnull = static_cast<bool *>(palloc0(columns->natts * sizeof(bool)));
    HeapTuple changed =
        heap_modify_tuple(row, columns, values, isnull, const_cast<bool *>(replace));
    CatalogTupleUpdate(catalog, &row->t_self, changed);
    heap_freetuple(changed);
    pfree(isnull);
}

int64 next_catalog_id(const char *sequence) {
    return nextval_internal(panvel_relation(sequence), false);
}

void delete_catalog_row(const CatalogScan *scan, HeapTuple row) {
    CatalogTupleDelete(scan->relation, &row->t_self);
}

void delete_catalog_rows(CatalogScan scan) {
    HeapTuple row;
    while (HeapTupleIsValid(row = next_catalog_row(&scan)))
        delete_catalog_row(&scan, row);
    end_catalog_scan(&scan);
}

} // namespace panvel

SQL_FUNCTION(panvel_require_preload) {
    panvel::require_preload();
    PG_RETURN_VOID();
}
