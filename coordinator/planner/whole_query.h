// Queries that one shard can answer by itself, whatever SQL they are of: every distributed table in
// them is of one colocation group and has only rows of one value of the distribution column, the
// others are reference tables. Such a query goes to the shard's node as it is written.
#pragma once

#include "coordinator/planner/scan.h"

extern "C" {
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
}

namespace panvel {

struct WholeQuery {
    const DistributedTable *table; // whose shards its tables have
    PruneKey *key;                 // what tells the shard; null: reference tables only
    List *text;                    // String: its SQL, between pieces the shard's schema
    List *params;                  // Expr *: $1, $2, ...
    bool locks;                    // rows, by FOR UPDATE and its kin
    bool single_relation;          // reads one relation, once
    const Query *query;            // a copy, as it was before planning
};

// The query as one for a shard, or null. Leaves `query` as it is.
WholeQuery *find_whole_query(Query *query);

// Of a query that locks rows: takes the locking clauses away, which PostgreSQL need not plan.
void strip_row_locks(Query *query);

// Puts the query in the place of the plan that was made for it, unless that one costs less.
void use_whole_query(PlannedStmt *statement, const WholeQuery *whole, int cursor_options);

// ------------------------------------------------------------------ parts of the above

// What tells the one shard that has all rows of distributed tables that the query can use.
struct ShardPin {
    const DistributedTable *table; // null: there is no such shard
    PruneKey *key;
    int relations; // how often the query reads any
};
ShardPin find_shard_pin(Query *query);

// For an UPDATE, DELETE or INSERT ... SELECT of a distributed table: `table` is its target where
// each shard's part of the statement uses rows of that shard alone; `key` may tell that there is
// but one.
ShardPin find_shard_split(Query *query);

// Whether a node gives the same answer to the text of the query, or does with its shard what the
// statement does with the table; `locks`: whether it locks rows.
bool is_shippable_query(Query *query, bool *locks);

// Its text for a shard (WholeQuery::text); NIL if it has none. REQUIRES: is_shippable_query(); of
// an INSERT, that it has a SELECT, no ON CONFLICT but DO NOTHING, and no RETURNING.
List *deparse_query(const Query *query, List **params);

// Makes expressions of the parser's what the executor evaluates.
List *plan_expressions(List *exprs);
PruneKey *plan_key(const PruneKey *key); // null for null

// For the rows of an answer of these columns (TargetEntry *): an entry of the statement's range
// table, which shows in EXPLAIN, and the columns of a scan of it (custom_scan_tlist, and with
// INDEX_VAR the plan's target list).
int add_answer_entry(PlannedStmt *statement, List *columns);
List *answer_columns(List *columns, int varno);

// Whether the part of an expression, as the parser left it, is a value that the coordinator knows
// before it asks for rows.
bool is_known_value(Node *node);

// Whether only the coordinator computes the value as it must be: functions that depend on more than
// their arguments (now()), or that the nodes do not have. REQUIRES: is_known_value().
bool needs_coordinator(Node *node);

} // namespace panvel
