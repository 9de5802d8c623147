#include "coordinator/ddl/foreign_keys.h"

#include "extension/pg/boundary.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_constraint.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

struct ForeignKey {
    char name[NAMEDATALEN];
    Oid referencing;
    Oid referenced;
    int count;
    AttrNumber columns[INDEX_MAX_KEYS];
    AttrNumber referenced_columns[INDEX_MAX_KEYS];
    char on_update;
    char on_delete;
    int set_count; // of the columns below; 0: all
    AttrNumber set_on_delete[INDEX_MAX_KEYS];
};

ForeignKey read_foreign_key(Oid constraint) {
    HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for constraint %u", constraint);
    auto *form = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(tuple));
    ForeignKey key = {};
    strlcpy(key.name, NameStr(form->conname), NAMEDATALEN);
    key.referencing = form->conrelid;
    key.referenced = form->confrelid;
    key.on_update = form->confupdtype;
    key.on_delete = form->confdeltype;
    DeconstructFkConstraintRow(tuple, &key.count, key.columns, key.referenced_columns, nullptr,
                               nullptr, nullptr, &key.set_count, key.set_on_delete);
    ReleaseSysCache(tuple);
    return key;
}

[[noreturn]] void refuse(const ForeignKey *key, const char *detail, const char *hint) {
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("foreign key \"%s\" of table \"%s\" is not supported", key->name,
                           get_rel_name(key->referencing)),
                    errdetail("%s", detail), errhint("%s", hint)));
    pg_unreachable();
}

bool is_set_on_delete(const ForeignKey *key, AttrNumber column) {
    if (key->set_count == 0)
        return true;
    for (int i = 0; i < key->set_count; i++)
        if (key->set_on_delete[i] == column)
            return true;
    return false;
}

// Whether an action could give the column another value: its row would belong elsewhere.
bool changes_column(const ForeignKey *key, AttrNumber column, bool parent_is_colocated) {
    bool part = false;
    for (int i = 0; i < key->count; i++)
        part |= key->columns[i] == column;
    if (!part)
        return false;
    if (key->on_delete == FKCONSTR_ACTION_SETNULL && is_set_on_delete(key, column))
        return true;
    // A colocated parent's distribution column cannot be updated, so neither can this one.
    return key->on_update == FKCONSTR_ACTION_SETNULL ||
           (key->on_update == FKCONSTR_ACTION_CASCADE && !parent_is_colocated);
}

bool pairs_distribution_columns(const ForeignKey *key, const DistributedTable *table,
                                const DistributedTable *parent) {
    for (int i = 0; i < key->count; i++)
        if (key->columns[i] == table->distribution_attribute &&
            key->referenced_columns[i] == parent->distribution_attribute)
            return true;
    return false;
}

void check_actions(const ForeignKey *key, const DistributedTable *table, bool colocated) {
    if (key->on_update == FKCONSTR_ACTION_SETDEFAULT ||
        key->on_delete == FKCONSTR_ACTION_SETDEFAULT)
        refuse(key, "SET DEFAULT is not supported: shards have no defaults.",
               "Use SET NULL, CASCADE or NO ACTION.");
    if (!table->is_reference && changes_column(key, table->distribution_attribute, colocated))
        refuse(key,
               psprintf("Its action would change the distribution column \"%s\", and the row "
                        "belongs to another shard then.",
                        get_attname(table->relid, table->distribution_attribute, false)),
               "Use NO ACTION, or ON DELETE CASCADE.");
}

// Calls visit(OID) for the table's foreign keys, or those that reference it.
template <typename Visit> void each_foreign_key(Oid relid, bool referencing_it, Visit &&visit) {
    Relation constraints = table_open(ConstraintRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, referencing_it ? Anum_pg_constraint_confrelid : Anum_pg_constraint_conrelid,
                BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
    SysScanDesc scan = systable_beginscan(constraints, ConstraintRelidTypidNameIndexId,
                                          !referencing_it, nullptr, 1, &key);
    List *found = NIL;
    HeapTuple row;
    while (HeapTupleIsValid(row = systable_getnext(scan))) {
        auto *form = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(row));
        if (form->contype == CONSTRAINT_FOREIGN)
            found = lappend_oid(found, form->oid);
    }
    systable_endscan(scan);
    table_close(constraints, AccessShareLock);
    ListCell *cell;
    foreach (cell, found)
        visit(lfirst_oid(cell));
}

} // namespace

