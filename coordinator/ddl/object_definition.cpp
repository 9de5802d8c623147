// What an object is, as the statements that create it. The same query over the catalogs is asked
// here and on the nodes, which run the same major version, so that equal objects give equal
// answers.
#include "coordinator/ddl/objects.h"

#include "coordinator/ddl/shard_ddl.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

// ---------------------------------------------------------------- the catalog row of an object

Acl *copied_acl(int cache, HeapTuple tuple, AttrNumber column) {
    bool isnull;
    Datum acl = SysCacheGetAttr(cache, tuple, column, &isnull);
    return isnull ? nullptr : DatumGetAclPCopy(acl);
}

void read_type(ObjectRow *row, HeapTuple tuple) {
    auto *form = reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple));
    row->kind = form->typtype == TYPTYPE_DOMAIN ? "DOMAIN" : "TYPE";
    row->schema = form->typnamespace;
    row->name = pstrdup(NameStr(form->typname));
    row->owner = form->typowner;
    row->rights = copied_acl(TYPEOID, tuple, Anum_pg_type_typacl);
    row->not_null = form->typnotnull;
}

void read_function(ObjectRow *row, HeapTuple tuple) {
    auto *form = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    row->kind = form->prokind == PROKIND_PROCEDURE ? "PROCEDURE" : "FUNCTION";
    row->schema = form->pronamespace;
    row->name = pstrdup(NameStr(form->proname));
    row->arguments = psprintf("(%s)", TextDatumGetCString(DirectFunctionCall1(
                                          oidvectortypes, PointerGetDatum(&form->proargtypes))));
    row->owner = form->proowner;
    row->rights = copied_acl(PROCOID, tuple, Anum_pg_proc_proacl);
}

void read_collation(ObjectRow *row, HeapTuple tuple) {
    auto *form = reinterpret_cast<Form_pg_collation>(GETSTRUCT(tuple));
    row->kind = "COLLATION";
    row->schema = form->collnamespace;
    row->name = pstrdup(NameStr(form->collname));
    row->owner = form->collowner;
}

void read_schema(ObjectRow *row, HeapTuple tuple) {
    auto *form = reinterpret_cast<Form_pg_namespace>(GETSTRUCT(tuple));
    row->kind = "SCHEMA";
    row->name = pstrdup(NameStr(form->nspname));
    row->owner = form->nspowner;
    row->rights = copied_acl(NAMESPACEOID, tuple, Anum_pg_namespace_nspacl);
}

