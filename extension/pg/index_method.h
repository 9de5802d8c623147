// What hnsw and ivfflat share as access methods of PostgreSQL.
#pragma once

#include "extension/pg/boundary.h"

extern "C" {
#include "access/amapi.h"
#include "storage/bufpage.h"
#include "utils/rel.h"
}

namespace pg {

// An access method's callback with entry() around it.
template <auto function> struct Callback;
template <typename R, typename... A, R (*function)(A...)> struct Callback<function> {
    static R call(A... arguments) {
        return entry([&] { return function(arguments...); });
    }
};

// The properties of an index on one column that hands out rows in the order of an operator's
// values; the caller sets the callbacks. palloc'd.
IndexAmRoutine *ordering_index_method(uint16 support_functions);

// What pgvector has at the beginning of an access method's metapage and at the end of each page.
struct PgvectorMarks {
    uint32 magic;
    uint16 page_id;
};

// Raises 0A000, with a hint to REINDEX, where page 0 of the index is pgvector's.
void refuse_pgvector_index(Relation index, Page page, const PgvectorMarks &marks);

} // namespace pg
