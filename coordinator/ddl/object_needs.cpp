// What a table needs on its nodes: PostgreSQL's own record of dependencies, followed from the parts
// of the table that shards have.
#include "coordinator/ddl/objects.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_range.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

struct Walk {
    const char *user; // what needs the objects, for messages
    List *visited;    // ObjectAddress *
    List *found;      // NeededObject *, each after what it needs
};

void visit(Walk *walk, Oid class_id, Oid object_id);

// Calls use(row) for the rows of `catalog` whose `column` is `oid`.
template <typename Use>
void each_row(Oid catalog, Oid index, AttrNumber column, Oid oid, Use &&use) {
    Relation relation = table_open(catalog, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
    SysScanDesc scan = systable_beginscan(relation, index, OidIsValid(index), nullptr, 1, &key);
    HeapTuple row;
    while (HeapTupleIsValid(row = systable_getnext(scan)))
        use(row);
    systable_endscan(scan);
    table_close(relation, AccessShareLock);
}

// Calls use(class, object) for all that the object, or a column of it, refers to.
template <typename Use> void each_reference(Oid class_id, Oid object_id, Use &&use) {
    Relation depend = table_open(DependRelationId, AccessShareLock);
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(class_id));
    ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(object_id));
    SysScanDesc scan = systable_beginscan(depend, DependDependerIndexId, true, nullptr, 2, keys);
    HeapTuple row;
    while (HeapTupleIsValid(row = systable_getnext(scan))) {
        auto *form = reinterpret_cast<Form_pg_depend>(GETSTRUCT(row));
        use(form->refclassid, form->refobjid);
    }
    systable_endscan(scan);
    table_close(depend, AccessShareLock);
}

void visit_references(Walk *walk, Oid class_id, Oid object_id) {
    each_reference(class_id, object_id,
                   [&](Oid class_of, Oid referenced) { visit(walk, class_of, referenced); });
}

bool is_shell_method(Oid class_id, Oid object_id) {
    return class_id == AccessMethodRelationId && object_id == get_table_am_oid("panvel", true);
}

// Of a part of the table: its own schema and other relations are no need, as shards have schemas of
// their own and what may refer to a relation (a foreign key) is checked elsewhere; nor is a shell's
// access method.
void visit_part(Walk *walk, Oid class_id, Oid object_id) {
    each_reference(class_id, object_id, [&](Oid class_of, Oid referenced) {
        if (class_of != RelationRelationId && class_of != NamespaceRelationId &&
            class_of != ConstraintRelationId && !is_shell_method(class_of, referenced))
            visit(walk, class_of, referenced);
    });
}

void add(Walk *walk, Oid class_id, Oid object_id, bool creatable) {
    auto *object = palloc0_object(NeededObject);
    ObjectAddressSet(object->address, class_id, object_id);
    object->creatable = creatable;
    walk->found = lappend(walk->found, object);
}

bool is_first_visit(Walk *walk, Oid class_id, Oid object_id) {
    ListCell *cell;
    foreach (cell, walk->visited) {
        auto *known = static_cast<ObjectAddress *>(lfirst(cell));
        if (known->classId == class_id && known->objectId == object_id)
            return false;
    }
    auto *address = palloc_object(ObjectAddress);
    ObjectAddressSet(*address, class_id, object_id);
    walk->visited = lappend(walk->visited, address);
    return true;
}

[[noreturn]] void refuse(const Walk *walk, Oid class_id, Oid object_id, const char *hint) {
    ObjectAddress address;
    ObjectAddressSet(address, class_id, object_id);
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("%s needs %s, which the nodes cannot have", walk->user,
                           getObjectDescription(&address, false)),
                    errhint("%s", hint)));
    pg_unreachable();
}

void visit_extension(Walk *walk, Oid extension) {
    const char *name = get_extension_name(extension);
    if (name != nullptr && strcmp(name, "vector") == 0) // add_node() sees to it
        return;
    if (name != nullptr && strcmp(name, "panvel") == 0)
        refuse(walk, ExtensionRelationId, extension, "It belongs on the coordinator alone.");
    visit_references(walk, ExtensionRelationId, extension);
    add(walk, ExtensionRelationId, extension, true);
}

void visit_domain_constraints(Walk *walk, Oid domain) {
    each_row(ConstraintRelationId, ConstraintTypidIndexId, Anum_pg_constraint_contypid, domain,
             [&](HeapTuple row) {
                 visit_references(walk, ConstraintRelationId,
                                  reinterpret_cast<Form_pg_constraint>(GETSTRUCT(row))->oid);
             });
}

bool has_canonical_function(Oid range) {
    HeapTuple tuple = SearchSysCache1(RANGETYPE, ObjectIdGetDatum(range));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for range type %u", range);
    bool has = OidIsValid(reinterpret_cast<Form_pg_range>(GETSTRUCT(tuple))->rngcanonical);
    ReleaseSysCache(tuple);
    return has;
}

