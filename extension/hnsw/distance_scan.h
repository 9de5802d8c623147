// "Vector Index Scan": an index scan that hands the distance out, too, so that the executor does
// not compute it again from the table's vectors. README.md, "Distance without the heap".
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "access/amapi.h"
#include "nodes/extensible.h"
#include "nodes/pathnodes.h"
}

namespace vec {

// Installs the planner's hook and the setting vector.distance_scan. Called by _PG_init, before the
// setting's prefix is reserved.
void init_distance_scan();

// Says that the scans of an access method give the ORDER BY operator's float8 in xs_orderbyvals,
// and never ask for a recheck. `cost_estimate` is its amcostestimate, by which its indexes are
// known.
void register_distance_index(amcostestimate_function cost_estimate);

// A plan's custom_exprs: the ORDER BY expression, then the query vector's. Its custom_private: the
// index's OID and the number of its column from 0, each in a list of its own. In its
// custom_scan_tlist what is not a column of the table is the distance.
extern const CustomScanMethods kDistanceScanMethods;
inline Oid distance_scan_index(const CustomScan *plan) {
    return linitial_oid(linitial_node(List, plan->custom_private));
}
inline int distance_scan_column(const CustomScan *plan) {
    return linitial_int(lsecond_node(List, plan->custom_private));
}

} // namespace vec
