// A shell has no rows and must not answer: a plan, a foreign-key check or a COPY that reads its
// heap would find nothing, and that would be a wrong answer without an error. So every scan,
// fetch and write through this access method is refused. What remains allowed is what keeps the
// catalog in order (creating, truncating and dropping its empty storage, building its empty
// indexes) and what must pass it by (database-wide VACUUM and ANALYZE, autovacuum).
//
// Nothing is delegated to heapam.
#include "coordinator/catalog/shell_am.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/metadata.h"
#include "coordinator/catalog/sample.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/storage.h"
#include "commands/defrem.h"
#include "commands/vacuum.h"
#include "executor/tuptable.h"
#include "optimizer/plancat.h"
#include "storage/smgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

bool conversion_allowed = false;
bool rewrite_allowed = false;

get_relation_info_hook_type next_get_relation_info = nullptr;

[[noreturn]] void refuse(const char *name, const char *action) {
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("cannot %s distributed table \"%s\" on the coordinator", action, name),
             errdetail("Its rows are in shards on other nodes; here it has none."),
             errhint("This statement reached the table itself instead of its shards: it is not "
                     "supported on distributed tables.")));
}

[[noreturn]] void refuse(Relation relation, const char *action) {
    refuse(RelationGetRelationName(relation), action);
}

const TupleTableSlotOps *slot_callbacks(Relation) {
    return &TTSOpsVirtual;
}

// ---- scans

// ANALYZE finds one block with the rows that were fetched from the shards (catalog/sample.h).
struct ShellScan {
    TableScanDescData base; // first
    int row;
};

TableScanDesc scan_begin(Relation relation, Snapshot snapshot, int, ScanKeyData *,
                         ParallelTableScanDesc, uint32 flags) {
    // ANALYZE of a whole database comes by; without a sample the size is zero, and it asks for no
    // block.
    if ((flags & SO_TYPE_ANALYZE) == 0 && !conversion_allowed && !rewrite_allowed)
        refuse(relation, "scan");
    auto *scan = static_cast<TableScanDesc>(palloc0(sizeof(ShellScan)));
    scan->rs_rd = relation;
    scan->rs_snapshot = snapshot;
    scan->rs_flags = flags;
    RelationIncrementReferenceCount(relation);
    return scan;
}

void scan_end(TableScanDesc scan) {
    RelationDecrementReferenceCount(scan->rs_rd);
    pfree(scan);
}

void scan_rescan(TableScanDesc scan, ScanKeyData *, bool, bool, bool, bool) {
    refuse(scan->rs_rd, "scan");
}

bool scan_getnextslot(TableScanDesc scan, ScanDirection, TupleTableSlot *slot) {
    if (!conversion_allowed && !rewrite_allowed)
        refuse(scan->rs_rd, "scan");
    ExecClearTuple(slot);
    return false;
}

Size parallelscan_estimate(Relation relation) {
    refuse(relation, "scan");
}

Size parallelscan_initialize(Relation relation, ParallelTableScanDesc) {
    refuse(relation, "scan");
}

void parallelscan_reinitialize(Relation relation, ParallelTableScanDesc) {
    refuse(relation, "scan");
}

bool scan_analyze_next_block(TableScanDesc scan, BlockNumber, BufferAccessStrategy) {
    if (offered_sample(RelationGetRelid(scan->rs_rd)) == nullptr)
        refuse(scan->rs_rd, "sample");
    reinterpret_cast<ShellScan *>(scan)->row = 0;
    return true;
}

bool scan_analyze_next_tuple(TableScanDesc scan, TransactionId, double *liverows, double *,
                             TupleTableSlot *slot) {
    const TableSample *sample = offered_sample(RelationGetRelid(scan->rs_rd));
    int *row = &reinterpret_cast<ShellScan *>(scan)->row;
    ExecClearTuple(slot);
    // Of one block of one, ANALYZE takes the live rows for those of the table.
    *liverows = sample->total_rows;
    if (*row == sample->count)
        return false;
    heap_deform_tuple(sample->rows[(*row)++], RelationGetDescr(scan->rs_rd), slot->tts_values,
                      slot->tts_isnull);
    ExecStoreVirtualTuple(slot);
    return true;
}

bool scan_sample_next_block(TableScanDesc scan, SampleScanState *) {
    refuse(scan->rs_rd, "sample");
}

bool scan_sample_next_tuple(TableScanDesc scan, SampleScanState *, TupleTableSlot *) {
    refuse(scan->rs_rd, "sample");
}

// ---- single rows

IndexFetchTableData *index_fetch_begin(Relation relation) {
    refuse(relation, "scan an index of");
}

void index_fetch_reset(IndexFetchTableData *data) {
    refuse(data->rel, "scan an index of");
}

