#include "coordinator/catalog/metadata.h"

#include "coordinator/catalog/catalog.h"
#include "coordinator/core/hash_range.h"
#include "coordinator/monitor/servers.h"
#include "coordinator/transaction/doubt.h"
#include "extension/pg/boundary.h"

extern "C" {
#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"
}

namespace panvel {
namespace {

// What is known of one relation. `table` is null for an ordinary one. Its memory is `context`.
struct TableEntry {
    Oid relid; // hash key; must be first
    bool loaded;
    bool invalidated; // since the last load began
    MemoryContext context;
    const DistributedTable *table;
};

struct NodeCache {
    bool loaded;
    bool invalidated;
    Oid catalog; // panvel.node when it was loaded
    MemoryContext context;
    List *nodes; // ClusterNode *, by node_id
};

MemoryContext cache_context = nullptr;
// Parent of what was replaced during this transaction: callers may still hold it.
MemoryContext garbage_context = nullptr;
HTAB *tables = nullptr;
NodeCache node_cache;
uint64 generation = 1; // of distributed tables' definitions

void relation_invalidated(Datum, Oid relid) {
    if (!OidIsValid(relid) || relid == node_cache.catalog)
        node_cache.invalidated = true;
    if (tables == nullptr)
        return;
    if (OidIsValid(relid)) {
        auto *entry = static_cast<TableEntry *>(hash_search(tables, &relid, HASH_FIND, nullptr));
        if (entry != nullptr) {
            entry->invalidated = true;
            generation += entry->table != nullptr;
        }
        return;
    }
    generation++;
    HASH_SEQ_STATUS all;
    hash_seq_init(&all, tables);
    while (auto *entry = static_cast<TableEntry *>(hash_seq_search(&all)))
        entry->invalidated = true;
}

void transaction_ended(XactEvent event, void *) {
    switch (event) {
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PREPARE:
    case XACT_EVENT_PARALLEL_COMMIT:
    case XACT_EVENT_PARALLEL_ABORT:
        if (garbage_context != nullptr)
            MemoryContextReset(garbage_context);
        break;
    case XACT_EVENT_PRE_COMMIT:
    case XACT_EVENT_PARALLEL_PRE_COMMIT:
    case XACT_EVENT_PRE_PREPARE:
        break;
    }
}

void create_caches() {
    if (tables != nullptr)
        return;
    if (cache_context == nullptr)
        cache_context =
            AllocSetContextCreate(CacheMemoryContext, "panvel metadata", ALLOCSET_DEFAULT_SIZES);
    if (garbage_context == nullptr)
        garbage_context =
            AllocSetContextCreate(cache_context, "panvel replaced metadata", ALLOCSET_SMALL_SIZES);
    HASHCTL control = {};
    control.keysize = sizeof(Oid);
    control.entrysize = sizeof(TableEntry);
    control.hcxt = cache_context;
    tables = hash_create("panvel tables", 128, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

// Makes `fresh`, filled under the caller's hands, long-lived, and what it replaces garbage.
void replace_context(MemoryContext *kept, MemoryContext fresh) {
    if (*kept != nullptr)
        MemoryContextSetParent(*kept, garbage_context);
    if (fresh != nullptr)
        MemoryContextSetParent(fresh, cache_context);
    *kept = fresh;
}

void load_placements(Shard *shard) {
    List *placements = NIL;
    CatalogScan scan = begin_catalog_scan_int64(
        Catalog::kPlacement, AccessShareLock, "placement_pkey", kPlacementShardId, shard->shard_id);
    while (HeapTuple row = next_catalog_row(&scan)) {
        auto *placement = static_cast<Placement *>(palloc(sizeof(Placement)));
        placement->node_id = DatumGetInt32(catalog_value(&scan, row, kPlacementNodeId));
        placement->leader = DatumGetBool(catalog_value(&scan, row, kPlacementLeader));
        placement->active = DatumGetBool(catalog_value(&scan, row, kPlacementActive));
        placement->journaled = DatumGetBool(catalog_value(&scan, row, kPlacementJournaled));
        placement->filled = DatumGetBool(catalog_value(&scan, row, kPlacementFilled));
        placements =
            placement->leader ? lcons(placement, placements) : lappend(placements, placement);
    }
    end_catalog_scan(&scan);

    shard->placement_count = list_length(placements);
    if (shard->placement_count == 0)
        ereport(ERROR,
                (errcode(ERRCODE_DATA_CORRUPTED),
                 errmsg("shard %lld has no placement", static_cast<long long>(shard->shard_id))));
    auto *array = static_cast<Placement *>(palloc(sizeof(Placement) * shard->placement_count));
    ListCell *cell;
    foreach (cell, placements)
        array[foreach_current_index(cell)] = *static_cast<Placement *>(lfirst(cell));
    shard->placements = array;
}

int compare_shards(const ListCell *a, const ListCell *b) {
    int64 left = static_cast<const Shard *>(lfirst(a))->hash_min;
    int64 right = static_cast<const Shard *>(lfirst(b))->hash_min;
    return left < right ? -1 : left > right;
}

void load_shards(DistributedTable *table) {
    List *shards = NIL;
    CatalogScan scan =
        begin_catalog_scan_int32(Catalog::kShard, AccessShareLock, "shard_colocation_id_idx",
                                 kShardColocationId, table->colocation_id);
    while (HeapTuple row = next_catalog_row(&scan)) {
        auto *shard = static_cast<Shard *>(palloc0(sizeof(Shard)));
        shard->shard_id = DatumGetInt64(catalog_value(&scan, row, kShardId));
        shard->hash_min = DatumGetInt64(catalog_value(&scan, row, kShardHashMin));
        shard->hash_max = DatumGetInt64(catalog_value(&scan, row, kShardHashMax));
        shard->epoch = DatumGetInt64(catalog_value(&scan, row, kShardEpoch));
        snprintf(shard->schema, sizeof(shard->schema), "panvel_s%lld",
                 static_cast<long long>(shard->shard_id));
        shards = lappend(shards, shard);
    }
    end_catalog_scan(&scan);
    list_sort(shards, compare_shards);

    // shard_index_for_value() computes the index: the ranges must be those of split_hash_space().
    if (list_length(shards) != table->shard_count)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("colocation group %d has %d shards instead of %d",
                               table->colocation_id, list_length(shards), table->shard_count)));
    auto *array = static_cast<Shard *>(palloc(sizeof(Shard) * table->shard_count));
    ListCell *cell;
    foreach (cell, shards) {
        auto *shard = static_cast<Shard *>(lfirst(cell));
        int index = foreach_current_index(cell);
        auto count = static_cast<uint32_t>(table->shard_count);
        if (shard_index_of_hash(shard->hash_min, count) != static_cast<uint32_t>(index) ||
            shard_index_of_hash(shard->hash_max, count) != static_cast<uint32_t>(index))
            ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                            errmsg("shard %lld has another hash range than its place among %d",
                                   static_cast<long long>(shard->shard_id), table->shard_count)));
        load_placements(shard);
        array[index] = *shard;
    }
    table->shards = array;
}

