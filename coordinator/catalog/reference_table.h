// Reference tables: a copy on every node.
#pragma once

#include "coordinator/catalog/metadata.h"

namespace panvel {

// Gives a new node its copy of every reference table.
void copy_reference_tables(int32 node_id);

// Takes the copies away from a node that is to be removed, as long as another node has them. Of a
// server that is known to be down only the metadata goes, with a warning.
void drop_reference_copies(const ClusterNode *node);

} // namespace panvel
