#include "coordinator/transaction/commit_record.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
}

namespace panvel {
namespace {

enum Column { kTransaction = 1, kNonce, kNodes, kSince, kColumnCount = kSince };

Oid table_oid() {
    Oid schema = get_namespace_oid("panvel", true);
    return OidIsValid(schema) ? get_relname_relid("commit_record", schema) : InvalidOid;
}

Relation open_table(LOCKMODE lock) {
    Oid oid = table_oid();
    if (!OidIsValid(oid))
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("panvel.commit_record does not exist"),
                 errhint("Run CREATE EXTENSION panvel in this database.")));
    return table_open(oid, lock);
}

List *nodes_of(Datum value) {
    Datum *elements;
    int count;
    deconstruct_array(DatumGetArrayTypeP(value), INT4OID, sizeof(int32), true, TYPALIGN_INT,
                      &elements, nullptr, &count);
    List *nodes = NIL;
    for (int i = 0; i < count; i++)
        nodes = lappend_int(nodes, DatumGetInt32(elements[i]));
    return nodes;
}

CommitRecord *read_record(HeapTuple tuple, TupleDesc columns) {
    Datum values[kColumnCount];
    bool nulls[kColumnCount];
    heap_deform_tuple(tuple, columns, values, nulls);
    CommitRecord *record = static_cast<CommitRecord *>(palloc0(sizeof(CommitRecord)));
    record->transaction = DatumGetUInt64(values[kTransaction - 1]);
    record->nonce = static_cast<uint64>(DatumGetInt64(values[kNonce - 1]));
    record->nodes = nodes_of(values[kNodes - 1]);
    record->since = DatumGetTimestampTz(values[kSince - 1]);
    record->tid = tuple->t_self;
    return record;
}

} // namespace

void insert_commit_record(uint64 transaction, uint64 nonce, List *nodes) {
    Relation table = open_table(RowExclusiveLock);
    int count = list_length(nodes);
    Datum *elements = static_cast<Datum *>(palloc(sizeof(Datum) * count));
    for (int i = 0; i < count; i++)
        elements[i] = Int32GetDatum(list_nth_int(nodes, i));
    Datum values[kColumnCount];
    bool nulls[kColumnCount] = {};
    values[kTransaction - 1] = UInt64GetDatum(transaction);
    values[kNonce - 1] = Int64GetDatum(static_cast<int64>(nonce));
    values[kNodes - 1] = PointerGetDatum(
        construct_array(elements, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
    values[kSince - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
    HeapTuple tuple = heap_form_tuple(RelationGetDescr(table), values, nulls);
    CatalogTupleInsert(table, tuple);
    heap_freetuple(tuple);
    table_close(table, NoLock);
}

List *commit_records() {
    Relation table = open_table(AccessShareLock);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, snapshot, 0, nullptr);
    List *records = NIL;
    HeapTuple tuple;
    while (HeapTupleIsValid(tuple = systable_getnext(scan)))
        records = lappend(records, read_record(tuple, RelationGetDescr(table)));
    systable_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(table, AccessShareLock);
    return records;
}

bool has_commit_record(uint64 transaction, uint64 nonce) {
    Relation table = open_table(AccessShareLock);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], kTransaction, BTEqualStrategyNumber, F_XID8EQ,
                UInt64GetDatum(transaction));
    ScanKeyInit(&keys[1], kNonce, BTEqualStrategyNumber, F_INT8EQ,
                Int64GetDatum(static_cast<int64>(nonce)));
    SysScanDesc scan =
        systable_beginscan(table, RelationGetPrimaryKeyIndex(table), true, snapshot, 2, keys);
    bool found = HeapTupleIsValid(systable_getnext(scan));
    systable_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(table, AccessShareLock);
    return found;
}

void delete_commit_record(const CommitRecord *record) {
    Relation table = open_table(RowExclusiveLock);
    ItemPointerData tid = record->tid;
    CatalogTupleDelete(table, &tid);
    table_close(table, NoLock);
}

void lock_commit_records() {
    Relation table = open_table(ShareUpdateExclusiveLock);
    table_close(table, NoLock);
}

bool try_lock_commit_records() {
    return ConditionalLockRelationOid(table_oid(), ShareUpdateExclusiveLock);
}

bool has_commit_record_table() {
    return OidIsValid(table_oid());
}

} // namespace panvel
