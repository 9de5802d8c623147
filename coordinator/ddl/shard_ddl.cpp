#include "coordinator/ddl/shard_ddl.h"

#include "extension/pg/boundary.h"

extern "C" {
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/toast_compression.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
}

namespace panvel {

int enter_qualified_names() {
    int level = NewGUCNestLevel();
    set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                      true, 0, false);
    return level;
}

void leave_qualified_names(int level) {
    AtEOXact_GUC(true, level);
}

namespace {

char *shard_name(Relation relation, const char *schema) {
    return quote_qualified_identifier(schema, RelationGetRelationName(relation));
}

char *qualified_collation(Oid collation) {
    HeapTuple tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for collation %u", collation);
    auto *form = reinterpret_cast<Form_pg_collation>(GETSTRUCT(tuple));
    char *name = quote_qualified_identifier(get_namespace_name(form->collnamespace),
                                            NameStr(form->collname));
    ReleaseSysCache(tuple);
    return name;
}

char *generation_expression(Relation relation, AttrNumber column) {
    Node *expression = build_column_default(relation, column);
    if (expression == nullptr)
        elog(ERROR, "generated column %d of \"%s\" has no expression", column,
             RelationGetRelationName(relation));
    List *context =
        deparse_context_for(RelationGetRelationName(relation), RelationGetRelid(relation));
    return deparse_expression(expression, context, false, false);
}

void append_column(StringInfo sql, Relation relation, Form_pg_attribute column) {
    appendStringInfo(sql, "%s %s", quote_identifier(NameStr(column->attname)),
                     format_type_extended(column->atttypid, column->atttypmod,
                                          FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
    if (CompressionMethodIsValid(column->attcompression))
        appendStringInfo(sql, " COMPRESSION %s", GetCompressionMethodName(column->attcompression));
    if (OidIsValid(column->attcollation) &&
        column->attcollation != get_typcollation(column->atttypid))
        appendStringInfo(sql, " COLLATE %s", qualified_collation(column->attcollation));
    if (column->attgenerated == ATTRIBUTE_GENERATED_STORED)
        appendStringInfo(sql, " GENERATED ALWAYS AS (%s) STORED",
                         generation_expression(relation, column->attnum));
    if (column->attnotnull)
        appendStringInfoString(sql, " NOT NULL");
}

char *text_of(Datum value) {
    return TextDatumGetCString(value);
}

void append_check_constraints(StringInfo sql, Relation relation) {
    Relation constraints = table_open(ConstraintRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_constraint_conrelid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(RelationGetRelid(relation)));
    SysScanDesc scan =
        systable_beginscan(constraints, ConstraintRelidTypidNameIndexId, true, nullptr, 1, &key);
    HeapTuple row;
    while (HeapTupleIsValid(row = systable_getnext(scan))) {
        auto *form = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(row));
        if (form->contype != CONSTRAINT_CHECK)
            continue;
        appendStringInfo(
            sql, ", CONSTRAINT %s %s", quote_identifier(NameStr(form->conname)),
            text_of(DirectFunctionCall1(pg_get_constraintdef, ObjectIdGetDatum(form->oid))));
    }
    systable_endscan(scan);
    table_close(constraints, AccessShareLock);
}

// "name=value, ..." of pg_class.reloptions; `prefix` before each name.
void append_options(StringInfo options, Oid relid, const char *prefix) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", relid);
    bool isnull;
    Datum array = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_reloptions, &isnull);
    if (!isnull) {
        ListCell *cell;
        foreach (cell, untransformRelOptions(array)) {
            auto *option = static_cast<DefElem *>(lfirst(cell));
            appendStringInfo(options, "%s%s%s=%s", options->len > 0 ? ", " : "", prefix,
                             quote_identifier(option->defname),
                             quote_literal_cstr(option->arg ? defGetString(option) : "true"));
        }
    }
    ReleaseSysCache(tuple);
}

