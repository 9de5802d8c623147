// Pages of a new relation, one after another, as an index build writes them.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "storage/block.h"
#include "utils/rel.h"
}

namespace pg {

// Appends a page, WAL-logged as a whole where the relation or the fork needs that. Raises an error
// when it does not become block `expected`.
void append_page(Relation index, ForkNumber fork, BlockNumber expected, const char *page);

// Writes such a page once more.
void replace_page(Relation index, ForkNumber fork, BlockNumber block, const char *page);

} // namespace pg