void visit_type(Walk *walk, Oid type) {
    Oid element = get_element_type(type);
    if (OidIsValid(element)) {
        visit(walk, TypeRelationId, element);
        return;
    }
    bool creatable = true;
    switch (get_typtype(type)) {
    case TYPTYPE_COMPOSITE: {
        Oid relation = get_typ_typrelid(type);
        if (get_rel_relkind(relation) != RELKIND_COMPOSITE_TYPE)
            refuse(walk, TypeRelationId, type,
                   "It is the row type of a table: make a composite type with CREATE TYPE.");
        visit_references(walk, RelationRelationId, relation); // types of its attributes
        visit_references(walk, TypeRelationId, type);
        break;
    }
    case TYPTYPE_DOMAIN:
        visit_references(walk, TypeRelationId, type);
        visit_domain_constraints(walk, type);
        break;
    case TYPTYPE_ENUM:
        visit_references(walk, TypeRelationId, type);
        break;
    case TYPTYPE_MULTIRANGE:
        visit(walk, TypeRelationId, get_multirange_range(type));
        return;
    case TYPTYPE_RANGE:
        // A canonical function takes the range that needs it.
        creatable = !has_canonical_function(type);
        if (creatable)
            visit_references(walk, TypeRelationId, type);
        break;
    default: // a base type's functions are in a library
        creatable = false;
        break;
    }
    add(walk, TypeRelationId, type, creatable);
}

void visit_function(Walk *walk, Oid function) {
    char kind = get_func_prokind(function);
    bool creatable = kind == PROKIND_FUNCTION || kind == PROKIND_PROCEDURE;
    if (creatable)
        visit_references(walk, ProcedureRelationId, function);
    add(walk, ProcedureRelationId, function, creatable);
}

void visit_relation(Walk *walk, Oid relation) {
    if (get_rel_relkind(relation) == RELKIND_COMPOSITE_TYPE) // its type leads here
        return;
    refuse(walk, RelationRelationId, relation,
           "The nodes have the shards of tables, but not the tables, views and sequences of the "
           "coordinator.");
}

void visit(Walk *walk, Oid class_id, Oid object_id) {
    if (object_id < FirstNormalObjectId || !is_first_visit(walk, class_id, object_id))
        return;
    if (class_id == ExtensionRelationId) {
        visit_extension(walk, object_id);
        return;
    }
    Oid extension = getExtensionOfObject(class_id, object_id);
    if (OidIsValid(extension)) {
        visit(walk, ExtensionRelationId, extension);
        return;
    }
    switch (class_id) {
    case TypeRelationId:
        visit_type(walk, object_id);
        break;
    case ProcedureRelationId:
        visit_function(walk, object_id);
        break;
    case CollationRelationId:
        visit_references(walk, class_id, object_id);
        add(walk, class_id, object_id, true);
        break;
    case NamespaceRelationId:
        if (isAnyTempNamespace(object_id))
            refuse(walk, class_id, object_id, "Temporary objects end with their session.");
        add(walk, class_id, object_id, true);
        break;
    case RelationRelationId:
        visit_relation(walk, object_id);
        break;
    case ConstraintRelationId: // of what was visited
        break;
    default: // operators, operator classes, languages, text search configurations ...
        add(walk, class_id, object_id, false);
        break;
    }
}

void visit_constraints(Walk *walk, Oid relid) {
    each_row(ConstraintRelationId, ConstraintRelidTypidNameIndexId, Anum_pg_constraint_conrelid,
             relid, [&](HeapTuple row) {
                 auto *form = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(row));
                 if (form->contype != CONSTRAINT_FOREIGN)
                     visit_part(walk, ConstraintRelationId, form->oid);
             });
}

// Other defaults are the coordinator's to compute.
void visit_generation_expressions(Walk *walk, Relation relation) {
    TupleDesc columns = RelationGetDescr(relation);
    each_row(AttrDefaultRelationId, AttrDefaultIndexId, Anum_pg_attrdef_adrelid,
             RelationGetRelid(relation), [&](HeapTuple row) {
                 auto *form = reinterpret_cast<Form_pg_attrdef>(GETSTRUCT(row));
                 if (TupleDescAttr(columns, form->adnum - 1)->attgenerated != '\0')
                     visit_part(walk, AttrDefaultRelationId, form->oid);
             });
}

} // namespace

List *objects_needed_by_table(Relation relation) {
    Oid relid = RelationGetRelid(relation);
    Walk walk = {psprintf("table \"%s\"", RelationGetRelationName(relation)), NIL, NIL};
    visit_part(&walk, RelationRelationId, relid);
    visit_constraints(&walk, relid);
    visit_generation_expressions(&walk, relation);
    ListCell *cell;
    foreach (cell, RelationGetIndexList(relation))
        visit_part(&walk, RelationRelationId, lfirst_oid(cell));
    each_row(PolicyRelationId, PolicyPolrelidPolnameIndexId, Anum_pg_policy_polrelid, relid,
             [&](HeapTuple row) {
                 visit_part(&walk, PolicyRelationId,
                            reinterpret_cast<Form_pg_policy>(GETSTRUCT(row))->oid);
             });
    each_row(StatisticExtRelationId, StatisticExtRelidIndexId, Anum_pg_statistic_ext_stxrelid,
             relid, [&](HeapTuple row) {
                 visit_part(&walk, StatisticExtRelationId,
                            reinterpret_cast<Form_pg_statistic_ext>(GETSTRUCT(row))->oid);
             });
    return walk.found;
}

List *objects_needed_by(const ObjectAddress *object) {
    Walk walk = {getObjectDescription(object, false), NIL, NIL};
    visit(&walk, object->classId, object->objectId);
    return walk.found;
}

} // namespace panvel