void check_foreign_key(const DistributedTable *table, Oid constraint) {
    ForeignKey key = read_foreign_key(constraint);
    const DistributedTable *parent = find_distributed_table(key.referenced);
    const char *parent_name = get_rel_name(key.referenced);
    if (parent == nullptr)
        refuse(
            &key,
            psprintf("The referenced table \"%s\" is on the coordinator, the rows that reference "
                     "it are not.",
                     parent_name),
            "Make it a reference table with panvel.create_reference_table(), or distribute it by "
            "the referenced column and this table with colocate_with.");
    bool colocated = !parent->is_reference;
    if (colocated && table->is_reference)
        refuse(&key,
               psprintf("A reference table cannot reference \"%s\", whose rows are in shards.",
                        parent_name),
               "Make the referenced table a reference table, too.");
    if (colocated && (parent->colocation_id != table->colocation_id ||
                      !pairs_distribution_columns(&key, table, parent)))
        refuse(
            &key, psprintf("The referenced rows of \"%s\" may be on other nodes.", parent_name),
            "Distribute both tables by columns that the key pairs, one with colocate_with => the "
            "other, or make the referenced table a reference table.");
    check_actions(&key, table, colocated);
}

namespace {

// Tables that were distributed in this transaction while tables of the coordinator reference them:
// OIDs, in TopTransactionContext.
List *referenced_from_here = NIL;

void check_not_referenced_from_here(Oid relid) {
    each_foreign_key(relid, true, [&](Oid oid) {
        ForeignKey key = read_foreign_key(oid);
        if (key.referencing != relid && find_distributed_table(key.referencing) == nullptr)
            refuse(&key,
                   psprintf("It references \"%s\", whose rows would be in shards, from a table of "
                            "the coordinator.",
                            get_rel_name(relid)),
                   "Distribute both tables in one transaction, the referenced one first.");
    });
}

void transaction_ends(XactEvent event, void *) {
    List *relids = referenced_from_here;
    if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_ABORT)
        return;
    referenced_from_here = NIL;
    if (event == XACT_EVENT_PRE_COMMIT)
        pg::entry([&] {
            ListCell *cell;
            foreach (cell, relids)
                if (find_distributed_table(lfirst_oid(cell)) != nullptr)
                    check_not_referenced_from_here(lfirst_oid(cell));
        });
}

} // namespace

void check_foreign_keys(const DistributedTable *table, Relation relation) {
    Oid relid = RelationGetRelid(relation);
    each_foreign_key(relid, false, [&](Oid key) { check_foreign_key(table, key); });
    if (!IsTransactionBlock()) { // nothing else can follow before the commit
        check_not_referenced_from_here(relid);
        return;
    }
    MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
    referenced_from_here = lappend_oid(referenced_from_here, relid);
    MemoryContextSwitchTo(caller);
}

void init_foreign_keys() {
    RegisterXactCallback(transaction_ends, nullptr);
}

void check_no_shared_foreign_keys(Oid relid) {
    for (bool referencing_it : {false, true})
        each_foreign_key(relid, referencing_it, [&](Oid oid) {
            ForeignKey key = read_foreign_key(oid);
            if (key.referencing != key.referenced)
                refuse(&key,
                       psprintf("It would connect \"%s\", a table of the coordinator then, with "
                                "rows in shards.",
                                get_rel_name(relid)),
                       "Drop the constraint first, and add it again when both tables are back.");
        });
}

bool is_in_foreign_key(Oid relid, AttrNumber column) {
    bool found = false;
    for (bool referencing_it : {false, true})
        each_foreign_key(relid, referencing_it, [&](Oid oid) {
            ForeignKey key = read_foreign_key(oid);
            for (int i = 0; i < key.count; i++)
                found |= (referencing_it ? key.referenced_columns : key.columns)[i] == column;
        });
    return found;
}

void mark_foreign_key_valid(Oid constraint) {
    Relation constraints = table_open(ConstraintRelationId, RowExclusiveLock);
    HeapTuple tuple = SearchSysCacheCopy1(CONSTROID, ObjectIdGetDatum(constraint));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for constraint %u", constraint);
    auto *form = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(tuple));
    form->convalidated = true;
    CatalogTupleUpdate(constraints, &tuple->t_self, tuple);
    CacheInvalidateRelcacheByRelid(form->conrelid);
    heap_freetuple(tuple);
    table_close(constraints, RowExclusiveLock);
}

List *reference_tables_written_with(Oid relid) {
    List *relids = list_make1_oid(relid);
    for (int i = 0; i < list_length(relids); i++)
        each_foreign_key(list_nth_oid(relids, i), true, [&](Oid oid) {
            ForeignKey key = read_foreign_key(oid);
            auto changes = [](char action) {
                return action == FKCONSTR_ACTION_CASCADE || action == FKCONSTR_ACTION_SETNULL;
            };
            const DistributedTable *child = find_distributed_table(key.referencing);
            if (child != nullptr && child->is_reference &&
                (changes(key.on_update) || changes(key.on_delete)))
                relids = list_append_unique_oid(relids, key.referencing);
        });
    list_sort(relids, list_oid_cmp);
    return relids;
}

} // namespace panvel
