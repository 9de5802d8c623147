// Subqueries in the filter of UPDATE and DELETE, made shippable before planning.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/parsenodes.h"
}

namespace panvel {

// For UPDATE and DELETE of a distributed table, in the query and its data-modifying CTEs:
//     column IN (SELECT ...)          becomes  column = ANY (ARRAY(SELECT ...))
//     EXISTS (SELECT ... WHERE a = column AND ...)
//                                     becomes  column = ANY (ARRAY(SELECT a ... WHERE ...))
// likewise NOT IN, op ANY, op ALL, NOT EXISTS. The coordinator then evaluates the subquery once,
// and the shards get an array. PostgreSQL would make joins of them, which a shard cannot execute.
// Subqueries that refer to the table otherwise are left as they are. Changes `query` in place.
void rewrite_filter_subqueries(Query *query);

} // namespace panvel
