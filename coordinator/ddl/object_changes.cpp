// Objects that the nodes have, altered: an image of each is taken before a statement that may alter
// one and after it, and the nodes are told the difference, as with tables (watch.h). So it does not
// matter what the statement was.
#include "coordinator/catalog/catalog.h"
#include "coordinator/catalog/metadata.h"
#include "coordinator/ddl/node_batch.h"
#include "coordinator/ddl/objects.h"
#include "coordinator/ddl/shard_ddl.h"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
}

namespace panvel {
namespace {

// A label of an enum, a constraint of a domain or an attribute of a composite type.
struct Part {
    const char *id;   // stays when the part is renamed
    const char *name; // quoted as where it is used
    const char *text; // its definition
    const char *key;  // changes when the definition does
};

struct ObjectState {
    NeededObject object;
    ObjectRow row;
    List *definition; // char *
    List *parts;      // Part *
};

// ---------------------------------------------------------------- images

// id, name, text and key of each part of type $1.
const char *const kLabels = "SELECT oid, quote_literal(enumlabel), '', '' "
                            "FROM pg_catalog.pg_enum WHERE enumtypid = %u ORDER BY enumsortorder";
const char *const kConstraints =
    "SELECT oid, quote_ident(conname), pg_get_constraintdef(oid), convalidated "
    "FROM pg_catalog.pg_constraint WHERE contypid = %u AND contype = 'c' ORDER BY conname";
const char *const kAttributes =
    "SELECT attnum, quote_ident(attname), format_type(atttypid, atttypmod) || coalesce("
    "(SELECT format(' COLLATE %%I.%%I', n.nspname, c.collname) FROM pg_catalog.pg_collation c "
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = attcollation), ''), "
    "format('%%s %%s %%s', atttypid, atttypmod, attcollation) "
    "FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_type t ON t.typrelid = attrelid "
    "WHERE t.oid = %u AND attnum > 0 AND NOT attisdropped ORDER BY attnum";

List *parts_of(Oid type) {
    char kind = get_typtype(type);
    if (kind != TYPTYPE_ENUM && kind != TYPTYPE_DOMAIN && kind != TYPTYPE_COMPOSITE)
        return NIL;
    const char *query = kind == TYPTYPE_ENUM     ? kLabels
                        : kind == TYPTYPE_DOMAIN ? kConstraints
                                                 : kAttributes;
    List *parts = NIL;
    ListCell *cell;
    foreach (cell, catalog_rows(psprintf(query, type))) {
        auto *row = static_cast<char **>(lfirst(cell));
        auto *part = palloc_object(Part);
        *part = {row[0], row[1], row[2], row[3]};
        parts = lappend(parts, part);
    }
    return parts;
}

// Null where the object is gone.
ObjectState *state_of(const ObjectAddress *object) {
    ObjectRow row;
    if (!read_object(object, &row))
        return nullptr;
    auto *state = palloc0_object(ObjectState);
    state->object.address = *object;
    state->object.creatable = true;
    state->row = row;
    if (object->classId == ProcedureRelationId)
        state->definition = object_definition(&state->object);
    if (object->classId == TypeRelationId)
        state->parts = parts_of(object->objectId);
    return state;
}

// ---------------------------------------------------------------- differences

struct Script {
    const ObjectState *before;
    const ObjectState *after;
    const char *target; // "DOMAIN app.positive", as it is called now
    List *commands;
};

void add(Script *script, char *command) {
    script->commands = lappend(script->commands, command);
}

const Part *find_part(const List *parts, const char *id) {
    ListCell *cell;
    foreach (cell, parts)
        if (strcmp(static_cast<Part *>(lfirst(cell))->id, id) == 0)
            return static_cast<Part *>(lfirst(cell));
    return nullptr;
}

// Calls use(before, after) for each part, with null on the side where it is not.
template <typename Use> void each_part(const Script *script, Use &&use) {
    ListCell *cell;
    foreach (cell, script->before->parts) {
        auto *part = static_cast<const Part *>(lfirst(cell));
        use(part, find_part(script->after->parts, part->id));
    }
    foreach (cell, script->after->parts) {
        auto *part = static_cast<const Part *>(lfirst(cell));
        if (find_part(script->before->parts, part->id) == nullptr)
            use(static_cast<const Part *>(nullptr), part);
    }
}

void rename_part(Script *script, const char *what, const Part *before, const Part *after) {
    if (strcmp(before->name, after->name) != 0)
        add(script, psprintf("ALTER %s RENAME %s %s TO %s", script->target, what, before->name,
                             after->name));
}