void load_colocation(DistributedTable *table) {
    CatalogScan scan =
        begin_catalog_scan_int32(Catalog::kColocation, AccessShareLock, "colocation_pkey",
                                 kColocationId, table->colocation_id);
    HeapTuple row = next_catalog_row(&scan);
    if (!HeapTupleIsValid(row))
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("colocation group %d does not exist", table->colocation_id)));
    table->shard_count = DatumGetInt32(catalog_value(&scan, row, kColocationShardCount));
    table->replication_factor =
        DatumGetInt32(catalog_value(&scan, row, kColocationReplicationFactor));
    end_catalog_scan(&scan);
}

void load_distribution_column(DistributedTable *table) {
    int32 typmod;
    get_atttypetypmodcoll(table->relid, table->distribution_attribute, &table->distribution_type,
                          &typmod, &table->distribution_collation);
    TypeCacheEntry *type =
        lookup_type_cache(table->distribution_type, TYPECACHE_HASH_EXTENDED_PROC);
    if (!OidIsValid(type->hash_extended_proc))
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("type %u of a distribution column has no extended hash function",
                               table->distribution_type)));
    fmgr_info_cxt(type->hash_extended_proc, &table->hash, CurrentMemoryContext);
}

// Reads the table's metadata into CurrentMemoryContext; null when it is not distributed.
DistributedTable *load_table(Oid relid) {
    if (!OidIsValid(find_panvel_relation("distributed_table")))
        return nullptr;
    CatalogScan scan = begin_catalog_scan_oid(Catalog::kDistributedTable, AccessShareLock,
                                              "distributed_table_pkey", kTableRelation, relid);
    DistributedTable *table = nullptr;
    HeapTuple row = next_catalog_row(&scan);
    if (HeapTupleIsValid(row)) {
        table = static_cast<DistributedTable *>(palloc0(sizeof(DistributedTable)));
        table->relid = relid;
        table->distribution_attribute =
            DatumGetInt16(catalog_value(&scan, row, kTableDistributionColumn));
        table->is_reference = table->distribution_attribute == 0;
        table->colocation_id = DatumGetInt32(catalog_value(&scan, row, kTableColocationId));
        table->row_estimate = DatumGetFloat8(catalog_value(&scan, row, kTableRowEstimate));
        table->page_estimate = DatumGetInt64(catalog_value(&scan, row, kTablePageEstimate));
    }
    end_catalog_scan(&scan);
    if (table != nullptr) {
        if (!table->is_reference)
            load_distribution_column(table);
        load_colocation(table);
        load_shards(table);
        if (table->is_reference)
            table->replication_factor = table->shards[0].placement_count;
    }
    return table;
}

