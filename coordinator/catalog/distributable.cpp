#include "coordinator/catalog/distributable.h"

#include "coordinator/catalog/metadata.h"
#include "coordinator/catalog/online_copy.h"
#include "coordinator/catalog/settings.h"
#include "extension/pg/compat.h"

extern "C" {
#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/heap.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_trigger.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"
}

namespace panvel {

void check_shard_settings(int shard_count, int replication_factor) {
    if (shard_count > kMaxShardCount)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("shard_count must be at most %d, not %d", kMaxShardCount, shard_count)));
    if (replication_factor > kMaxReplicationFactor)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("replication_factor must be at most %d, not %d",
                               kMaxReplicationFactor, replication_factor)));
}

namespace {

void check_kind(Relation relation) {
    const char *name = RelationGetRelationName(relation);
    char kind = relation->rd_rel->relkind;
    if (kind == RELKIND_PARTITIONED_TABLE)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute partitioned table \"%s\"", name),
                        errhint("Distribute an ordinary table: its shards take the place of "
                                "partitions.")));
    if (kind == RELKIND_FOREIGN_TABLE)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute foreign table \"%s\"", name),
                        errhint("Copy its rows into an ordinary table and distribute that.")));
    if (kind != RELKIND_RELATION)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a table", name)));
}

void check_persistence(Relation relation) {
    const char *name = RelationGetRelationName(relation);
    if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute temporary table \"%s\"", name)));
    if (relation->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute unlogged table \"%s\"", name),
                        errhint("Run ALTER TABLE ... SET LOGGED first.")));
    if (relation->rd_rel->relam != HEAP_TABLE_AM_OID)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute \"%s\": its access method is not heap", name)));
}

void check_family(Relation relation) {
    const char *name = RelationGetRelationName(relation);
    Oid relid = RelationGetRelid(relation);
    if (relation->rd_rel->relispartition)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute \"%s\": it is a partition", name),
                        errhint("Run ALTER TABLE ... DETACH PARTITION first.")));
    if (has_superclass(relid) || find_inheritance_children(relid, NoLock) != nullptr)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute \"%s\": it takes part in inheritance", name),
                        errhint("Run ALTER TABLE ... NO INHERIT first.")));
    if (OidIsValid(relation->rd_rel->reloftype))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute \"%s\": it is a typed table", name),
                        errhint("Run ALTER TABLE ... NOT OF first.")));
    if (OidIsValid(getExtensionOfObject(RelationRelationId, relid)))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute \"%s\": it belongs to an extension", name)));
    if (GetRelationPublications(relid) != nullptr)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute \"%s\": it is published", name),
                        errhint("Run ALTER PUBLICATION ... DROP TABLE first.")));
}

void check_triggers(Relation relation) {
    const char *name = RelationGetRelationName(relation);
    TriggerDesc *triggers = relation->trigdesc;
    for (int i = 0; triggers != nullptr && i < triggers->numtriggers; i++) {
        const Trigger *trigger = &triggers->triggers[i];
        if (!trigger->tgisinternal)
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                            errmsg("cannot distribute \"%s\": it has trigger \"%s\"", name,
                                   trigger->tgname),
                            errhint("Drop the trigger first: triggers on distributed tables are "
                                    "not supported.")));
    }
}

void check_rules(Relation relation) {
    const char *name = RelationGetRelationName(relation);
    if (relation->rd_rules != nullptr)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot distribute \"%s\": it has rules", name),
                        errhint("Drop the rules first.")));
}

} // namespace

Relation open_distributable(Oid relid) {
    LOCKMODE lockmode = lock_for_copy(relid);
    Relation relation = try_relation_open(relid, lockmode);
    if (relation == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("relation with OID %u does not exist", relid)));
    const char *name = RelationGetRelationName(relation);
    if (!pg_class_ownercheck(relid, GetUserId()))
        aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(relation->rd_rel->relkind), name);
    if (IsSystemRelation(relation))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("\"%s\" is a system catalog", name)));
    check_kind(relation);
    if (find_distributed_table(relid) != nullptr)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table \"%s\" is already distributed", name)));
    check_persistence(relation);
    check_family(relation);
    check_triggers(relation);
    check_rules(relation);
    CheckTableNotInUse(relation, "panvel.create_distributed_table()");
    if (lockmode != AccessExclusiveLock && !OidIsValid(RelationGetPrimaryKeyIndex(relation)))
        LockRelationOid(relid, AccessExclusiveLock); // the key has been dropped just now
    return relation;
}