void alter_enum(Script *script) {
    each_part(script, [&](const Part *before, const Part *after) {
        if (before != nullptr && after != nullptr)
            rename_part(script, "VALUE", before, after);
    });
    List *labels = script->after->parts;
    for (int i = 0; i < list_length(labels); i++) {
        auto *label = static_cast<const Part *>(list_nth(labels, i));
        if (find_part(script->before->parts, label->id) != nullptr)
            continue;
        const char *place = "";
        if (i > 0)
            place = psprintf(" AFTER %s", static_cast<Part *>(list_nth(labels, i - 1))->name);
        else if (list_length(labels) > 1)
            place = psprintf(" BEFORE %s", static_cast<Part *>(list_nth(labels, 1))->name);
        add(script, psprintf("ALTER %s ADD VALUE %s%s", script->target, label->name, place));
    }
}

void alter_domain(Script *script) {
    if (script->before->row.not_null != script->after->row.not_null)
        add(script, psprintf("ALTER %s %s NOT NULL", script->target,
                             script->after->row.not_null ? "SET" : "DROP"));
    each_part(script, [&](const Part *before, const Part *after) {
        if (after == nullptr) {
            add(script, psprintf("ALTER %s DROP CONSTRAINT %s", script->target, before->name));
        } else if (before == nullptr) {
            add(script, psprintf("ALTER %s ADD CONSTRAINT %s %s", script->target, after->name,
                                 after->text));
        } else {
            rename_part(script, "CONSTRAINT", before, after);
            if (strcmp(before->key, after->key) != 0)
                add(script,
                    psprintf("ALTER %s VALIDATE CONSTRAINT %s", script->target, after->name));
        }
    });
}

void alter_composite(Script *script) {
    each_part(script, [&](const Part *before, const Part *after) {
        if (after == nullptr) {
            add(script, psprintf("ALTER %s DROP ATTRIBUTE %s", script->target, before->name));
        } else if (before == nullptr) {
            add(script,
                psprintf("ALTER %s ADD ATTRIBUTE %s %s", script->target, after->name, after->text));
        } else {
            rename_part(script, "ATTRIBUTE", before, after);
            if (strcmp(before->key, after->key) != 0)
                add(script, psprintf("ALTER %s ALTER ATTRIBUTE %s TYPE %s", script->target,
                                     after->name, after->text));
        }
    });
}

void alter_type(Script *script) {
    switch (get_typtype(script->after->object.address.objectId)) {
    case TYPTYPE_ENUM:
        alter_enum(script);
        break;
    case TYPTYPE_DOMAIN:
        alter_domain(script);
        break;
    case TYPTYPE_COMPOSITE:
        alter_composite(script);
        break;
    default: // a range cannot be altered
        break;
    }
}

bool row_changed(const Script *script) {
    return strcmp(script->before->row.version, script->after->row.version) != 0;
}

// What is as it was but for the name of a type it uses is the same on the nodes, too.
void redefine_function(Script *script) {
    char *before = static_cast<char *>(linitial(script->before->definition));
    char *after = static_cast<char *>(linitial(script->after->definition));
    if (row_changed(script) && strcmp(before, after) != 0)
        add(script, after);
}

void alter_definition(Script *script) {
    switch (script->after->object.address.classId) {
    case ProcedureRelationId:
        redefine_function(script);
        break;
    case ExtensionRelationId:
        if (row_changed(script))
            add(script, psprintf("ALTER %s UPDATE TO %s", script->target,
                                 quote_literal_cstr(script->after->row.version)));
        break;
    case TypeRelationId:
        alter_type(script);
        break;
    default:
        break;
    }
}

// Schemas come first: one that was renamed has its new name.
void rename_and_move(Script *script) {
    const ObjectRow *before = &script->before->row;
    const ObjectRow *after = &script->after->row;
    bool is_extension = script->after->object.address.classId == ExtensionRelationId;
    const char *schema =
        OidIsValid(before->schema) && !is_extension ? get_namespace_name(before->schema) : nullptr;
    ObjectRow old = *after; // with arguments' types as they are called now
    old.name = before->name;
    if (strcmp(before->name, after->name) != 0)
        add(script, psprintf("ALTER %s %s RENAME TO %s", after->kind, object_name(&old, schema),
                             quote_identifier(after->name)));
    if (before->schema != after->schema)
        add(script, psprintf("ALTER %s %s SET SCHEMA %s", after->kind, object_name(after, schema),
                             quote_identifier(get_namespace_name(after->schema))));
}

