#include "coordinator/ddl/concurrent_index.h"

#include "coordinator/ddl/ddl.h"
#include "coordinator/ddl/objects.h"
#include "coordinator/ddl/shard_ddl.h"
#include "coordinator/remote/remote.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

// ---------------------------------------------------------------- transactions and locks

// The lock that PostgreSQL takes for it, over all transactions of the statement: reads and writes
// go on, other definitions wait. An error ends it.
LockRelId lock_for_session(Oid relid) {
    Relation relation = table_open(relid, ShareUpdateExclusiveLock);
    LockRelId lock = relation->rd_lockInfo.lockRelId;
    table_close(relation, NoLock);
    LockRelationIdForSession(&lock, ShareUpdateExclusiveLock);
    return lock;
}

void check_owner(Oid relid) {
    if (!pg_class_ownercheck(relid, GetUserId()))
        aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)),
                       get_rel_name(relid));
}

// ---------------------------------------------------------------- the nodes

void raise_first_error(List *requests, const char *hint) {
    ErrorData *first = nullptr;
    ListCell *cell;
    foreach (cell, requests) { // all of them end: what can be done is
        auto *request = static_cast<RemoteRequest *>(lfirst(cell));
        remote_wait_any(&request, 1);
        ErrorData *error = remote_error(request);
        if (first == nullptr)
            first = error;
    }
    if (first == nullptr)
        return;
    if (hint != nullptr)
        first->hint = pstrdup(hint);
    ThrowErrorData(first);
}

// Sends `command(schema)` for every placement, outside of transactions, and waits for all.
template <typename Command>
void run_on_placements(const DistributedTable *table, const char *hint, Command &&command) {
    List *requests = NIL;
    for (int i = 0; i < table->shard_count; i++) {
        const Shard *shard = &table->shards[i];
        for (int j = 0; j < shard->placement_count; j++) {
            RemoteStatement statement = {};
            statement.sql = command(shard->schema);
            statement.effect = Effect::kNoTransaction;
            statement.shard_id = shard->shard_id;
            requests = lappend(requests, remote_send(shard->placements[j].node_id, &statement));
        }
    }
    raise_first_error(requests, hint);
}

// An error before anything is done, when a node that has a part of the table does not answer.
void require_nodes(const DistributedTable *table) {
    RemoteStatement statement = {};
    statement.sql = "SELECT 1";
    statement.effect = Effect::kReadOnce;
    List *requests = NIL;
    ListCell *cell;
    foreach (cell, nodes_of_table(table))
        requests = lappend(requests, remote_send(lfirst_int(cell), &statement));
    raise_first_error(requests, nullptr);
}

// ---------------------------------------------------------------- the shell's index

List *indexes_of(Oid relid) {
    Relation relation = table_open(relid, NoLock);
    List *indexes = list_copy(RelationGetIndexList(relation));
    table_close(relation, NoLock);
    return indexes;
}

// What check_unique_index() says of an index that is there.
void check_unique_columns(const IndexStmt *statement, const DistributedTable *table) {
    if (!statement->unique || table->is_reference)
        return;
    const char *column = get_attname(table->relid, table->distribution_attribute, false);
    ListCell *cell;
    foreach (cell, statement->indexParams) {
        auto *element = lfirst_node(IndexElem, cell);
        if (element->name != nullptr && strcmp(element->name, column) == 0)
            return;
    }
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("unique index of table \"%s\" does not include the distribution column",
                    get_rel_name(table->relid)),
             errdetail("A shard sees only its own rows, and equal values could be in different "
                       "shards."),
             errhint("Make column \"%s\" part of it.", column)));
}

void create_needed_objects(Oid relid) {
    PushActiveSnapshot(GetTransactionSnapshot());
    int level = enter_qualified_names();
    Relation relation = table_open(relid, NoLock);
    create_on_nodes(objects_needed_by_table(relation), relation);
    table_close(relation, NoLock);
    leave_qualified_names(level);
    PopActiveSnapshot();
}

