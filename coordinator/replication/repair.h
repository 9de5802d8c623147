// panvel.repair(): placements on nodes that are down get new ones on other nodes in their place.
// What was on the lost node is forgotten here, and dropped there should it come back.
#pragma once

#include "coordinator/catalog/metadata.h"

namespace panvel {

// A placement that repair() has replaced while its node was down.
struct Leftover {
    int32 node_id;
    int64 shard_id;
};

// All of the current database, as List of Leftover *.
List *all_leftovers();

// Where the node is back and the shard is whole without it: drops it there, in the current
// transaction.
void drop_leftover(const Leftover *leftover);

} // namespace panvel
