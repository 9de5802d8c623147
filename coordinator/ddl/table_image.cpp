#include "coordinator/ddl/table_image.h"

#include "coordinator/ddl/shard_ddl.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_statistic_ext.h"
#include "nodes/nodes.h"
#include "rewrite/rewriteManip.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

char *text_of(Datum value) {
    return TextDatumGetCString(value);
}

// Calls visit(row) for the rows of `catalog` whose `column` is `relid`.
template <typename Visit>
void each_row(Oid catalog, Oid index, AttrNumber column, Oid relid, Visit &&visit) {
    Relation relation = table_open(catalog, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
    SysScanDesc scan = systable_beginscan(relation, index, true, nullptr, 1, &key);
    HeapTuple row;
    while (HeapTupleIsValid(row = systable_getnext(scan)))
        visit(row, RelationGetDescr(relation));
    systable_endscan(scan);
    table_close(relation, AccessShareLock);
}

ColumnImage *column_image(Relation relation, Form_pg_attribute column) {
    auto *image = palloc0_object(ColumnImage);
    image->number = column->attnum;
    image->name = pstrdup(NameStr(column->attname));
    image->type = column->atttypid;
    image->typmod = column->atttypmod;
    image->collation = column->attcollation;
    image->not_null = column->attnotnull;
    image->generated = column->attgenerated;
    image->storage = column->attstorage;
    image->compression = column->attcompression;
    image->statistics = column->attstattarget;
    image->options = column_options(RelationGetRelid(relation), column->attnum);
    return image;
}

int statistics_target(Oid relid, AttrNumber column) {
    HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(column));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for column %d of relation %u", column, relid);
    int target = reinterpret_cast<Form_pg_attribute>(GETSTRUCT(tuple))->attstattarget;
    ReleaseSysCache(tuple);
    return target;
}

IndexImage *index_image(Oid oid) {
    Relation index = relation_open(oid, AccessShareLock);
    auto *image = palloc0_object(IndexImage);
    image->oid = oid;
    image->name = pstrdup(RelationGetRelationName(index));
    image->definition = psprintf("%s%s", index->rd_index->indisunique ? "UNIQUE " : "",
                                 index_definition_tail(index));
    image->options = relation_options(oid, "");
    // The relation cache keeps an index's columns as they were when it was first opened.
    for (int i = 1; i <= RelationGetNumberOfAttributes(index); i++)
        image->statistics =
            lappend_int(image->statistics, statistics_target(oid, static_cast<AttrNumber>(i)));
    image->clustered = index->rd_index->indisclustered;
    image->replica_identity = index->rd_index->indisreplident;
    image->valid = index->rd_index->indisvalid;
    image->constraint = get_index_constraint(oid);
    relation_close(index, NoLock);
    return image;
}

// A foreign key's definition around the name of the referenced table, which is another one on the
// shards.
void split_foreign_key(ConstraintImage *image, Form_pg_constraint form, char *definition) {
    char *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(form->confrelid)),
                                            get_rel_name(form->confrelid));
    bool isnull;
    HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(form->oid));
    Datum keys = SysCacheGetAttr(CONSTROID, tuple, Anum_pg_constraint_conkey, &isnull);
    if (isnull)
        elog(ERROR, "foreign key %u has no columns", form->oid);
    StringInfoData head;
    initStringInfo(&head);
    appendStringInfoString(&head, "FOREIGN KEY (");
    ArrayType *array = DatumGetArrayTypeP(keys);
    auto *numbers = reinterpret_cast<AttrNumber *>(ARR_DATA_PTR(array));
    for (int i = 0; i < ARR_DIMS(array)[0]; i++)
        appendStringInfo(&head, "%s%s", i > 0 ? ", " : "",
                         quote_identifier(get_attname(form->conrelid, numbers[i], false)));
    appendStringInfoString(&head, ") REFERENCES ");
    ReleaseSysCache(tuple);

    const char *rest = definition;
    for (const char *part :
         {static_cast<const char *>(head.data), static_cast<const char *>(name)}) {
        size_t length = strlen(part);
        if (strncmp(rest, part, length) != 0)
            elog(ERROR, "unexpected foreign key definition: %s", definition);
        rest += length;
    }
    image->definition = head.data;
    image->tail = pstrdup(rest);
    image->referenced = form->confrelid;
}

