// What a follower executes to get the rows that its leader has changed: found by primary key, with
// the values the leader returned (coordinator/replication/README.md).
#include "coordinator/catalog/metadata.h"
#include "coordinator/executor/codec.h"
#include "coordinator/planner/modify_sql.h"

extern "C" {
#include "access/genam.h"
#include "access/stratnum.h"
#include "catalog/pg_operator.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
}

namespace panvel {
namespace {

char *operator_name(Oid number) {
    HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(number));
    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for operator %u", number);
    auto *form = reinterpret_cast<Form_pg_operator>(GETSTRUCT(tuple));
    char *name =
        psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
                 NameStr(form->oprname));
    ReleaseSysCache(tuple);
    return name;
}

} // namespace

FollowedKey followed_key(Relation relation) {
    FollowedKey key = {NIL, NIL};
    Oid index_oid = RelationGetPrimaryKeyIndex(relation);
    if (!OidIsValid(index_oid))
        refuse_modification(RelationGetRelid(relation), "a write without a primary key",
                            "A table with a replication factor above 1 needs one.");
    Relation index = index_open(index_oid, AccessShareLock);
    for (int i = 0; i < index->rd_index->indnkeyatts; i++) {
        Oid type = index->rd_opcintype[i];
        Oid equal = get_opfamily_member(index->rd_opfamily[i], type, type, BTEqualStrategyNumber);
        if (!OidIsValid(equal))
            elog(ERROR, "index %u has no equality operator", index_oid);
        key.attributes = lappend_int(key.attributes, index->rd_index->indkey.values[i]);
        key.operators = lappend(key.operators, makeString(operator_name(equal)));
    }
    index_close(index, NoLock);
    return key;
}

namespace {

// The values of the images in a statement: parameters for one row, columns of `r` for many.
class Images {
  public:
    Images(Relation relation, const ModifyPlan *plan, bool many)
        : relation_(relation), attributes_(plan->images), many_(many),
          binary_(images_are_binary(relation, plan)) {}

    char *value(AttrNumber attribute) const {
        int number = 1;
        ListCell *cell;
        foreach (cell, attributes_) {
            if (lfirst_int(cell) == attribute)
                break;
            number++;
        }
        if (!many_)
            return psprintf("$%d::%s", number, type_name(attribute));
        return binary_ ? psprintf("r.c%d", number)
                       : psprintf("r.c%d::%s", number, type_name(attribute));
    }

    // "ROWS FROM (unnest($1::int[]), ...) AS r(c1, ...)" of the first `count` columns
    char *source(int count) const {
        StringInfoData sql;
        StringInfoData names;
        initStringInfo(&sql);
        initStringInfo(&names);
        ListCell *cell;
        foreach (cell, attributes_) {
            int number = foreach_current_index(cell) + 1;
            if (number > count)
                break;
            const char *separator = number > 1 ? ", " : "";
            appendStringInfo(&sql, "%spg_catalog.unnest($%d::%s[])", separator, number,
                             binary_ ? type_name(lfirst_int(cell)) : "pg_catalog.text");
            appendStringInfo(&names, "%sc%d", separator, number);
        }
        return psprintf("ROWS FROM (%s) AS r(%s)", sql.data, names.data);
    }

  private:
    char *type_name(AttrNumber attribute) const {
        Oid type = TupleDescAttr(RelationGetDescr(relation_), attribute - 1)->atttypid;
        return qualified_type_name(getBaseType(type));
    }

    Relation relation_;
    List *attributes_;
    bool many_;
    bool binary_;
};

void append_key_condition(StringInfo sql, Relation relation, const FollowedKey &key,
                          const Images &images) {
    ListCell *attribute;
    ListCell *name;
    forboth(attribute, key.attributes, name, key.operators) appendStringInfo(
        sql, " %s t.%s %s %s", foreach_current_index(attribute) == 0 ? "WHERE" : "AND",
        column_name(relation, lfirst_int(attribute)), strVal(lfirst(name)),
        images.value(lfirst_int(attribute)));
}

void append_set(StringInfo sql, Relation relation, List *changed, const char *value_prefix,
                const Images *images) {
    ListCell *cell;
    foreach (cell, changed) {
        const char *column = column_name(relation, lfirst_int(cell));
        appendStringInfo(sql, "%s%s = %s%s", foreach_current_index(cell) == 0 ? " SET " : ", ",
                         column, value_prefix,
                         images != nullptr ? images->value(lfirst_int(cell)) : column);
    }
}

char *update_tail(Relation relation, const FollowedKey &key, List *changed, const ModifyPlan *plan,
                  bool many) {
    Images images(relation, plan, many);
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, " AS t");
    append_set(&sql, relation, changed, "", &images);
    if (many)
        appendStringInfo(&sql, " FROM %s", images.source(list_length(plan->images)));
    append_key_condition(&sql, relation, key, images);
    return sql.data;
}

char *delete_tail(Relation relation, const FollowedKey &key, const ModifyPlan *plan, bool many) {
    Images images(relation, plan, many);
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, " AS t");
    if (many)
        appendStringInfo(&sql, " USING %s", images.source(list_length(plan->images)));
    append_key_condition(&sql, relation, key, images);
    return sql.data;
}

