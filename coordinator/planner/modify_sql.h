// The remote SQL of INSERT, UPDATE and DELETE.
#pragma once

#include "coordinator/planner/modify.h"

extern "C" {
#include "utils/rel.h"
}

namespace panvel {

// Fills command, tail, params, prune and no_rows for an UPDATE or DELETE of the query's result
// relation. Refuses (0A000) what the shards cannot evaluate by themselves.
void build_update_sql(PlannerInfo *root, Relation relation, ModifyPlan *plan);

// Fills command, tail, tail_many, sent and params for an INSERT.
void build_insert_sql(PlannerInfo *root, Relation relation, ModifyPlan *plan);

// How a column's values travel in an INSERT: the parameter's type for one row, the element type
// of the array for many, and what the shard casts an element to (null where it need not).
struct SentColumn {
    Oid type;         // base type of the column
    Oid element_type; // the same, or text where there is no array to carry the type
    const char *cast;
};
SentColumn sent_column(Form_pg_attribute column);

// A type's name that means the same on every server: qualified, without a typmod's defaults.
char *qualified_type_name(Oid type);

} // namespace panvel