bool same_rights(const Acl *a, const Acl *b) {
    if ((a == nullptr) != (b == nullptr))
        return false;
    return a == nullptr || aclequal(a, b);
}

void alter_rights(Script *script) {
    const ObjectRow *before = &script->before->row;
    const ObjectRow *after = &script->after->row;
    if (before->owner != after->owner)
        add(script, psprintf("ALTER %s OWNER TO %s", script->target,
                             quote_identifier(GetUserNameFromId(after->owner, false))));
    else if (!same_rights(before->rights, after->rights))
        script->commands =
            list_concat(script->commands, object_grant_commands(after, before->rights));
}

List *change_commands(const ObjectState *before, const ObjectState *after) {
    Script script = {};
    script.before = before;
    script.after = after;
    script.target = psprintf("%s %s", after->row.kind, object_name(&after->row));
    rename_and_move(&script);
    alter_definition(&script);
    alter_rights(&script);
    return script.commands;
}

// ---------------------------------------------------------------- which statements

bool may_alter_objects(Node *statement) {
    switch (nodeTag(statement)) {
    case T_AlterTableStmt:
        return reinterpret_cast<AlterTableStmt *>(statement)->objtype == OBJECT_TYPE;
    case T_CreateFunctionStmt:
        return reinterpret_cast<CreateFunctionStmt *>(statement)->replace;
    case T_GrantStmt:
        return reinterpret_cast<GrantStmt *>(statement)->objtype != OBJECT_TABLE;
    case T_RenameStmt:
        return reinterpret_cast<RenameStmt *>(statement)->renameType != OBJECT_TABLE;
    case T_AlterEnumStmt:
    case T_AlterDomainStmt:
    case T_AlterTypeStmt:
    case T_AlterFunctionStmt:
    case T_AlterExtensionStmt:
    case T_AlterObjectSchemaStmt:
    case T_AlterOwnerStmt:
    case T_DropStmt: // a domain's constraint goes with its function
    case T_DropOwnedStmt:
    case T_ReassignOwnedStmt:
        return true;
    default:
        return false;
    }
}

// What others depend on first: schemas, extensions, collations, types, functions.
int rank(const ObjectState *state) {
    switch (state->object.address.classId) {
    case NamespaceRelationId:
        return 0;
    case ExtensionRelationId:
        return 1;
    case CollationRelationId:
        return 2;
    case TypeRelationId:
        return 3;
    default:
        return 4;
    }
}

int compare_ranks(const ListCell *a, const ListCell *b) {
    return rank(static_cast<ObjectState *>(lfirst(a))) -
           rank(static_cast<ObjectState *>(lfirst(b)));
}

void send_to_all_nodes(NodeBatch *batch, List *commands) {
    ListCell *cell;
    foreach (cell, commands) {
        ListCell *node;
        foreach (node, all_nodes())
            batch_send(batch, static_cast<ClusterNode *>(lfirst(node))->node_id,
                       static_cast<char *>(lfirst(cell)));
    }
}

} // namespace

List *objects_before(Node *statement) {
    // An extension's script alters nothing that is not the extension's.
    if (creating_extension || !may_alter_objects(statement))
        return NIL;
    List *objects = all_node_objects();
    if (objects == NIL)
        return NIL;
    LockRelationOid(catalog_oid(Catalog::kNode), ShareLock);
    LockRelationOid(catalog_oid(Catalog::kNodeObject), RowExclusiveLock);
    List *states = NIL;
    int level = enter_qualified_names();
    ListCell *cell;
    foreach (cell, all_node_objects())
        if (ObjectState *state = state_of(static_cast<ObjectAddress *>(lfirst(cell))))
            states = lappend(states, state);
    leave_qualified_names(level);
    list_sort(states, compare_ranks);
    return states;
}

void settle_objects(List *before) {
    if (before == NIL)
        return;
    CommandCounterIncrement();
    int level = enter_qualified_names();
    NodeBatch batch;
    ListCell *cell;
    foreach (cell, before) {
        auto *old = static_cast<ObjectState *>(lfirst(cell));
        ObjectState *now = state_of(&old->object.address);
        if (now == nullptr) // dropped
            continue;
        List *commands = change_commands(old, now);
        if (commands == NIL)
            continue;
        create_on_nodes(objects_needed_by(&old->object.address), nullptr);
        send_to_all_nodes(&batch, commands);
    }
    batch_finish(&batch);
    leave_qualified_names(level);
}

} // namespace panvel
