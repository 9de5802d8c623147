// UPDATE, DELETE and MERGE by rows: what the shards cannot evaluate by themselves, joins with other
// tables, subqueries that depend on the row, volatile functions, is evaluated here by PostgreSQL's
// plan of the statement, over the tables' rows. Its rows then name the rows to change and their new
// values.
#pragma once

#include "coordinator/planner/modify.h"

extern "C" {
#include "utils/rel.h"
}

namespace panvel {

// For UPDATE, DELETE and MERGE of a distributed table, in the query and its data-modifying CTEs:
// adds to the columns that the plan will hand out what names a row of the table, besides its ctid:
// xmin, which with the ctid names a version of it, and the distribution column, which names its
// shard (of a reference table the primary key, by which all copies know it); for MERGE what its
// actions use of the table. Changes `query` in place.
void add_row_identity(Query *query);

// Whether the statement has to be executed by rows.
bool is_by_rows(PlannerInfo *root);

// Fills the plan of such an UPDATE or DELETE.
void build_row_sql(PlannerInfo *root, Relation relation, ModifyPlan *plan);

// The same for MERGE (modify_merge.cpp).
void build_merge_sql(PlannerInfo *root, Relation relation, List *actions, ModifyPlan *plan);

// plan->actions into a CustomScan's custom_private and custom_exprs, and back.
List *merge_private(const ModifyPlan *plan);
List *merge_exprs(const ModifyPlan *plan);
List *merge_actions(List *fields, List *exprs);

// INSERT ... ON CONFLICT DO UPDATE whose new values or condition the shards cannot evaluate, but
// this server can, over the columns of the two rows (modify_conflict.cpp). False where it is one
// that the shards do, or refuse.
bool is_upsert_by_rows(PlannerInfo *root, Relation relation);

// What it uses of the row that was found and of EXCLUDED, then what names the row (Var List).
List *upsert_vars(PlannerInfo *root, Relation relation);

// The UPDATE of rows that were found. `returned`: what RETURNING needs of them, or NIL.
RowAction *plan_upsert(PlannerInfo *root, Relation relation, List *returned);

// ------------------------------------------------------------------ what all are made of

// The columns by which a statement finds a row (integer List): ctid, or of a reference table the
// primary key, NIL where it has none.
List *identity_attributes(Relation relation);

// Fills by_rows, ctid, xmin and key. 0A000 where the rows of a reference table have no names.
void find_row_identity(PlannerInfo *root, Relation relation, ModifyPlan *plan);

// The columns of the plan's rows by which a statement finds a row.
List *row_identity(PlannerInfo *root, Relation relation);

// The position of the distribution column among the assigned ones, from 1; 0: it is not.
int assigned_key(Relation relation, List *columns);

// The statements' tails. They take an array of each of `types` (Oid List): the new values of
// `columns` (attribute numbers), then row_identity()'s.
char *update_rows_tail(Relation relation, List *columns, List *types, const ModifyPlan *plan);
char *delete_rows_tail(Relation relation, List *types, const ModifyPlan *plan);

// RETURNING, if the plan has anything returned, to a statement about `t`.
void append_row_returning(StringInfo sql, Relation relation, const ModifyPlan *plan);

} // namespace panvel
