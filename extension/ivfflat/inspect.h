// Looking at a whole index: ivfflat_index_info() and ivfflat_index_check().
#pragma once

#include "extension/ivfflat/page.h"

namespace ivf {

// An index opened for looking at; raises 42809 for what is not an ivfflat index, 42501 without
// SELECT on its table. With `no_vacuum`, none runs meanwhile (on a standby one may be replayed).
struct InspectedIndex {
    Relation relation;
    Relation heap;
    LOCKMODE heap_lock;
    IvfIndex *index;
};
InspectedIndex open_inspected(Oid relation, bool no_vacuum);
void close_inspected(const InspectedIndex &inspected);

} // namespace ivf