bool read_extension(Oid oid, ObjectRow *row) {
    Relation extensions = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
    SysScanDesc scan = systable_beginscan(extensions, ExtensionOidIndexId, true, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    bool found = HeapTupleIsValid(tuple);
    if (found) {
        auto *form = reinterpret_cast<Form_pg_extension>(GETSTRUCT(tuple));
        bool isnull;
        row->kind = "EXTENSION";
        row->schema = form->extnamespace;
        row->name = pstrdup(NameStr(form->extname));
        row->version = TextDatumGetCString(heap_getattr(tuple, Anum_pg_extension_extversion,
                                                        RelationGetDescr(extensions), &isnull));
    }
    systable_endscan(scan);
    table_close(extensions, AccessShareLock);
    return found;
}

// ---------------------------------------------------------------- queries for definitions

// Each goes on from "WITH wanted(schema, name, arguments) AS (VALUES (...))".

// A domain's constraints that are not valid cannot come with CREATE DOMAIN.
const char *const kTypeQuery =
    ", type AS ("
    " SELECT t.*, n.nspname FROM wanted, pg_catalog.pg_type t"
    " JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace"
    " WHERE n.nspname = wanted.schema AND t.typname = wanted.name) "
    "SELECT statement FROM ("
    " SELECT 0 AS step, '' AS part, CASE typtype"
    "  WHEN 'e' THEN format('CREATE TYPE %I.%I AS ENUM (%s)', nspname, typname,"
    "   (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)"
    "    FROM pg_catalog.pg_enum WHERE enumtypid = type.oid))"
    "  WHEN 'd' THEN format('CREATE DOMAIN %I.%I AS %s%s%s%s', nspname, typname,"
    "   format_type(typbasetype, typtypmod),"
    "   (SELECT format(' COLLATE %I.%I', cn.nspname, c.collname)"
    "    FROM pg_catalog.pg_collation c"
    "    JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace"
    "    JOIN pg_catalog.pg_type base ON base.oid = type.typbasetype"
    "    WHERE c.oid = type.typcollation AND c.oid <> base.typcollation),"
    "   CASE WHEN typnotnull THEN ' NOT NULL' END,"
    "   (SELECT string_agg(format(' CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)), ''"
    "     ORDER BY conname)"
    "    FROM pg_catalog.pg_constraint WHERE contypid = type.oid AND contype = 'c'"
    "    AND convalidated))"
    "  WHEN 'c' THEN format('CREATE TYPE %I.%I AS (%s)', nspname, typname,"
    "   (SELECT string_agg(format('%I %s%s', attname, format_type(atttypid, atttypmod),"
    "     (SELECT format(' COLLATE %I.%I', cn.nspname, c.collname)"
    "      FROM pg_catalog.pg_collation c"
    "      JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace"
    "      JOIN pg_catalog.pg_type t ON t.oid = atttypid"
    "      WHERE c.oid = attcollation AND c.oid <> t.typcollation)), ', ' ORDER BY attnum)"
    "    FROM pg_catalog.pg_attribute"
    "    WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped))"
    "  WHEN 'r' THEN (SELECT format('CREATE TYPE %I.%I AS RANGE (SUBTYPE = %s, "
    "SUBTYPE_OPCLASS = %I.%I, MULTIRANGE_TYPE_NAME = %I.%I%s%s)', type.nspname, type.typname,"
    "    format_type(rngsubtype, NULL), opn.nspname, opcname, mn.nspname, m.typname,"
    "    (SELECT format(', COLLATION = %I.%I', cn.nspname, c.collname)"
    "     FROM pg_catalog.pg_collation c"
    "     JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace WHERE c.oid = rngcollation),"
    "    (SELECT format(', SUBTYPE_DIFF = %I.%I', fn.nspname, f.proname)"
    "     FROM pg_catalog.pg_proc f"
    "     JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace WHERE f.oid = rngsubdiff))"
    "   FROM pg_catalog.pg_range"
    "   JOIN pg_catalog.pg_opclass o ON o.oid = rngsubopc"
    "   JOIN pg_catalog.pg_namespace opn ON opn.oid = o.opcnamespace"
    "   JOIN pg_catalog.pg_type m ON m.oid = rngmultitypid"
    "   JOIN pg_catalog.pg_namespace mn ON mn.oid = m.typnamespace"
    "   WHERE rngtypid = type.oid)"
    "  ELSE format('another kind of type: %s', typtype) END AS statement FROM type"
    " UNION ALL"
    " SELECT 1, conname, format('ALTER DOMAIN %I.%I ADD CONSTRAINT %I %s', nspname, typname,"
    "  conname, pg_get_constraintdef(c.oid))"
    " FROM type JOIN pg_catalog.pg_constraint c ON contypid = type.oid"
    " WHERE contype = 'c' AND NOT convalidated) statements ORDER BY step, part";

const char *const kFunctionQuery =
    " SELECT pg_get_functiondef(p.oid) FROM wanted, pg_catalog.pg_proc p"
    " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " WHERE n.nspname = wanted.schema AND p.proname = wanted.name"
    " AND '(' || oidvectortypes(p.proargtypes) || ')' = wanted.arguments"
    " AND prokind IN ('f', 'p')";

// The locale of an ICU collation is in columns of different names in PostgreSQL 15 and 17.
const char *const kCollationQuery =
    " SELECT format('CREATE COLLATION %I.%I (PROVIDER = %s, DETERMINISTIC = %s, %s)',"
    " nspname, collname,"
    " CASE collprovider WHEN 'i' THEN 'icu' WHEN 'c' THEN 'libc' ELSE 'builtin' END,"
    " CASE WHEN collisdeterministic THEN 'true' ELSE 'false' END,"
    " coalesce(format('LOCALE = %L', to_jsonb(c) ->> 'colliculocale'),"
    "  format('LOCALE = %L', to_jsonb(c) ->> 'colllocale'),"
    "  format('LC_COLLATE = %L, LC_CTYPE = %L', collcollate, collctype)))"
    " FROM wanted, pg_catalog.pg_collation c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace"
    " WHERE n.nspname = wanted.schema AND c.collname = wanted.name AND c.collencoding IN (-1,"
    " (SELECT encoding FROM pg_catalog.pg_database WHERE datname = current_database()))";

const char *const kSchemaQuery =
    " SELECT format('CREATE SCHEMA %I', nspname)"
    " FROM wanted, pg_catalog.pg_namespace WHERE nspname = wanted.name";

const char *const kExtensionQuery =
    " SELECT format('CREATE EXTENSION %I SCHEMA %I VERSION %L', extname, nspname, extversion)"
    " FROM wanted, pg_catalog.pg_extension e"
    " JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE extname = wanted.name";

const char *query_of_class(Oid class_id) {
    switch (class_id) {
    case TypeRelationId:
        return kTypeQuery;
    case ProcedureRelationId:
        return kFunctionQuery;
    case CollationRelationId:
        return kCollationQuery;
    case NamespaceRelationId:
        return kSchemaQuery;
    case ExtensionRelationId:
        return kExtensionQuery;
    default:
        elog(ERROR, "objects of catalog %u cannot be created on nodes", class_id);
    }
}

char *text_array(List *texts) {
    StringInfoData array;
    initStringInfo(&array);
    appendStringInfoString(&array, "ARRAY[");
    ListCell *cell;
    foreach (cell, texts)
        appendStringInfo(&array, "%s%s", foreach_current_index(cell) > 0 ? ", " : "",
                         quote_literal_cstr(static_cast<char *>(lfirst(cell))));
    appendStringInfoString(&array, "]::pg_catalog.text[]");
    return array.data;
}

// A row with the object's description where there is such an object, else an error.
char *existence_query(const ObjectAddress *object) {
    List *names = NIL;
    List *arguments = NIL;
    (void)getObjectIdentityParts(object, &names, &arguments, false);
    return psprintf("SELECT pg_catalog.pg_describe_object(classid, objid, objsubid) "
                    "FROM pg_catalog.pg_get_object_address(%s, %s, %s)",
                    quote_literal_cstr(getObjectTypeDescription(object, false)), text_array(names),
                    text_array(arguments));
}

} // namespace