void load_entry(TableEntry *entry) {
    MemoryContext fresh =
        AllocSetContextCreate(CurrentMemoryContext, "panvel table", ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(fresh);
    // An invalidation that arrives while this reads makes the next caller read again.
    entry->loaded = false;
    entry->invalidated = false;
    DistributedTable *table = load_table(entry->relid);
    MemoryContextSwitchTo(caller);
    if (table == nullptr) {
        MemoryContextDelete(fresh);
        fresh = nullptr;
    }
    replace_context(&entry->context, fresh);
    entry->table = table;
    entry->loaded = true;
}

int compare_nodes(const ListCell *a, const ListCell *b) {
    int32 left = static_cast<const ClusterNode *>(lfirst(a))->node_id;
    int32 right = static_cast<const ClusterNode *>(lfirst(b))->node_id;
    return left < right ? -1 : left > right;
}

List *load_nodes() {
    List *nodes = NIL;
    CatalogScan scan = begin_catalog_scan(Catalog::kNode, AccessShareLock, nullptr, 0, nullptr);
    while (HeapTuple row = next_catalog_row(&scan)) {
        auto *node = static_cast<ClusterNode *>(palloc(sizeof(ClusterNode)));
        node->node_id = DatumGetInt32(catalog_value(&scan, row, kNodeId));
        node->name = TextDatumGetCString(catalog_value(&scan, row, kNodeName));
        node->host = TextDatumGetCString(catalog_value(&scan, row, kNodeHost));
        node->port = DatumGetInt32(catalog_value(&scan, row, kNodePort));
        node->dbname = TextDatumGetCString(catalog_value(&scan, row, kNodeDbname));
        nodes = lappend(nodes, node);
    }
    end_catalog_scan(&scan);
    list_sort(nodes, compare_nodes);
    return nodes;
}

List *cached_nodes() {
    create_caches();
    if (node_cache.loaded && !node_cache.invalidated)
        return node_cache.nodes;
    MemoryContext fresh =
        AllocSetContextCreate(CurrentMemoryContext, "panvel nodes", ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(fresh);
    node_cache.loaded = false;
    node_cache.invalidated = false;
    node_cache.catalog = catalog_oid(Catalog::kNode);
    List *nodes = load_nodes();
    MemoryContextSwitchTo(caller);
    replace_context(&node_cache.context, fresh);
    node_cache.nodes = nodes;
    node_cache.loaded = true;
    register_nodes(nodes);
    return nodes;
}

} // namespace

const DistributedTable *find_distributed_table(Oid relid) {
    if (relid < FirstNormalObjectId)
        return nullptr;
    create_caches();
    bool found;
    auto *entry = static_cast<TableEntry *>(hash_search(tables, &relid, HASH_ENTER, &found));
    if (!found) {
        entry->loaded = false;
        entry->context = nullptr;
        entry->table = nullptr;
    }
    if (!entry->loaded || entry->invalidated)
        load_entry(entry);
    return entry->table;
}

const DistributedTable *get_distributed_table(Oid relid) {
    const DistributedTable *table = find_distributed_table(relid);
    if (table == nullptr) {
        char *name = get_rel_name(relid);
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("\"%s\" is not a distributed table", name != nullptr ? name : "?"),
                        errhint("Distribute it with panvel.create_distributed_table().")));
    }
    return table;
}

const DistributedTable *refresh_table(const DistributedTable *table) {
    if (!is_replicated(table))
        return table;
    AcceptInvalidationMessages();
    return get_distributed_table(table->relid);
}