ConstraintImage *image_of_constraint(Form_pg_constraint form) {
    static const char kNotValid[] = " NOT VALID";
    auto *image = palloc0_object(ConstraintImage);
    image->oid = form->oid;
    image->name = pstrdup(NameStr(form->conname));
    image->type = form->contype;
    image->valid = form->convalidated;
    image->deferrable = form->condeferrable;
    image->deferred = form->condeferred;
    if (form->contype != CONSTRAINT_FOREIGN)
        image->index = form->conindid;
    char *definition =
        text_of(DirectFunctionCall1(pg_get_constraintdef, ObjectIdGetDatum(form->oid)));
    if (!form->convalidated) {
        size_t length = strlen(definition);
        size_t tail = sizeof(kNotValid) - 1;
        if (length <= tail || strcmp(definition + length - tail, kNotValid) != 0)
            elog(ERROR, "unexpected constraint definition: %s", definition);
        definition[length - tail] = '\0';
    }
    if (form->contype == CONSTRAINT_FOREIGN)
        split_foreign_key(image, form, definition);
    else
        image->definition = definition;
    return image;
}

void add_constraints(TableImage *image) {
    each_row(ConstraintRelationId, ConstraintRelidTypidNameIndexId, Anum_pg_constraint_conrelid,
             image->relid, [&](HeapTuple row, TupleDesc) {
                 auto *form = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(row));
                 if (form->contype != CONSTRAINT_TRIGGER)
                     image->constraints = lappend(image->constraints, image_of_constraint(form));
             });
}

const char *policy_command_name(char command) {
    switch (command) {
    case ACL_SELECT_CHR:
        return "SELECT";
    case ACL_INSERT_CHR:
        return "INSERT";
    case ACL_UPDATE_CHR:
        return "UPDATE";
    case ACL_DELETE_CHR:
        return "DELETE";
    case '*':
        return "ALL";
    default:
        elog(ERROR, "unknown command '%c' of a policy", command);
    }
}

void append_policy_roles(StringInfo sql, Datum roles) {
    ArrayType *array = DatumGetArrayTypeP(roles);
    auto *oids = reinterpret_cast<Oid *>(ARR_DATA_PTR(array));
    for (int i = 0; i < ARR_DIMS(array)[0]; i++)
        appendStringInfo(sql, "%s%s", i > 0 ? ", " : " TO ",
                         OidIsValid(oids[i]) ? quote_identifier(GetUserNameFromId(oids[i], false))
                                             : "PUBLIC");
}

// What follows "CREATE POLICY name ON table".
char *policy_definition(HeapTuple row, TupleDesc description, Oid relid) {
    auto *form = reinterpret_cast<Form_pg_policy>(GETSTRUCT(row));
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, " AS %s FOR %s", form->polpermissive ? "PERMISSIVE" : "RESTRICTIVE",
                     policy_command_name(form->polcmd));
    bool isnull;
    append_policy_roles(&sql, heap_getattr(row, Anum_pg_policy_polroles, description, &isnull));
    Datum expression = heap_getattr(row, Anum_pg_policy_polqual, description, &isnull);
    if (!isnull)
        appendStringInfo(
            &sql, " USING (%s)",
            text_of(DirectFunctionCall2(pg_get_expr, expression, ObjectIdGetDatum(relid))));
    expression = heap_getattr(row, Anum_pg_policy_polwithcheck, description, &isnull);
    if (!isnull)
        appendStringInfo(
            &sql, " WITH CHECK (%s)",
            text_of(DirectFunctionCall2(pg_get_expr, expression, ObjectIdGetDatum(relid))));
    return sql.data;
}

bool has_subquery(HeapTuple row, TupleDesc description, AttrNumber column) {
    bool isnull;
    Datum expression = heap_getattr(row, column, description, &isnull);
    return !isnull && checkExprHasSubLink(static_cast<Node *>(stringToNode(text_of(expression))));
}