void index_fetch_end(IndexFetchTableData *data) {
    refuse(data->rel, "scan an index of");
}

bool index_fetch_tuple(IndexFetchTableData *data, ItemPointer, Snapshot, TupleTableSlot *, bool *,
                       bool *) {
    refuse(data->rel, "scan an index of");
}

bool tuple_fetch_row_version(Relation relation, ItemPointer, Snapshot, TupleTableSlot *) {
    refuse(relation, "fetch a row by its ctid from");
}

bool tuple_tid_valid(TableScanDesc scan, ItemPointer) {
    refuse(scan->rs_rd, "fetch a row by its ctid from");
}

void tuple_get_latest_tid(TableScanDesc scan, ItemPointer) {
    refuse(scan->rs_rd, "fetch a row by its ctid from");
}

bool tuple_satisfies_snapshot(Relation relation, TupleTableSlot *, Snapshot) {
    refuse(relation, "check a row of");
}

TransactionId index_delete_tuples(Relation relation, TM_IndexDeleteOp *) {
    refuse(relation, "delete from");
}

void tuple_insert(Relation relation, TupleTableSlot *, CommandId, int, BulkInsertStateData *) {
    refuse(relation, "insert into");
}

void tuple_insert_speculative(Relation relation, TupleTableSlot *, CommandId, int,
                              BulkInsertStateData *, uint32) {
    refuse(relation, "insert into");
}

void tuple_complete_speculative(Relation relation, TupleTableSlot *, uint32, bool) {
    refuse(relation, "insert into");
}

void multi_insert(Relation relation, TupleTableSlot **, int, CommandId, int,
                  BulkInsertStateData *) {
    refuse(relation, "insert into");
}

TM_Result tuple_delete(Relation relation, ItemPointer, CommandId, Snapshot, Snapshot, bool,
                       TM_FailureData *, bool) {
    refuse(relation, "delete from");
}

TM_Result tuple_update(Relation relation, ItemPointer, TupleTableSlot *, CommandId, Snapshot,
                       Snapshot, bool, TM_FailureData *, LockTupleMode *, bool *) {
    refuse(relation, "update");
}

TM_Result tuple_lock(Relation relation, ItemPointer, Snapshot, TupleTableSlot *, CommandId,
                     LockTupleMode, LockWaitPolicy, uint8, TM_FailureData *) {
    refuse(relation, "lock a row of");
}

// ---- storage: an empty file, so that dropping, truncating and relation caches work as ever

void relation_set_new_filenode(Relation relation, const RelFileNode *file, char persistence,
                               TransactionId *freeze_xid, MultiXactId *min_multi) {
    if (!conversion_allowed && !rewrite_allowed &&
        find_distributed_table(RelationGetRelid(relation)) == nullptr)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("access method \"panvel\" cannot be chosen for relation \"%s\"",
                               RelationGetRelationName(relation)),
                        errhint("Create an ordinary table and distribute it with "
                                "panvel.create_distributed_table().")));
    *freeze_xid = InvalidTransactionId; // holds no row that could age
    *min_multi = InvalidMultiXactId;
    smgrclose(RelationCreateStorage(*file, persistence, true));
}

void relation_nontransactional_truncate(Relation) {}

void relation_copy_data(Relation relation, const RelFileNode *) {
    refuse(relation, "change the tablespace of");
}

void relation_copy_for_cluster(Relation old_table, Relation, Relation, bool, TransactionId,
                               TransactionId *, MultiXactId *, double *, double *, double *) {
    refuse(old_table, "rewrite");
}

// VACUUM of a whole database and autovacuum come by; there is nothing to clean.
void relation_vacuum(Relation, VacuumParams *, BufferAccessStrategy) {}

double index_build_range_scan(Relation, Relation, IndexInfo *, bool, bool, bool, BlockNumber,
                              BlockNumber, IndexBuildCallback, void *, TableScanDesc) {
    return 0; // rows indexed
}

void index_validate_scan(Relation, Relation, IndexInfo *, Snapshot, ValidateIndexState *) {}

uint64 relation_size(Relation relation, ForkNumber) {
    return offered_sample(RelationGetRelid(relation)) != nullptr ? BLCKSZ : 0;
}

bool relation_needs_toast_table(Relation) {
    return false;
}

// ---- planning