List *catalog_rows(const char *sql) {
    MemoryContext caller = CurrentMemoryContext;
    List *rows = NIL;
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "SPI_connect failed");
    SPIPlanPtr plan = SPI_prepare(sql, 0, nullptr);
    if (plan == nullptr)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    int result =
        SPI_execute_snapshot(plan, nullptr, nullptr, snapshot, InvalidSnapshot, true, false, 0);
    if (result != SPI_OK_SELECT)
        elog(ERROR, "a query over the catalogs failed: %s", SPI_result_code_string(result));
    MemoryContext spi = MemoryContextSwitchTo(caller);
    for (uint64 i = 0; i < SPI_processed; i++) {
        int columns = SPI_tuptable->tupdesc->natts;
        auto *row = palloc0_array(char *, columns);
        for (int j = 0; j < columns; j++) {
            char *text = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, j + 1);
            row[j] = text != nullptr ? pstrdup(text) : nullptr;
        }
        rows = lappend(rows, row);
    }
    MemoryContextSwitchTo(spi);
    UnregisterSnapshot(snapshot);
    SPI_finish();
    MemoryContextSwitchTo(caller);
    return rows;
}

bool read_object(const ObjectAddress *object, ObjectRow *row) {
    struct {
        Oid class_id;
        int cache;
        void (*read)(ObjectRow *, HeapTuple);
    } classes[] = {
        {TypeRelationId, TYPEOID, read_type},
        {ProcedureRelationId, PROCOID, read_function},
        {CollationRelationId, COLLOID, read_collation},
        {NamespaceRelationId, NAMESPACEOID, read_schema},
    };
    *row = {};
    row->arguments = "";
    if (object->classId == ExtensionRelationId)
        return read_extension(object->objectId, row);
    for (const auto &known : classes) {
        if (known.class_id != object->classId)
            continue;
        HeapTuple tuple = SearchSysCache1(known.cache, ObjectIdGetDatum(object->objectId));
        if (!HeapTupleIsValid(tuple))
            return false;
        known.read(row, tuple);
        row->version = psprintf("%u/%u/%u", ItemPointerGetBlockNumber(&tuple->t_self),
                                ItemPointerGetOffsetNumber(&tuple->t_self),
                                HeapTupleHeaderGetRawXmin(tuple->t_data));
        ReleaseSysCache(tuple);
        return true;
    }
    elog(ERROR, "objects of catalog %u cannot be created on nodes", object->classId);
}

