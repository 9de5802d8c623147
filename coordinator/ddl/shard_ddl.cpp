#include "coordinator/ddl/shard_ddl.h"

#include "extension/pg/boundary.h"
#include "extension/pg/compat.h"

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

} // namespace

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

char *column_type(Oid type, int32 typmod) {
    return format_type_extended(type, typmod,
                                FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

namespace {

char *generation_expression(Relation relation, AttrNumber column) {
    Node *expression = build_column_default(relation, column);
    if (expression == nullptr)
        elog(ERROR, "generated column %d of \"%s\" has no expression", column,
             RelationGetRelationName(relation));
    List *context =
        deparse_context_for(RelationGetRelationName(relation), RelationGetRelid(relation));
    return deparse_expression(expression, context, false, false);
}

} // namespace

char *column_definition(Relation relation, AttrNumber number, const char *default_value) {
    Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), number - 1);
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, "%s %s", quote_identifier(NameStr(column->attname)),
                     column_type(column->atttypid, column->atttypmod));
    if (CompressionMethodIsValid(column->attcompression))
        appendStringInfo(&sql, " COMPRESSION %s", GetCompressionMethodName(column->attcompression));
    if (OidIsValid(column->attcollation) &&
        column->attcollation != get_typcollation(column->atttypid))
        appendStringInfo(&sql, " COLLATE %s", qualified_collation(column->attcollation));
    if (column->attgenerated == ATTRIBUTE_GENERATED_STORED)
        appendStringInfo(&sql, " GENERATED ALWAYS AS (%s) STORED",
                         generation_expression(relation, column->attnum));
    if (default_value != nullptr)
        appendStringInfo(&sql, " DEFAULT %s", default_value);
    if (column->attnotnull)
        appendStringInfoString(&sql, " NOT NULL");
    return sql.data;
}

namespace {

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
        // Rows that are there need not satisfy one that is not valid: it comes after them.
        if (form->contype != CONSTRAINT_CHECK || !form->convalidated)
            continue;
        appendStringInfo(
            sql, ", CONSTRAINT %s %s", quote_identifier(NameStr(form->conname)),
            text_of(DirectFunctionCall1(pg_get_constraintdef, ObjectIdGetDatum(form->oid))));
    }
    systable_endscan(scan);
    table_close(constraints, AccessShareLock);
}

char *options_as_text(Datum array, const char *prefix) {
    StringInfoData options;
    initStringInfo(&options);
    ListCell *cell;
    foreach (cell, untransformRelOptions(array)) {
        auto *option = static_cast<DefElem *>(lfirst(cell));
        if (pg::is_internal_column_option(option->defname))
            continue;
        appendStringInfo(&options, "%s%s%s=%s", options.len > 0 ? ", " : "", prefix,
                         quote_identifier(option->defname),
                         quote_literal_cstr(option->arg ? defGetString(option) : "true"));
    }
    return options.data;
}

} // namespace

char *relation_options(Oid relid, const char *prefix) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for relation %u", relid);
    bool isnull;
    Datum array = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_reloptions, &isnull);
    char *options = isnull ? pstrdup("") : options_as_text(array, prefix);
    ReleaseSysCache(tuple);
    return options;
}

char *column_options(Oid relid, AttrNumber column) {
    HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(column));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for column %d of relation %u", column, relid);
    bool isnull;
    Datum array = SysCacheGetAttr(ATTNUM, tuple, Anum_pg_attribute_attoptions, &isnull);
    char *options = isnull ? pstrdup("") : options_as_text(array, "");
    ReleaseSysCache(tuple);
    return options;
}

namespace {

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
        appendStringInfoString(&sql, column_definition(relation, column->attnum, nullptr));
    }
    append_check_constraints(&sql, relation);
    appendStringInfoString(&sql, ") USING heap");

    Oid toast = relation->rd_rel->reltoastrelid;
    const char *options = relation_options(RelationGetRelid(relation), "");
    const char *toast_options = OidIsValid(toast) ? relation_options(toast, "toast.") : "";
    if (options[0] != '\0' || toast_options[0] != '\0')
        appendStringInfo(&sql, " WITH (%s%s%s)", options,
                         options[0] != '\0' && toast_options[0] != '\0' ? ", " : "", toast_options);
    return sql.data;
}

} // namespace

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

namespace {

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

char *rights_as_text(Relation relation) {
    StringInfoData text;
    initStringInfo(&text);
    each_acl(relation, [&](Acl *acl, const char *column) {
        appendStringInfo(&text, "%s:", column != nullptr ? column : "");
        for (int i = 0; i < ACL_NUM(acl); i++) {
            const AclItem *item = &ACL_DAT(acl)[i];
            appendStringInfo(&text, "%u/%u=%x,", item->ai_grantee, item->ai_grantor,
                             item->ai_privs);
        }
    });
    return text.data;
}

char *index_definition_tail(Relation index) {
    Oid table = index->rd_index->indrelid;
    // PostgreSQL prints the table's name; this is what it prints up to there.
    char *prefix = psprintf("CREATE %sINDEX %s ON ", index->rd_index->indisunique ? "UNIQUE " : "",
                            quote_identifier(RelationGetRelationName(index)));
    char *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
                                            get_rel_name(table));
    char *definition =
        text_of(DirectFunctionCall1(pg_get_indexdef, ObjectIdGetDatum(RelationGetRelid(index))));
    const char *rest = definition;
    for (const char *part :
         {static_cast<const char *>(prefix), static_cast<const char *>(name), " "}) {
        size_t length = strlen(part);
        if (strncmp(rest, part, length) != 0)
            elog(ERROR, "unexpected index definition: %s", definition);
        rest += length;
    }
    if (strncmp(rest, "USING ", 6) != 0)
        elog(ERROR, "unexpected index definition: %s", definition);
    return pstrdup(rest);
}

char *shard_index_command(Oid oid, const char *schema) {
    Relation index = relation_open(oid, AccessShareLock);
    char *command =
        psprintf("CREATE %sINDEX %s ON %s %s", index->rd_index->indisunique ? "UNIQUE " : "",
                 quote_identifier(RelationGetRelationName(index)),
                 quote_qualified_identifier(schema, get_rel_name(index->rd_index->indrelid)),
                 index_definition_tail(index));
    relation_close(index, NoLock);
    return command;
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
