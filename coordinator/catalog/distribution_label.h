// How a table is distributed, as security labels of provider "panvel": pg_dump carries them along,
// and a restore distributes the table when it comes to its label, before its rows. See README.md.
#pragma once

#include "coordinator/catalog/metadata.h"

extern "C" {
#include "nodes/parsenodes.h"
}

namespace panvel {

void init_distribution_labels(); // from _PG_init

// Gives a table that has become distributed its label. `group`: the name of its colocation group
// in labels; null: that of the group's other tables, or a new one.
void label_distributed_table(const DistributedTable *table, const char *group);

// Takes the label away.
void unlabel_distributed_table(const DistributedTable *table);

// Whether the statement is about such a label.
bool is_distribution_label(const SecLabelStmt *statement);

// Does what the label says: SECURITY LABEL FOR panvel ON COLUMN items.id IS '...'.
void distribute_as_labelled(const SecLabelStmt *statement);

} // namespace panvel