char *create_table_command(Relation relation, const char *schema) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, "CREATE TABLE %s (", shard_name(relation, schema));
    TupleDesc columns = RelationGetDescr(relation);
    bool first = true;
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        if (column->attisdropped)
            continue;
        if (!first)
            appendStringInfoString(&sql, ", ");
        first = false;
        append_column(&sql, relation, column);
    }
    append_check_constraints(&sql, relation);
    appendStringInfoString(&sql, ") USING heap");

    StringInfoData options;
    initStringInfo(&options);
    append_options(&options, RelationGetRelid(relation), "");
    if (OidIsValid(relation->rd_rel->reltoastrelid))
        append_options(&options, relation->rd_rel->reltoastrelid, "toast.");
    if (options.len > 0)
        appendStringInfo(&sql, " WITH (%s)", options.data);
    return sql.data;
}

const char *storage_name(char storage) {
    switch (storage) {
    case TYPSTORAGE_PLAIN:
        return "PLAIN";
    case TYPSTORAGE_EXTERNAL:
        return "EXTERNAL";
    case TYPSTORAGE_EXTENDED:
        return "EXTENDED";
    case TYPSTORAGE_MAIN:
        return "MAIN";
    default:
        elog(ERROR, "unknown column storage '%c'", storage);
    }
}

// Storage and statistics targets that differ from the defaults; null when none does.
char *alter_columns_command(Relation relation, const char *schema) {
    StringInfoData actions;
    initStringInfo(&actions);
    TupleDesc columns = RelationGetDescr(relation);
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        if (column->attisdropped)
            continue;
        const char *name = quote_identifier(NameStr(column->attname));
        if (column->attstorage != get_typstorage(column->atttypid))
            appendStringInfo(&actions, "%sALTER COLUMN %s SET STORAGE %s",
                             actions.len > 0 ? ", " : "", name, storage_name(column->attstorage));
        if (column->attstattarget >= 0)
            appendStringInfo(&actions, "%sALTER COLUMN %s SET STATISTICS %d",
                             actions.len > 0 ? ", " : "", name, column->attstattarget);
    }
    if (actions.len == 0)
        return nullptr;
    return psprintf("ALTER TABLE %s %s", shard_name(relation, schema), actions.data);
}

// ---- grants

struct Privilege {
    AclMode mode;
    const char *name;
};
constexpr Privilege kPrivileges[] = {
    {ACL_SELECT, "SELECT"},   {ACL_INSERT, "INSERT"},     {ACL_UPDATE, "UPDATE"},
    {ACL_DELETE, "DELETE"},   {ACL_TRUNCATE, "TRUNCATE"}, {ACL_REFERENCES, "REFERENCES"},
    {ACL_TRIGGER, "TRIGGER"},
};

char *grantee_name(Oid role) {
    return role == ACL_ID_PUBLIC ? pstrdup("PUBLIC")
                                 : pstrdup(quote_identifier(GetUserNameFromId(role, false)));
}

// One GRANT per entry of `acl` whose grantee is not the owner. `column`: quoted, or null for the
// whole table.
List *grant_commands(List *commands, Acl *acl, Oid owner, const char *table, const char *column) {
    for (int i = 0; i < ACL_NUM(acl); i++) {
        const AclItem *item = &ACL_DAT(acl)[i];
        if (item->ai_grantee == owner)
            continue;
        for (bool grant_option : {false, true}) {
            AclMode modes = grant_option ? ACLITEM_GET_GOPTIONS(*item)
                                         : ACLITEM_GET_PRIVS(*item) & ~ACLITEM_GET_GOPTIONS(*item);
            StringInfoData privileges;
            initStringInfo(&privileges);
            for (const Privilege &privilege : kPrivileges) {
                if ((modes & privilege.mode) == 0)
                    continue;
                appendStringInfo(&privileges, "%s%s", privileges.len > 0 ? ", " : "",
                                 privilege.name);
                if (column != nullptr)
                    appendStringInfo(&privileges, " (%s)", column);
            }
            if (privileges.len > 0)
                commands =
                    lappend(commands, psprintf("GRANT %s ON TABLE %s TO %s%s", privileges.data,
                                               table, grantee_name(item->ai_grantee),
                                               grant_option ? " WITH GRANT OPTION" : ""));
        }
    }
    return commands;
}