char *upsert_tail(Relation relation, const FollowedKey &key, const ModifyPlan *plan, bool many) {
    Images images(relation, plan, many);
    List *attributes = plan->images;
    StringInfoData names;
    StringInfoData values;
    initStringInfo(&names);
    initStringInfo(&values);
    List *rest = list_difference_int(attributes, key.attributes);
    ListCell *cell;
    foreach (cell, attributes) {
        const char *separator = foreach_current_index(cell) == 0 ? "" : ", ";
        appendStringInfo(&names, "%s%s", separator, column_name(relation, lfirst_int(cell)));
        appendStringInfo(&values, "%s%s", separator, images.value(lfirst_int(cell)));
    }
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, " AS t (%s) OVERRIDING SYSTEM VALUE SELECT %s", names.data, values.data);
    if (many)
        appendStringInfo(&sql, " FROM %s", images.source(list_length(plan->images)));
    appendStringInfoString(&sql, " ON CONFLICT (");
    foreach (cell, key.attributes)
        appendStringInfo(&sql, "%s%s", foreach_current_index(cell) == 0 ? "" : ", ",
                         column_name(relation, lfirst_int(cell)));
    appendStringInfoString(&sql, ") DO UPDATE");
    append_set(&sql, relation, rest != NIL ? rest : key.attributes, "EXCLUDED.", nullptr);
    return sql.data;
}

// For "INSERT INTO panvel_s12.panvel_journal".
char *journal_tail(Relation relation, const FollowedKey &key, const ModifyPlan *plan, bool many) {
    Images images(relation, plan, many);
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, " (node_id, relation, key) SELECT n.id, %s, ARRAY[",
                     quote_literal_cstr(RelationGetRelationName(relation)));
    ListCell *cell;
    foreach (cell, key.attributes)
        appendStringInfo(&sql, "%s(%s)::pg_catalog.text",
                         foreach_current_index(cell) == 0 ? "" : ", ",
                         images.value(static_cast<AttrNumber>(lfirst_int(cell))));
    appendStringInfo(&sql, "] FROM pg_catalog.unnest($%d::pg_catalog.int4[]) AS n(id)",
                     list_length(key.attributes) + 1);
    if (many)
        appendStringInfo(&sql, ", %s", images.source(list_length(key.attributes)));
    return sql.data;
}

// Followers find a row by its key: it has to be the one it had before. The distribution column has
// been looked at already.
void require_same_key(Relation relation, const FollowedKey &key, List *changed) {
    AttrNumber distribution =
        get_distributed_table(RelationGetRelid(relation))->distribution_attribute;
    ListCell *cell;
    foreach (cell, list_intersection_int(changed, key.attributes))
        if (lfirst_int(cell) != distribution)
            refuse_modification(
                RelationGetRelid(relation),
                psprintf("updating primary key column %s, with a replication factor above 1,",
                         column_name(relation, lfirst_int(cell))),
                "Delete the row and insert it with the new key, in one transaction.");
}

} // namespace

bool is_followed_key(Relation relation, AttrNumber attribute) {
    return is_replicated(get_distributed_table(RelationGetRelid(relation))) &&
           list_member_int(followed_key(relation).attributes, attribute);
}

bool images_are_binary(Relation relation, const ModifyPlan *plan) {
    ListCell *cell;
    foreach (cell, list_concat_copy(plan->returned, plan->images)) {
        Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), lfirst_int(cell) - 1);
        if (!travels_in_binary(column->atttypid) || sent_column(column->atttypid).cast != nullptr)
            return false;
    }
    return true;
}

void build_apply_sql(Relation relation, List *changed, ModifyPlan *plan) {
    if (!is_replicated(get_distributed_table(RelationGetRelid(relation))))
        return;
    FollowedKey key = followed_key(relation);
    // The key first: the journal takes that alone.
    bool repeated = plan->operation == CMD_INSERT && plan->on_conflict == ONCONFLICT_NONE;
    plan->images = list_concat_unique_int(list_copy(key.attributes), repeated ? NIL : changed);
    plan->journal_one = journal_tail(relation, key, plan, false);
    plan->journal_many = journal_tail(relation, key, plan, true);
    if (repeated)
        return;
    if (plan->operation == CMD_INSERT) {
        plan->apply_command = "INSERT INTO ";
        plan->apply_one = upsert_tail(relation, key, plan, false);
        plan->apply_many = upsert_tail(relation, key, plan, true);
        return;
    }
    if (plan->operation == CMD_DELETE) {
        plan->apply_command = "DELETE FROM ";
        plan->apply_one = delete_tail(relation, key, plan, false);
        plan->apply_many = delete_tail(relation, key, plan, true);
        return;
    }
    require_same_key(relation, key, changed);
    if (changed == NIL) // it gets a new version all the same
        changed = list_make1_int(linitial_int(key.attributes));
    plan->apply_command = "UPDATE ";
    plan->apply_one = update_tail(relation, key, changed, plan, false);
    plan->apply_many = update_tail(relation, key, changed, plan, true);
}

} // namespace panvel
