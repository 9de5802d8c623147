// The nodes' copies of objects: created where they are missing, compared where they are not,
// dropped when they go here. All in the distributed transaction of the statement that does it.
#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/metadata.h"
#include "coordinator/ddl/node_batch.h"
#include "coordinator/ddl/objects.h"
#include "coordinator/ddl/shard_ddl.h"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
}

namespace panvel {
namespace {

// ---------------------------------------------------------------- panvel.node_object

CatalogScan begin_scan_of(Oid object_id, LOCKMODE lockmode) {
    return begin_catalog_scan_oid(Catalog::kNodeObject, lockmode, "node_object_pkey", kNodeObjectId,
                                  object_id);
}

// Another session's statement that creates objects on the nodes, or alters one, is over.
void lock_objects(LOCKMODE lockmode) {
    LockRelationOid(catalog_oid(Catalog::kNode), ShareLock); // no node comes meanwhile
    LockRelationOid(catalog_oid(Catalog::kNodeObject), lockmode);
}

void record(const ObjectAddress *object) {
    Datum values[kNodeObjectColumns];
    values[kNodeObjectClass - 1] = ObjectIdGetDatum(object->classId);
    values[kNodeObjectId - 1] = ObjectIdGetDatum(object->objectId);
    Relation catalog = open_catalog(Catalog::kNodeObject, RowExclusiveLock);
    insert_catalog_row(catalog, values);
    table_close(catalog, NoLock);
}

// ---------------------------------------------------------------- asking and creating

// What one node has of one object.
struct Answer {
    const NeededObject *object;
    RemoteRequest *request;
};

List *ask_nodes(List *objects, List *node_ids) {
    List *answers = NIL;
    ListCell *cell;
    foreach (cell, objects) {
        auto *object = static_cast<NeededObject *>(lfirst(cell));
        RemoteStatement statement = {};
        statement.sql = definition_query(object);
        statement.effect = Effect::kReadOnce;
        ListCell *node;
        foreach (node, node_ids) {
            auto *answer = palloc_object(Answer);
            *answer = {object, remote_send(lfirst_int(node), &statement)};
            answers = lappend(answers, answer);
        }
    }
    return answers;
}

const char *description(const NeededObject *object) {
    return getObjectDescription(&object->address, false);
}

const char *needed_by(Relation relation) {
    return relation != nullptr
               ? psprintf("Table \"%s\" needs it.", RelationGetRelationName(relation))
               : "A distributed table needs it.";
}

[[noreturn]] void raise_missing(const Answer *answer, ErrorData *error, Relation relation) {
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("%s is not on node \"%s\"", description(answer->object),
                    get_node(remote_node(answer->request))->name),
             errdetail("%s The node says: %s", needed_by(relation), error->message),
             errhint("Objects of this kind are not created there automatically: create it, as a "
                     "superuser, with panvel.run_on_nodes().")));
    pg_unreachable();
}

bool is_same_definition(PGresult *theirs, List *ours) {
    if (PQntuples(theirs) != list_length(ours))
        return false;
    ListCell *cell;
    foreach (cell, ours)
        if (strcmp(PQgetvalue(theirs, foreach_current_index(cell), 0),
                   static_cast<char *>(lfirst(cell))) != 0)
            return false;
    return true;
}

[[noreturn]] void raise_different(const Answer *answer, PGresult *theirs, Relation relation) {
    ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
                    errmsg("%s is another one on node \"%s\"", description(answer->object),
                           get_node(remote_node(answer->request))->name),
                    errdetail("%s There it is: %s", needed_by(relation), PQgetvalue(theirs, 0, 0)),
                    errhint("Drop or rename it there, or make it equal.")));
    pg_unreachable();
}

// Whether the node has the object; an error where it has another one of the name, or none and
// should have.
bool has_object(const Answer *answer, Relation relation) {
    remote_wait_any(&answer->request, 1);
    ErrorData *error = remote_error(answer->request);
    if (error != nullptr && !answer->object->creatable && !is_node_failure(error->sqlerrcode))
        raise_missing(answer, error, relation);
    PGresult *theirs = remote_wait(answer->request);
    if (!answer->object->creatable)
        return true;
    if (PQntuples(theirs) == 0)
        return false;
    if (!is_same_definition(theirs, object_definition(answer->object)))
        raise_different(answer, theirs, relation);
    return true;
}

struct Creation {
    const NeededObject *object;
    RemoteRequest *request;
};

List *send_creation(List *creations, const NeededObject *object, int32 node_id) {
    List *commands = object_definition(object);
    if (commands == NIL)
        elog(ERROR, "%s has no definition", description(object));
    ObjectRow row;
    if (read_object(&object->address, &row))
        commands = list_concat(commands, object_rights_commands(&row));
    ListCell *cell;
    foreach (cell, commands) {
        RemoteStatement statement = {};
        statement.sql = static_cast<char *>(lfirst(cell));
        statement.effect = Effect::kWrite;
        auto *creation = palloc_object(Creation);
        *creation = {object, remote_send(node_id, &statement)};
        creations = lappend(creations, creation);
    }
    return creations;
}

