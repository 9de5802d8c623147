#include "coordinator/catalog/catalog.h"
#include "coordinator/ddl/ddl.h"

extern "C" {
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace panvel {

const DistributedTable *distributed_by_relid(Oid relid) {
    char kind = get_rel_relkind(relid);
    if (kind == RELKIND_INDEX)
        relid = IndexGetRelation(relid, true);
    else if (kind != RELKIND_RELATION)
        return nullptr;
    return OidIsValid(relid) ? find_distributed_table(relid) : nullptr;
}

const DistributedTable *distributed_target(const RangeVar *name) {
    if (name == nullptr)
        return nullptr;
    Oid relid = RangeVarGetRelid(name, NoLock, true);
    return OidIsValid(relid) ? distributed_by_relid(relid) : nullptr;
}

void refuse_on_table(Oid relid, const char *construct, const char *hint) {
    const char *name = get_rel_name(relid);
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("%s is not supported on distributed table \"%s\"", construct,
                           name != nullptr ? name : "?"),
                    errhint("%s", hint)));
    pg_unreachable();
}

List *all_distributed_tables() {
    List *relids = nullptr;
    CatalogScan scan =
        begin_catalog_scan(Catalog::kDistributedTable, AccessShareLock, nullptr, 0, nullptr);
    while (HeapTuple row = next_catalog_row(&scan))
        relids = lappend_oid(relids, DatumGetObjectId(catalog_value(&scan, row, kTableRelation)));
    end_catalog_scan(&scan);
    return relids;
}

namespace {

const char *const kBeforeHint = "Do this before panvel.create_distributed_table().";

void refuse_target(const RangeVar *name, const char *construct, const char *hint) {
    const DistributedTable *table = distributed_target(name);
    if (table != nullptr)
        refuse_on_table(table->relid, construct, hint);
}

void refuse_publication(List *objects) {
    ListCell *cell;
    foreach (cell, objects) {
        auto *object = static_cast<PublicationObjSpec *>(lfirst(cell));
        if (object->pubtable != nullptr)
            refuse_target(object->pubtable->relation, "logical replication",
                          "Publish the shards on their nodes.");
    }
}

void refuse_drop(const DropStmt *statement) {
    if (statement->removeType == OBJECT_EXTENSION) {
        ListCell *cell;
        foreach (cell, statement->objects)
            if (strcmp(strVal(lfirst(cell)), "panvel") == 0 && all_distributed_tables() != nullptr)
                ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                                errmsg("cannot drop extension panvel while there are distributed "
                                       "tables"),
                                errhint("Drop them first; the view panvel.tables lists them.")));
    }
}

} // namespace

void refuse_unsupported(Node *statement) {
    switch (nodeTag(statement)) {
    case T_RuleStmt:
        refuse_target(reinterpret_cast<RuleStmt *>(statement)->relation, "CREATE RULE",
                      "Put a view in front of the table.");
        break;
    case T_CreateTrigStmt: {
        auto *trigger = reinterpret_cast<CreateTrigStmt *>(statement);
        refuse_target(trigger->relation, "CREATE TRIGGER",
                      "Triggers on distributed tables are not supported.");
        refuse_target(trigger->constrrel, "CREATE CONSTRAINT TRIGGER",
                      "Triggers on distributed tables are not supported.");
        break;
    }
    case T_SecLabelStmt: {
        auto *label = reinterpret_cast<SecLabelStmt *>(statement);
        if (label->objtype == OBJECT_TABLE)
            refuse_target(makeRangeVarFromNameList(castNode(List, label->object)), "SECURITY LABEL",
                          kBeforeHint);
        break;
    }
    case T_CreatePublicationStmt:
        refuse_publication(reinterpret_cast<CreatePublicationStmt *>(statement)->pubobjects);
        break;
    case T_AlterPublicationStmt:
        refuse_publication(reinterpret_cast<AlterPublicationStmt *>(statement)->pubobjects);
        break;
    case T_DropStmt:
        refuse_drop(reinterpret_cast<DropStmt *>(statement));
        break;
    default:
        break;
    }
}

} // namespace panvel