char *object_name(const ObjectRow *row, const char *schema) {
    return psprintf("%s%s",
                    schema != nullptr ? quote_qualified_identifier(schema, row->name)
                                      : quote_identifier(row->name),
                    row->arguments);
}

char *object_name(const ObjectRow *row) {
    bool qualified = OidIsValid(row->schema) && strcmp(row->kind, "EXTENSION") != 0;
    return object_name(row, qualified ? get_namespace_name(row->schema) : nullptr);
}

char *definition_query(const NeededObject *object) {
    if (!object->creatable)
        return existence_query(&object->address);
    ObjectRow row;
    if (!read_object(&object->address, &row))
        elog(ERROR, "object %u of catalog %u is gone", object->address.objectId,
             object->address.classId);
    return psprintf(
        "WITH wanted(schema, name, arguments) AS (VALUES (%s, %s, %s))%s",
        quote_literal_cstr(OidIsValid(row.schema) ? get_namespace_name(row.schema) : ""),
        quote_literal_cstr(row.name), quote_literal_cstr(row.arguments),
        query_of_class(object->address.classId));
}

List *object_definition(const NeededObject *object) {
    List *statements = NIL;
    ListCell *cell;
    foreach (cell, catalog_rows(definition_query(object)))
        statements = lappend(statements, static_cast<char **>(lfirst(cell))[0]);
    return statements;
}

// ---------------------------------------------------------------- owner and rights

namespace {

struct Privilege {
    AclMode mode;
    const char *name;
};
constexpr Privilege kPrivileges[] = {
    {ACL_USAGE, "USAGE"},
    {ACL_CREATE, "CREATE"},
    {ACL_EXECUTE, "EXECUTE"},
};

char *grantee_name(Oid role) {
    return role == ACL_ID_PUBLIC ? pstrdup("PUBLIC")
                                 : pstrdup(quote_identifier(GetUserNameFromId(role, false)));
}

// "USAGE, CREATE" of the modes; null for none.
char *privilege_list(AclMode modes) {
    StringInfoData list;
    initStringInfo(&list);
    for (const Privilege &privilege : kPrivileges)
        if ((modes & privilege.mode) != 0)
            appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", privilege.name);
    return list.len > 0 ? list.data : nullptr;
}

} // namespace

List *object_grant_commands(const ObjectRow *row, const Acl *before) {
    const char *target = psprintf("%s %s", row->kind, object_name(row));
    StringInfoData had;
    initStringInfo(&had);
    appendStringInfoString(&had, "PUBLIC");
    for (int i = 0; before != nullptr && i < ACL_NUM(before); i++) {
        Oid grantee = ACL_DAT(before)[i].ai_grantee;
        if (grantee != ACL_ID_PUBLIC && grantee != row->owner)
            appendStringInfo(&had, ", %s", grantee_name(grantee));
    }
    List *commands = list_make1(psprintf("REVOKE ALL ON %s FROM %s CASCADE", target, had.data));
    const Acl *rights = row->rights;
    if (rights == nullptr)
        rights = acldefault(strcmp(row->kind, "SCHEMA") == 0 ? OBJECT_SCHEMA
                            : row->arguments[0] != '\0'      ? OBJECT_FUNCTION
                                                             : OBJECT_TYPE,
                            row->owner);
    for (int i = 0; i < ACL_NUM(rights); i++) {
        const AclItem *item = &ACL_DAT(rights)[i];
        if (item->ai_grantee == row->owner)
            continue;
        AclMode grantable = ACLITEM_GET_GOPTIONS(*item);
        AclMode plain = ACLITEM_GET_PRIVS(*item) & ~grantable;
        const char *grantee = grantee_name(item->ai_grantee);
        if (const char *list = privilege_list(plain))
            commands = lappend(commands, psprintf("GRANT %s ON %s TO %s", list, target, grantee));
        if (const char *list = privilege_list(grantable))
            commands = lappend(commands, psprintf("GRANT %s ON %s TO %s WITH GRANT OPTION", list,
                                                  target, grantee));
    }
    return commands;
}

List *object_rights_commands(const ObjectRow *row) {
    List *commands = NIL;
    if (row->rights != nullptr)
        commands = object_grant_commands(row, nullptr);
    if (OidIsValid(row->owner) && row->owner != GetUserId())
        commands =
            lappend(commands, psprintf("ALTER %s %s OWNER TO %s", row->kind, object_name(row),
                                       quote_identifier(GetUserNameFromId(row->owner, false))));
    return commands;
}

} // namespace panvel