char *hint_for(const NeededObject *object, int sqlstate) {
    if (sqlstate == ERRCODE_INSUFFICIENT_PRIVILEGE)
        return pstrdup("Have a superuser create it on all nodes first, with "
                       "panvel.run_on_nodes(), or do this as one.");
    if (object->address.classId == ProcedureRelationId)
        return pstrdup("Qualify what its body uses: nodes have search_path = pg_catalog.");
    if (object->address.classId == ExtensionRelationId)
        return pstrdup("Install the extension, in the coordinator's version, on every node.");
    return nullptr;
}

void finish_creation(const Creation *creation, Relation relation) {
    remote_wait_any(&creation->request, 1);
    ErrorData *error = remote_error(creation->request);
    if (error != nullptr && !is_node_failure(error->sqlerrcode)) {
        if (error->detail == nullptr)
            error->detail = psprintf("%s could not be created there. %s",
                                     description(creation->object), needed_by(relation));
        if (error->hint == nullptr)
            error->hint = hint_for(creation->object, error->sqlerrcode);
        ThrowErrorData(error);
    }
    remote_wait(creation->request);
    remote_release(creation->request);
}

void create_where_missing(List *objects, List *node_ids, Relation relation) {
    List *creations = NIL;
    ListCell *cell;
    foreach (cell, ask_nodes(objects, node_ids)) {
        auto *answer = static_cast<Answer *>(lfirst(cell));
        if (!has_object(answer, relation))
            creations = send_creation(creations, answer->object, remote_node(answer->request));
        remote_release(answer->request);
    }
    foreach (cell, creations)
        finish_creation(static_cast<Creation *>(lfirst(cell)), relation);
}

List *all_node_ids() {
    List *node_ids = NIL;
    ListCell *cell;
    foreach (cell, all_nodes())
        node_ids = lappend_int(node_ids, static_cast<ClusterNode *>(lfirst(cell))->node_id);
    return node_ids;
}

List *not_on_nodes(List *objects) {
    List *left = NIL;
    ListCell *cell;
    foreach (cell, objects) {
        auto *object = static_cast<NeededObject *>(lfirst(cell));
        if (!object->creatable || !is_on_nodes(object->address.classId, object->address.objectId))
            left = lappend(left, object);
    }
    return left;
}

} // namespace

bool is_on_nodes(Oid class_id, Oid object_id) {
    if (!OidIsValid(find_panvel_relation("node_object_pkey")))
        return false;
    CatalogScan scan = begin_scan_of(object_id, AccessShareLock);
    bool found = false;
    while (HeapTuple row = next_catalog_row(&scan))
        found |= DatumGetObjectId(catalog_value(&scan, row, kNodeObjectClass)) == class_id;
    end_catalog_scan(&scan);
    return found;
}

void create_on_nodes(List *objects, Relation relation) {
    if (not_on_nodes(objects) == NIL)
        return;
    lock_objects(ShareRowExclusiveLock);
    objects = not_on_nodes(objects); // what another session has created meanwhile
    create_where_missing(objects, all_node_ids(), relation);
    ListCell *cell;
    foreach (cell, objects)
        if (static_cast<NeededObject *>(lfirst(cell))->creatable)
            record(&static_cast<NeededObject *>(lfirst(cell))->address);
    CommandCounterIncrement();
}

List *all_node_objects() {
    List *objects = NIL;
    CatalogScan scan =
        begin_catalog_scan(Catalog::kNodeObject, AccessShareLock, nullptr, 0, nullptr);
    while (HeapTuple row = next_catalog_row(&scan)) {
        auto *address = palloc_object(ObjectAddress);
        ObjectAddressSet(*address, DatumGetObjectId(catalog_value(&scan, row, kNodeObjectClass)),
                         DatumGetObjectId(catalog_value(&scan, row, kNodeObjectId)));
        objects = lappend(objects, address);
    }
    end_catalog_scan(&scan);
    return objects;
}

void copy_objects_to_node(int32 node_id) {
    LockRelationOid(catalog_oid(Catalog::kNodeObject), ShareRowExclusiveLock);
    int level = enter_qualified_names();
    ListCell *cell;
    foreach (cell, all_node_objects())
        create_where_missing(objects_needed_by(static_cast<ObjectAddress *>(lfirst(cell))),
                             list_make1_int(node_id), nullptr);
    leave_qualified_names(level);
}

// ---------------------------------------------------------------- drops

namespace {

struct ObjectDrop {
    char *command;
    Oid type; // and that of its arrays; invalid for what is no type
    Oid array;
    List *attribute_types; // OIDs, of a composite type
    Oid composite;         // an attribute of this type goes first; invalid: an object
    SubTransactionId subtransaction;
};

// ObjectDrop *, in TopTransactionContext, in the order in which they go here: those that depend on
// others first, but for composite types, whose attributes' types may have gone before.
List *drops = NIL;

void transaction_ended(XactEvent event, void *) {
    if (event == XACT_EVENT_ABORT)
        drops = NIL;
}

void subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
                          void *) {
    ListCell *cell;
    foreach (cell, drops) {
        auto *drop = static_cast<ObjectDrop *>(lfirst(cell));
        if (drop->subtransaction != mine)
            continue;
        if (event == SUBXACT_EVENT_ABORT_SUB)
            drops = foreach_delete_current(drops, cell);
        else if (event == SUBXACT_EVENT_COMMIT_SUB)
            drop->subtransaction = parent;
    }
}