char *concurrent_index_command(Oid index, const char *schema) {
    int level = enter_qualified_names();
    char *command = shard_index_command(index, schema);
    leave_qualified_names(level);
    char *name = strstr(command, "INDEX ");
    if (name == nullptr)
        elog(ERROR, "unexpected index definition: %s", command);
    name += strlen("INDEX ");
    return psprintf("%.*sCONCURRENTLY %s", static_cast<int>(name - command), command, name);
}

} // namespace

void next_transaction(MemoryContext context) {
    while (ActiveSnapshotSet())
        PopActiveSnapshot();
    CommitTransactionCommand();
    StartTransactionCommand();
    MemoryContextSwitchTo(context);
}

// ---------------------------------------------------------------- the mark of an index

bool is_index_valid(Oid index) {
    HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for index %u", index);
    bool valid = reinterpret_cast<Form_pg_index>(GETSTRUCT(tuple))->indisvalid;
    ReleaseSysCache(tuple);
    return valid;
}

void set_index_valid(Oid index, bool valid) {
    Relation indexes = table_open(IndexRelationId, RowExclusiveLock);
    HeapTuple tuple = SearchSysCacheCopy1(INDEXRELID, ObjectIdGetDatum(index));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for index %u", index);
    auto *form = reinterpret_cast<Form_pg_index>(GETSTRUCT(tuple));
    form->indisvalid = valid;
    CatalogTupleUpdate(indexes, &tuple->t_self, tuple);
    CacheInvalidateRelcacheByRelid(form->indrelid);
    heap_freetuple(tuple);
    table_close(indexes, NoLock);
    CommandCounterIncrement();
}

// ---------------------------------------------------------------- CREATE

void create_index_concurrently(const IndexStmt *statement, bool is_top_level,
                               const OnShell *on_shell) {
    PreventInTransactionBlock(is_top_level, "CREATE INDEX CONCURRENTLY");
    MemoryContext context = CurrentMemoryContext;
    const DistributedTable *table = distributed_target(statement->relation);
    Oid relid = table->relid;
    check_owner(relid);
    check_unique_columns(statement, table);
    LockRelId lock = lock_for_session(relid);
    require_nodes(table);
    List *known = indexes_of(relid);

    on_shell->run(on_shell->argument); // in several transactions
    MemoryContextSwitchTo(context);
    List *added = list_difference_oid(indexes_of(relid), known);
    if (added == NIL) { // IF NOT EXISTS
        UnlockRelationIdForSession(&lock, ShareUpdateExclusiveLock);
        return;
    }
    Oid index = linitial_oid(added);
    set_index_valid(index, false);
    next_transaction(context);

    create_needed_objects(relid);
    next_transaction(context);

    run_on_placements(get_distributed_table(relid),
                      psprintf("Index \"%s\" is left invalid: drop it with DROP INDEX, and create "
                               "it again.",
                               get_rel_name(index)),
                      [&](const char *schema) { return concurrent_index_command(index, schema); });
    set_index_valid(index, true);
    UnlockRelationIdForSession(&lock, ShareUpdateExclusiveLock);
}

// ---------------------------------------------------------------- DROP

namespace {

// Raised before the shards lose theirs; the shell's own would come too late.
void refuse_needed_index(Oid index) {
    Relation depend = table_open(DependRelationId, AccessShareLock);
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(RelationRelationId));
    ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(index));
    SysScanDesc scan = systable_beginscan(depend, DependReferenceIndexId, true, nullptr, 2, keys);
    while (HeapTuple row = systable_getnext(scan)) {
        auto *form = reinterpret_cast<Form_pg_depend>(GETSTRUCT(row));
        ObjectAddress dependent;
        ObjectAddressSet(dependent, form->classid, form->objid);
        ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                        errmsg("cannot drop index %s because other objects depend on it",
                               get_rel_name(index)),
                        errdetail("%s depends on index %s.",
                                  getObjectDescription(&dependent, false), get_rel_name(index))));
    }
    systable_endscan(scan);
    table_close(depend, AccessShareLock);
    Oid constraint = get_index_constraint(index);
    if (OidIsValid(constraint))
        ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                        errmsg("cannot drop index %s because constraint %s on table %s requires it",
                               get_rel_name(index), get_constraint_name(constraint),
                               get_rel_name(IndexGetRelation(index, false))),
                        errhint("You can drop constraint %s on table %s instead.",
                                get_constraint_name(constraint),
                                get_rel_name(IndexGetRelation(index, false)))));
}

} // namespace

