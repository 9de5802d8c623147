// The remote SQL of INSERT, UPDATE and DELETE.
#pragma once

#include "coordinator/planner/modify.h"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/rel.h"
}

namespace panvel {

// Fills command, tail, params, prune and no_rows for an UPDATE or DELETE of the query's result
// relation. Refuses (0A000) what the shards cannot evaluate by themselves.
void build_update_sql(PlannerInfo *root, Relation relation, ModifyPlan *plan);

// Fills command, tail, tail_many, sent and params for an INSERT.
void build_insert_sql(PlannerInfo *root, Relation relation, ModifyPlan *plan);

// The columns that an INSERT sends: the shard computes generated ones. Attribute numbers.
List *stored_columns(Relation relation);

// The tail of an INSERT of many rows, an array of each of these columns.
char *insert_rows_tail(Relation relation, List *columns);

// Appends the ON CONFLICT clause of the query, if it has one. `by_rows`: with DO UPDATE that leaves
// the row's values (modify_rows.h).
void append_on_conflict(PlannerInfo *root, Relation relation, bool by_rows, StringInfo sql,
                        ShippedParams *params);

// For a table with followers: fills images and apply_*. `changed`: the columns (integer List) that
// the statement may have changed in a row it found. Refuses (0A000) a change of the primary key.
void build_apply_sql(Relation relation, List *changed, ModifyPlan *plan);

// The primary key, by which followers find a row: its columns, and by which operators they are
// compared.
struct FollowedKey {
    List *attributes; // integer
    List *operators;  // String: "OPERATOR(pg_catalog.=)"
};
FollowedKey followed_key(Relation relation);

// Whether all that the leader returns comes in binary and goes so to the followers, one by one and
// as elements of arrays; else everything is text.
bool images_are_binary(Relation relation, const ModifyPlan *plan);

// Whether it is a column of the primary key by which followers find a row.
bool is_followed_key(Relation relation, AttrNumber attribute);

// The expression's SQL text, or a refusal (0A000) that says why the shards cannot evaluate it.
// `where` names its place in the statement ("WHERE").
char *ship_or_refuse(PlannerInfo *root, Expr *expr, const char *where, ShippedParams *params);

// Storing a value in a column of a domain type checks the domain: the expression without that.
Expr *without_domain_check(Expr *expr);

// The distribution column, or any other that is stored: 0A000 where a reference table has none.
AttrNumber plain_column(Relation relation);

const char *column_name(Relation relation, AttrNumber attribute); // quoted as needed

// How a column's values travel in an INSERT: the parameter's type for one row, the element type
// of the array for many, and what the shard casts an element to (null where it need not).
struct SentColumn {
    Oid type;         // base type of the column
    Oid element_type; // the same, or text where there is no array to carry the type
    const char *cast;
};
SentColumn sent_column(Oid column_type);

// A type's name that means the same on every server: qualified, without a typmod's defaults.
char *qualified_type_name(Oid type);

} // namespace panvel