// Calls visit(acl, column) for the table's ACL and those of its columns.
template <typename Visit> void each_acl(Relation relation, Visit &&visit) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(RelationGetRelid(relation)));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", RelationGetRelid(relation));
    bool isnull;
    Datum acl = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
    if (!isnull)
        visit(DatumGetAclPCopy(acl), static_cast<const char *>(nullptr));
    ReleaseSysCache(tuple);

    TupleDesc columns = RelationGetDescr(relation);
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        if (column->attisdropped)
            continue;
        tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(RelationGetRelid(relation)),
                                Int16GetDatum(column->attnum));
        if (!HeapTupleIsValid(tuple))
            elog(ERROR, "cache lookup failed for column %d", column->attnum);
        acl = SysCacheGetAttr(ATTNUM, tuple, Anum_pg_attribute_attacl, &isnull);
        if (!isnull)
            visit(DatumGetAclPCopy(acl), quote_identifier(NameStr(column->attname)));
        ReleaseSysCache(tuple);
    }
}

// ---- indexes

char *constraint_command(Relation relation, const char *schema, Oid constraint) {
    char *name = get_constraint_name(constraint);
    if (name == nullptr)
        elog(ERROR, "cache lookup failed for constraint %u", constraint);
    return psprintf(
        "ALTER TABLE %s ADD CONSTRAINT %s %s", shard_name(relation, schema), quote_identifier(name),
        text_of(DirectFunctionCall1(pg_get_constraintdef, ObjectIdGetDatum(constraint))));
}

} // namespace

List *shard_table_commands(Relation relation, const char *schema) {
    char *table = shard_name(relation, schema);
    Oid owner = relation->rd_rel->relowner;
    List *commands = list_make1(create_table_command(relation, schema));
    char *alter = alter_columns_command(relation, schema);
    if (alter != nullptr)
        commands = lappend(commands, alter);
    if (owner != GetUserId())
        commands = lappend(commands, psprintf("ALTER TABLE %s OWNER TO %s", table,
                                              quote_identifier(GetUserNameFromId(owner, false))));
    return list_concat(commands, shard_grant_commands(relation, schema));
}

List *shard_grant_commands(Relation relation, const char *schema) {
    char *table = shard_name(relation, schema);
    List *commands = nullptr;
    each_acl(relation, [&](Acl *acl, const char *column) {
        commands = grant_commands(commands, acl, relation->rd_rel->relowner, table, column);
    });
    return commands;
}

List *shard_table_roles(Relation relation) {
    List *roles = list_make1(GetUserNameFromId(relation->rd_rel->relowner, false));
    each_acl(relation, [&](Acl *acl, const char *) {
        for (int i = 0; i < ACL_NUM(acl); i++)
            if (ACL_DAT(acl)[i].ai_grantee != ACL_ID_PUBLIC)
                roles = lappend(roles, GetUserNameFromId(ACL_DAT(acl)[i].ai_grantee, false));
    });
    return roles;
}

char *shard_index_command(Oid index, const char *schema) {
    Relation relation = relation_open(index, AccessShareLock);
    Oid table = relation->rd_index->indrelid;
    // PostgreSQL prints the table's name; this is what it prints up to there.
    char *prefix =
        psprintf("CREATE %sINDEX %s ON ", relation->rd_index->indisunique ? "UNIQUE " : "",
                 quote_identifier(RelationGetRelationName(relation)));
    char *old_name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
                                                get_rel_name(table));
    char *definition = text_of(DirectFunctionCall1(pg_get_indexdef, ObjectIdGetDatum(index)));
    relation_close(relation, NoLock);

    const char *rest = definition;
    for (const char *part :
         {static_cast<const char *>(prefix), static_cast<const char *>(old_name), " USING "}) {
        size_t length = strlen(part);
        if (strncmp(rest, part, length) != 0)
            elog(ERROR, "unexpected index definition: %s", definition);
        rest += length;
    }
    return psprintf("%s%s USING %s", prefix,
                    quote_qualified_identifier(schema, get_rel_name(table)), rest);
}

List *shard_index_commands(Relation relation, const char *schema) {
    List *commands = nullptr;
    List *indexes = RelationGetIndexList(relation);
    ListCell *cell;
    foreach (cell, indexes) {
        Oid constraint = get_index_constraint(lfirst_oid(cell));
        commands = lappend(commands, OidIsValid(constraint)
                                         ? constraint_command(relation, schema, constraint)
                                         : shard_index_command(lfirst_oid(cell), schema));
    }
    list_free(indexes);
    return commands;
}

} // namespace panvel