void forget(Oid class_id, Oid object_id) {
    CatalogScan scan = begin_scan_of(object_id, RowExclusiveLock);
    while (HeapTuple row = next_catalog_row(&scan))
        if (DatumGetObjectId(catalog_value(&scan, row, kNodeObjectClass)) == class_id)
            delete_catalog_row(&scan, row);
    end_catalog_scan(&scan);
}

void note_types(ObjectDrop *drop, Oid type) {
    drop->type = type;
    drop->array = get_array_type(type);
    if (get_typtype(type) != TYPTYPE_COMPOSITE)
        return;
    TupleDesc attributes = lookup_rowtype_tupdesc(type, -1);
    for (int i = 0; i < attributes->natts; i++)
        if (!TupleDescAttr(attributes, i)->attisdropped)
            drop->attribute_types =
                lappend_oid(drop->attribute_types, TupleDescAttr(attributes, i)->atttypid);
    ReleaseTupleDesc(attributes);
}

// The first that none of the other composite types has in an attribute.
ObjectDrop *next_drop(const List *left) {
    ListCell *cell;
    foreach (cell, left) {
        auto *drop = static_cast<ObjectDrop *>(lfirst(cell));
        bool needed = false;
        ListCell *other;
        foreach (other, left) {
            const List *types = static_cast<ObjectDrop *>(lfirst(other))->attribute_types;
            needed |= OidIsValid(drop->type) && lfirst(other) != drop &&
                      (list_member_oid(types, drop->type) || list_member_oid(types, drop->array));
        }
        if (!needed)
            return drop;
    }
    return static_cast<ObjectDrop *>(linitial(left));
}

// An attribute that goes because of its type, and before that.
void note_attribute_drop(Oid relid, AttrNumber number) {
    ObjectAddress address;
    ObjectAddressSet(address, TypeRelationId, get_rel_type_id(relid));
    ObjectRow row;
    if (!is_on_nodes(TypeRelationId, address.objectId) || !read_object(&address, &row))
        return;
    MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
    auto *drop = palloc0_object(ObjectDrop);
    drop->command = psprintf("ALTER TYPE %s DROP ATTRIBUTE IF EXISTS %s", object_name(&row),
                             quote_identifier(get_attname(relid, number, false)));
    drop->composite = address.objectId;
    drop->subtransaction = GetCurrentSubTransactionId();
    drops = lappend(drops, drop);
    MemoryContextSwitchTo(caller);
}

} // namespace

void note_object_drop(Oid class_id, Oid object_id, int sub_id) {
    if (class_id == RelationRelationId) { // a composite type's goes before the type
        if (get_rel_relkind(object_id) != RELKIND_COMPOSITE_TYPE)
            return;
        if (sub_id != 0) {
            note_attribute_drop(object_id, static_cast<AttrNumber>(sub_id));
            return;
        }
        class_id = TypeRelationId;
        object_id = get_rel_type_id(object_id);
    }
    if (sub_id != 0)
        return;
    if (!is_on_nodes(class_id, object_id))
        return;
    lock_objects(RowExclusiveLock);
    ObjectAddress address;
    ObjectAddressSet(address, class_id, object_id);
    ObjectRow row;
    int level = enter_qualified_names();
    MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
    if (read_object(&address, &row)) {
        auto *drop = palloc0_object(ObjectDrop);
        drop->command = psprintf("DROP %s IF EXISTS %s", row.kind, object_name(&row));
        drop->subtransaction = GetCurrentSubTransactionId();
        if (class_id == TypeRelationId)
            note_types(drop, object_id);
        drops = lappend(drops, drop);
    }
    MemoryContextSwitchTo(caller);
    leave_qualified_names(level);
    forget(class_id, object_id);
}

void flush_object_drops() {
    if (drops == NIL)
        return;
    List *flushed = drops;
    drops = NIL;
    NodeBatch batch;
    while (flushed != NIL) {
        ObjectDrop *drop = next_drop(flushed);
        flushed = list_delete_ptr(flushed, drop);
        // That of a type which stays has been altered: settle_objects() has said so.
        if (OidIsValid(drop->composite) &&
            SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(drop->composite)))
            continue;
        ListCell *node;
        foreach (node, all_node_ids())
            batch_send(&batch, lfirst_int(node), drop->command);
    }
    batch_finish(&batch);
}

void init_node_objects() {
    RegisterXactCallback(transaction_ended, nullptr);
    RegisterSubXactCallback(subtransaction_ended, nullptr);
}

} // namespace panvel