void drop_index_concurrently(const DropStmt *statement, bool is_top_level,
                             const OnShell *on_shell) {
    PreventInTransactionBlock(is_top_level, "DROP INDEX CONCURRENTLY");
    MemoryContext context = CurrentMemoryContext;
    RangeVar *target = makeRangeVarFromNameList(castNode(List, linitial(statement->objects)));
    Oid index = RangeVarGetRelid(target, NoLock, false);
    const DistributedTable *table = distributed_by_relid(index);
    Oid relid = table->relid;
    // PostgreSQL's own errors come first: several indexes, CASCADE, what is no index.
    if (list_length(statement->objects) > 1 || statement->behavior == DROP_CASCADE ||
        get_rel_relkind(index) != RELKIND_INDEX) {
        on_shell->run(on_shell->argument);
        elog(ERROR, "DROP INDEX CONCURRENTLY was expected to be refused");
    }
    check_owner(index);
    refuse_needed_index(index);
    LockRelId lock = lock_for_session(relid);
    require_nodes(table);
    const char *name = pstrdup(get_rel_name(index));
    set_index_valid(index, false);
    next_transaction(context);

    run_on_placements(get_distributed_table(relid),
                      psprintf("Index \"%s\" is left invalid: drop it again.", name),
                      [&](const char *schema) {
                          return psprintf("DROP INDEX CONCURRENTLY IF EXISTS %s",
                                          quote_qualified_identifier(schema, name));
                      });
    next_transaction(context);

    PushActiveSnapshot(GetTransactionSnapshot());
    ignore_drops(true); // the shards have done it
    PG_TRY();
    { on_shell->run(on_shell->argument); }
    PG_FINALLY();
    { ignore_drops(false); }
    PG_END_TRY();
    UnlockRelationIdForSession(&lock, ShareUpdateExclusiveLock);
}

// ---------------------------------------------------------------- REINDEX

void reindex_concurrently(const ReindexStmt *statement, bool is_top_level) {
    PreventInTransactionBlock(is_top_level, "REINDEX CONCURRENTLY");
    MemoryContext context = CurrentMemoryContext;
    Oid target = RangeVarGetRelid(statement->relation, NoLock, false);
    bool is_index = statement->kind == REINDEX_OBJECT_INDEX;
    if (is_index != (get_rel_relkind(target) == RELKIND_INDEX))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("\"%s\" is not %s", get_rel_name(target),
                               is_index ? "an index" : "a table")));
    check_owner(target);
    const DistributedTable *table = distributed_by_relid(target);
    Oid relid = table->relid;
    LockRelId lock = lock_for_session(relid);
    require_nodes(table);
    const char *name = pstrdup(get_rel_name(target));
    List *indexes = is_index ? list_make1_oid(target) : NIL; // a table's invalid ones stay so
    next_transaction(context);

    run_on_placements(get_distributed_table(relid),
                      "The indexes are as they were. On that node there may be an invalid index "
                      "whose name ends in _ccnew: drop it with panvel.run_on_nodes().",
                      [&](const char *schema) {
                          return psprintf("REINDEX %s CONCURRENTLY %s",
                                          is_index ? "INDEX" : "TABLE",
                                          quote_qualified_identifier(schema, name));
                      });
    ListCell *cell;
    foreach (cell, indexes)
        if (!is_index_valid(lfirst_oid(cell)))
            set_index_valid(lfirst_oid(cell), true);
    UnlockRelationIdForSession(&lock, ShareUpdateExclusiveLock);
}

} // namespace panvel