const ClusterNode *get_node(int32 node_id) {
    ListCell *cell;
    foreach (cell, cached_nodes()) {
        auto *node = static_cast<ClusterNode *>(lfirst(cell));
        if (node->node_id == node_id)
            return node;
    }
    ereport(ERROR,
            (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no node with id %d", node_id)));
}

const ClusterNode *find_node_by_name(const char *name) {
    ListCell *cell;
    foreach (cell, cached_nodes()) {
        auto *node = static_cast<ClusterNode *>(lfirst(cell));
        if (strcmp(node->name, name) == 0)
            return node;
    }
    return nullptr;
}

List *all_nodes() {
    return list_copy(cached_nodes());
}

int shard_index_for_value(const DistributedTable *table, Datum value) {
    auto *hash = const_cast<FmgrInfo *>(&table->hash);
    Datum hashed = FunctionCall2Coll(hash, table->distribution_collation, value, UInt64GetDatum(0));
    return static_cast<int>(shard_index_of_hash(static_cast<int64>(DatumGetUInt64(hashed)),
                                                static_cast<uint32_t>(table->shard_count)));
}

char *shard_relation_name(const DistributedTable *table, const Shard *shard) {
    char *name = get_rel_name(table->relid);
    if (name == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("the table of shard \"%s\" no longer exists", shard->schema)));
    return quote_qualified_identifier(shard->schema, name);
}

namespace {

// The first placement that satisfies `suits`, beginning with another one in each session, so that
// sessions are spread over them; 0: none does.
template <typename Suits> int32 find_placement(const Shard *shard, Suits &&suits) {
    int count = shard->placement_count;
    for (int i = 0; i < count; i++) {
        const Placement *placement = &shard->placements[(MyProcPid + i) % count];
        if (suits(placement))
            return placement->node_id;
    }
    return 0;
}

} // namespace

// Nodes that are known to be down are passed by, and those where a committed write may not be
// visible yet.
int32 read_node(const Shard *shard, List *avoided, bool stale_too) {
    if (shard->placement_count == 1 && shard->placements[0].active)
        return shard->placements[0].node_id;
    auto answers = [avoided](int32 node_id) {
        return !server_is_down(server_of_node(node_id)) && !list_member_int(avoided, node_id);
    };
    int32 found = find_placement(shard, [&](const Placement *placement) {
        return placement->active && answers(placement->node_id) &&
               !node_in_doubt(placement->node_id);
    });
    if (found == 0 && stale_too)
        found = find_placement(shard, [&](const Placement *placement) {
            return placement->active && answers(placement->node_id);
        });
    if (found == 0 && stale_too)
        found = find_placement(shard, [&](const Placement *placement) {
            return placement->filled && answers(placement->node_id);
        });
    if (found == 0)
        found = find_placement(shard, [](const Placement *placement) { return placement->active; });
    if (found != 0)
        return found;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("no placement of shard \"%s\" is in sync", shard->schema)));
}

int32 write_node(const Shard *shard) {
    return shard->placements[0].node_id;
}

bool is_readable_on(const Shard *shard, int32 node_id) {
    for (int i = 0; i < shard->placement_count; i++)
        if (shard->placements[i].node_id == node_id)
            return shard->placements[i].active;
    return false;
}

void lock_reference_table(Oid relid) {
    LockDatabaseObject(catalog_oid(Catalog::kDistributedTable), relid, 0, ExclusiveLock);
}

List *all_reference_tables() {
    List *relids = NIL;
    CatalogScan scan =
        begin_catalog_scan(Catalog::kDistributedTable, AccessShareLock, nullptr, 0, nullptr);
    while (HeapTuple row = next_catalog_row(&scan))
        if (DatumGetInt16(catalog_value(&scan, row, kTableDistributionColumn)) == 0)
            relids =
                lappend_oid(relids, DatumGetObjectId(catalog_value(&scan, row, kTableRelation)));
    end_catalog_scan(&scan);
    return relids;
}

List *colocated_tables(int32 colocation_id) {
    List *relids = NIL;
    CatalogScan scan = begin_catalog_scan_int32(Catalog::kDistributedTable, AccessShareLock,
                                                "distributed_table_colocation_id_idx",
                                                kTableColocationId, colocation_id);
    while (HeapTuple row = next_catalog_row(&scan))
        relids = lappend_oid(relids, DatumGetObjectId(catalog_value(&scan, row, kTableRelation)));
    end_catalog_scan(&scan);
    return relids;
}

Oid find_table_of_shard(int64 shard_id, const char *name) {
    if (!OidIsValid(find_panvel_relation("shard")))
        return InvalidOid;
    CatalogScan scan = begin_catalog_scan_int64(Catalog::kShard, AccessShareLock, "shard_pkey",
                                                kShardId, shard_id);
    HeapTuple row = next_catalog_row(&scan);
    int32 colocation_id =
        HeapTupleIsValid(row) ? DatumGetInt32(catalog_value(&scan, row, kShardColocationId)) : 0;
    end_catalog_scan(&scan);
    ListCell *cell;
    foreach (cell, colocated_tables(colocation_id)) {
        const char *other = get_rel_name(lfirst_oid(cell));
        if (other != nullptr && strcmp(other, name) == 0)
            return lfirst_oid(cell);
    }
    return InvalidOid;
}

uint64 definition_generation() {
    return generation;
}

void invalidate_table(Oid relid) {
    CacheInvalidateRelcacheByRelid(relid);
}

void invalidate_nodes() {
    CacheInvalidateRelcacheByRelid(catalog_oid(Catalog::kNode));
}

void init_metadata() {
    CacheRegisterRelcacheCallback(relation_invalidated, 0);
    RegisterXactCallback(transaction_ended, nullptr);
}

} // namespace panvel