void relation_estimate_size(Relation relation, int32 *attribute_widths, BlockNumber *pages,
                            double *tuples, double *all_visible_fraction) {
    *pages = 0;
    *tuples = 0;
    *all_visible_fraction = 0;
    // CREATE INDEX asks without widths, to choose parallel workers for a build that reads nothing.
    if (attribute_widths == nullptr)
        return;
    const DistributedTable *table = find_distributed_table(RelationGetRelid(relation));
    if (table == nullptr)
        return;
    int32 width = get_rel_data_width(relation, attribute_widths) + 28; // 28: overhead of a tuple
    if (table->row_estimate < 0) {
        // Never analyzed: as PostgreSQL, which takes ten pages for a new table, for each shard.
        *pages = static_cast<BlockNumber>(10 * table->shard_count);
        *tuples = std::max(1.0, *pages * std::floor(BLCKSZ / static_cast<double>(width)));
        return;
    }
    *pages = static_cast<BlockNumber>(
        std::min<int64>(std::max<int64>(table->page_estimate, 1), MaxBlockNumber));
    *tuples = table->row_estimate;
}

// A shell's indexes prove uniqueness to the planner, but must not be looked into, as it would do
// for the ends of a histogram: they are as good as hypothetical.
void relation_info(PlannerInfo *root, Oid relid, bool inhparent, RelOptInfo *rel) {
    pg::entry([&] {
        if (next_get_relation_info != nullptr)
            next_get_relation_info(root, relid, inhparent, rel);
        if (rel->indexlist == nullptr || find_distributed_table(relid) == nullptr)
            return;
        ListCell *cell;
        foreach (cell, rel->indexlist)
            static_cast<IndexOptInfo *>(lfirst(cell))->hypothetical = true;
    });
}

TableAmRoutine make_routine() {
    TableAmRoutine routine = {};
    routine.type = T_TableAmRoutine;
#define ENTRY(callback)                                                                            \
    routine.callback = [](auto... arguments) {                                                     \
        return pg::entry([&] { return panvel::callback(arguments...); });                          \
    }
    ENTRY(slot_callbacks);
    ENTRY(scan_begin);
    ENTRY(scan_end);
    ENTRY(scan_rescan);
    ENTRY(scan_getnextslot);
    ENTRY(parallelscan_estimate);
    ENTRY(parallelscan_initialize);
    ENTRY(parallelscan_reinitialize);
    ENTRY(index_fetch_begin);
    ENTRY(index_fetch_reset);
    ENTRY(index_fetch_end);
    ENTRY(index_fetch_tuple);
    ENTRY(tuple_fetch_row_version);
    ENTRY(tuple_tid_valid);
    ENTRY(tuple_get_latest_tid);
    ENTRY(tuple_satisfies_snapshot);
    ENTRY(index_delete_tuples);
    ENTRY(tuple_insert);
    ENTRY(tuple_insert_speculative);
    ENTRY(tuple_complete_speculative);
    ENTRY(multi_insert);
    ENTRY(tuple_delete);
    ENTRY(tuple_update);
    ENTRY(tuple_lock);
    ENTRY(relation_set_new_filenode);
    ENTRY(relation_nontransactional_truncate);
    ENTRY(relation_copy_data);
    ENTRY(relation_copy_for_cluster);
    ENTRY(relation_vacuum);
    ENTRY(scan_analyze_next_block);
    ENTRY(scan_analyze_next_tuple);
    ENTRY(index_build_range_scan);
    ENTRY(index_validate_scan);
    ENTRY(relation_size);
    ENTRY(relation_needs_toast_table);
    ENTRY(relation_estimate_size);
    ENTRY(scan_sample_next_block);
    ENTRY(scan_sample_next_tuple);
#undef ENTRY
    return routine;
}

const TableAmRoutine shell_routine = make_routine();

} // namespace

void allow_shell_conversion(bool allow) {
    conversion_allowed = allow;
}

bool shell_conversion_allowed() {
    return conversion_allowed;
}

void allow_shell_rewrite(bool allow) {
    rewrite_allowed = allow;
}

void clear_freeze_horizon(Oid relid) {
    Relation classes = table_open(RelationRelationId, RowExclusiveLock);
    HeapTuple tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relid));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", relid);
    auto *form = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    if (TransactionIdIsValid(form->relfrozenxid)) {
        form->relfrozenxid = InvalidTransactionId;
        form->relminmxid = InvalidMultiXactId;
        CatalogTupleUpdate(classes, &tuple->t_self, tuple);
        CommandCounterIncrement();
    }
    heap_freetuple(tuple);
    table_close(classes, RowExclusiveLock);
}

void init_shell() {
    next_get_relation_info = get_relation_info_hook;
    get_relation_info_hook = relation_info;
}

Oid shell_access_method() {
    return get_table_am_oid("panvel", false);
}

} // namespace panvel

// Called when a backend first opens a shell. Without the hooks even statements that do not read
// it (DROP, TRUNCATE, ALTER) would do their work on the shell alone.
SQL_FUNCTION(panvel_shell_handler) {
    panvel::require_preload();
    PG_RETURN_POINTER(&panvel::shell_routine);
}
