// Which conditions of a query come from policies, and which from views.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "nodes/parsenodes.h"
}

namespace panvel {

// Whether the target of the query is a view WITH CHECK OPTION. Policies' checks do not count: the
// shards have the same policies.
bool has_view_checks(const Query *query);

// Whether conditions of a security barrier view are among those of the query's target relation, or
// policies that the shards would apply for another role.
bool has_view_conditions(Query *query, RangeTblEntry *target);

} // namespace panvel