AttrNumber check_distribution_column(Relation relation, const char *name) {
    const char *table = RelationGetRelationName(relation);
    AttrNumber number = get_attnum(RelationGetRelid(relation), name);
    if (number == InvalidAttrNumber)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                        errmsg("column \"%s\" of relation \"%s\" does not exist", name, table)));
    if (number < 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("system column \"%s\" cannot be the distribution column", name)));
    Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), number - 1);
    if (column->attgenerated != '\0')
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("generated column \"%s\" cannot be the distribution column", name),
                        errdetail("Its values are computed in the shards.")));
    Oid element = get_base_element_type(column->atttypid);
    if (type_is_enum(OidIsValid(element) ? element : getBaseType(column->atttypid)))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("column \"%s\" of type %s cannot be the distribution column", name,
                               format_type_be(column->atttypid)),
                        errdetail("The hash of an enum is that of its label's OID, which a dump "
                                  "and restore changes."),
                        errhint("Distribute by a column of type text, or another one.")));
    TypeCacheEntry *type = lookup_type_cache(column->atttypid, TYPECACHE_HASH_EXTENDED_PROC);
    if (!OidIsValid(type->hash_extended_proc))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                        errmsg("column \"%s\" of type %s cannot be the distribution column", name,
                               format_type_be(column->atttypid)),
                        errdetail("The type has no default hash operator class with an extended "
                                  "hash function."),
                        errhint("Choose a column whose values identify rows, such as the "
                                "primary key.")));
    return number;
}

void check_unique_index(Relation relation, Oid index_oid, AttrNumber column) {
    Relation index = relation_open(index_oid, AccessShareLock);
    Form_pg_index form = index->rd_index;
    const char *table = RelationGetRelationName(relation);
    const char *name = RelationGetRelationName(index);
    if (!form->indisvalid)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("index \"%s\" of table \"%s\" is invalid", name, table),
                        errhint("Drop it or rebuild it with REINDEX first.")));
    if (column == InvalidAttrNumber) { // all rows are in one place
        relation_close(index, NoLock);
        return;
    }
    if (form->indisexclusion)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("exclusion constraint \"%s\" of table \"%s\" is not supported on "
                               "distributed tables",
                               name, table),
                        errhint("A shard sees only its own rows. Drop the constraint.")));
    bool covers = !form->indisunique;
    for (int i = 0; i < form->indnkeyatts; i++)
        covers |= form->indkey.values[i] == column;
    if (!covers)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("%s \"%s\" of table \"%s\" does not include the distribution column",
                        form->indisprimary ? "primary key" : "unique index", name, table),
                 errdetail("A shard sees only its own rows, and equal values could be in "
                           "different shards."),
                 errhint("Make column \"%s\" part of it, or drop it.",
                         NameStr(TupleDescAttr(RelationGetDescr(relation), column - 1)->attname))));
    relation_close(index, NoLock);
}

void require_primary_key(Relation relation) {
    if (!OidIsValid(RelationGetPrimaryKeyIndex(relation)))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("a replication factor above 1 needs a primary key, which table "
                               "\"%s\" does not have",
                               RelationGetRelationName(relation)),
                        errhint("Add one that includes the distribution column, or use "
                                "replication_factor => 1.")));
}

void check_unique_constraints(Relation relation, AttrNumber column) {
    List *indexes = RelationGetIndexList(relation);
    ListCell *cell;
    foreach (cell, indexes)
        check_unique_index(relation, lfirst_oid(cell), column);
    list_free(indexes);
}

} // namespace panvel
