// Differences between PostgreSQL 15 and 18, and nothing else. Each entry names the version that
// made the change; code elsewhere has no PG_VERSION_NUM.
#pragma once

#include "extension/pg/pg.h"

#if PG_VERSION_NUM < 150000
#error "Panvel needs PostgreSQL 15 or later"
#endif

extern "C" {
#include "nodes/nodeFuncs.h"
}

namespace pg {

// Callbacks of expression_tree_walker and expression_tree_mutator with a typed context. Before 16
// their parameter lists were undeclared.
#if PG_VERSION_NUM >= 160000
using TreeWalker = tree_walker_callback;
using TreeMutator = tree_mutator_callback;
#else
using TreeWalker = bool (*)();
using TreeMutator = Node *(*)();
#endif

template <typename Context> TreeWalker walker(bool (*callback)(Node *, Context *)) {
    return reinterpret_cast<TreeWalker>(reinterpret_cast<void *>(callback));
}

#if PG_VERSION_NUM >= 160000
using PlanWalker = planstate_tree_walker_callback;
#else
using PlanWalker = bool (*)();
#endif

inline PlanWalker plan_walker(bool (*callback)(PlanState *, void *)) {
    return reinterpret_cast<PlanWalker>(reinterpret_cast<void *>(callback));
}

template <typename Context> TreeMutator mutator(Node *(*callback)(Node *, Context *)) {
    return reinterpret_cast<TreeMutator>(reinterpret_cast<void *>(callback));
}

} // namespace pg

extern "C" {
#include "storage/latch.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif
}

namespace pg {

// A set that outlives transactions. PostgreSQL 17 gave sets a resource owner.
inline WaitEventSet *create_wait_event_set(int events) {
#if PG_VERSION_NUM >= 170000
    return CreateWaitEventSet(nullptr, events);
#else
    return CreateWaitEventSet(TopMemoryContext, events);
#endif
}

} // namespace pg

extern "C" {
#include "utils/rel.h"
#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
#else
#include "storage/backendid.h"
#endif
}

namespace pg {

// PostgreSQL 16 renamed RelFileNode.
#if PG_VERSION_NUM >= 160000
inline RelFileLocator file_locator(Relation relation) {
    return relation->rd_locator;
}
inline uint32 file_number(Relation relation) {
    return relation->rd_locator.relNumber;
}
#else
inline RelFileNode file_locator(Relation relation) {
    return relation->rd_node;
}
inline uint32 file_number(Relation relation) {
    return relation->rd_node.relNode;
}
#endif

// This process's place among all backends, from 0; negative in one that has none. PostgreSQL 17
// renamed and renumbered it.
inline int backend_index() {
#if PG_VERSION_NUM >= 170000
    return MyProcNumber;
#else
    return MyBackendId - 1;
#endif
}

} // namespace pg

extern "C" {
#include "access/genam.h"
}

namespace pg {

inline IndexScanDesc begin_index_scan(Relation table, Relation index, Snapshot snapshot, int keys,
                                      int order_bys) {
#if PG_VERSION_NUM >= 180000
    return index_beginscan(table, index, snapshot, nullptr, keys, order_bys);
#else
    return index_beginscan(table, index, snapshot, keys, order_bys);
#endif
}

} // namespace pg

extern "C" {
#include "catalog/pg_attribute.h"
}

namespace pg {

// Late releases of old branches keep a version of each column among its options.
inline bool is_internal_column_option([[maybe_unused]] const char *name) {
#ifdef ATTRIBUTE_VERSION_ATTOPTION
    return strcmp(name, ATTRIBUTE_VERSION_ATTOPTION) == 0;
#else
    return false;
#endif
}

} // namespace pg