void add_policies(TableImage *image) {
    each_row(PolicyRelationId, PolicyPolrelidPolnameIndexId, Anum_pg_policy_polrelid, image->relid,
             [&](HeapTuple row, TupleDesc description) {
                 auto *form = reinterpret_cast<Form_pg_policy>(GETSTRUCT(row));
                 auto *policy = palloc0_object(ObjectImage);
                 policy->oid = form->oid;
                 policy->name = pstrdup(NameStr(form->polname));
                 policy->definition = policy_definition(row, description, image->relid);
                 policy->has_subquery = has_subquery(row, description, Anum_pg_policy_polqual) ||
                                        has_subquery(row, description, Anum_pg_policy_polwithcheck);
                 image->policies = lappend(image->policies, policy);
             });
}

// " (kinds) ON columns": pg_get_statisticsobjdef() without the two names around it.
char *statistics_definition(Form_pg_statistic_ext form) {
    char *definition =
        text_of(DirectFunctionCall1(pg_get_statisticsobjdef, ObjectIdGetDatum(form->oid)));
    char *head = psprintf(
        "CREATE STATISTICS %s",
        quote_qualified_identifier(get_namespace_name(form->stxnamespace), NameStr(form->stxname)));
    char *tail =
        psprintf(" FROM %s",
                 quote_qualified_identifier(get_namespace_name(get_rel_namespace(form->stxrelid)),
                                            get_rel_name(form->stxrelid)));
    size_t length = strlen(definition);
    size_t head_length = strlen(head);
    size_t tail_length = strlen(tail);
    if (length < head_length + tail_length || strncmp(definition, head, head_length) != 0 ||
        strcmp(definition + length - tail_length, tail) != 0)
        elog(ERROR, "unexpected statistics definition: %s", definition);
    return pnstrdup(definition + head_length, length - head_length - tail_length);
}

void add_statistics(TableImage *image) {
    each_row(StatisticExtRelationId, StatisticExtRelidIndexId, Anum_pg_statistic_ext_stxrelid,
             image->relid, [&](HeapTuple row, TupleDesc) {
                 auto *form = reinterpret_cast<Form_pg_statistic_ext>(GETSTRUCT(row));
                 auto *statistics = palloc0_object(ObjectImage);
                 statistics->oid = form->oid;
                 statistics->name = pstrdup(NameStr(form->stxname));
                 statistics->definition = statistics_definition(form);
                 statistics->target = form->stxstattarget;
                 image->statistics = lappend(image->statistics, statistics);
             });
}

} // namespace

TableImage *take_image(Relation relation) {
    auto *image = palloc0_object(TableImage);
    image->relid = RelationGetRelid(relation);
    image->name = pstrdup(RelationGetRelationName(relation));
    image->owner = relation->rd_rel->relowner;
    image->options = relation_options(image->relid, "");
    image->toast_options = OidIsValid(relation->rd_rel->reltoastrelid)
                               ? relation_options(relation->rd_rel->reltoastrelid, "toast.")
                               : "";
    image->row_security = relation->rd_rel->relrowsecurity;
    image->force_row_security = relation->rd_rel->relforcerowsecurity;
    image->replica_identity = relation->rd_rel->relreplident;
    image->rights = rights_as_text(relation);
    image->roles = shard_table_roles(relation);
    TupleDesc columns = RelationGetDescr(relation);
    for (int i = 0; i < columns->natts; i++)
        if (!TupleDescAttr(columns, i)->attisdropped)
            image->columns =
                lappend(image->columns, column_image(relation, TupleDescAttr(columns, i)));
    List *indexes = RelationGetIndexList(relation);
    ListCell *cell;
    foreach (cell, indexes)
        image->indexes = lappend(image->indexes, index_image(lfirst_oid(cell)));
    add_constraints(image);
    add_policies(image);
    add_statistics(image);
    return image;
}

const ColumnImage *find_column(const TableImage *image, AttrNumber number) {
    ListCell *cell;
    foreach (cell, image->columns)
        if (static_cast<ColumnImage *>(lfirst(cell))->number == number)
            return static_cast<ColumnImage *>(lfirst(cell));
    return nullptr;
}

char *statistics_command(const ObjectImage *statistics, const char *schema, const char *table) {
    return psprintf("CREATE STATISTICS %s%s FROM %s",
                    quote_qualified_identifier(schema, statistics->name), statistics->definition,
                    table);
}

} // namespace panvel
