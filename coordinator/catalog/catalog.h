// The catalog tables of schema panvel (sql/panvel/10_catalog.sql): where they are, what their
// columns are called here, and how rows get in and out of them.
//
// Rights are not checked here: nobody may change these tables by SQL, and each SQL-callable
// function decides who may call it.
#pragma once

#include "extension/pg/pg.h"

extern "C" {
#include "access/genam.h"
#include "access/htup.h"
#include "access/skey.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
}

namespace panvel {

// True once _PG_init ran in shared_preload_libraries: hooks and shared memory are there.
extern bool preloaded;

// An error (55000) with a hint when the module is not preloaded.
void require_preload();

void init_catalog(); // settings; from _PG_init

enum class Catalog {
    kNode,
    kColocation,
    kDistributedTable,
    kShard,
    kPlacement,
    kLeftover,
    kNodeObject
};

enum NodeColumn {
    kNodeId = 1,
    kNodeName,
    kNodeHost,
    kNodePort,
    kNodeDbname,
    kNodeSystemIdentifier,
    kNodeColumns = kNodeSystemIdentifier
};
enum ColocationColumn {
    kColocationId = 1,
    kColocationShardCount,
    kColocationReplicationFactor,
    kColocationType,
    kColocationCollation,
    kColocationColumns = kColocationCollation
};
enum DistributedTableColumn {
    kTableRelation = 1,
    kTableDistributionColumn,
    kTableColocationId,
    kTableRowEstimate,
    kTablePageEstimate,
    kTableColumns = kTablePageEstimate
};
enum ShardColumn {
    kShardId = 1,
    kShardColocationId,
    kShardHashMin,
    kShardHashMax,
    kShardEpoch,
    kShardColumns = kShardEpoch
};
enum PlacementColumn {
    kPlacementShardId = 1,
    kPlacementNodeId,
    kPlacementLeader,
    kPlacementActive,
    kPlacementCopying,
    kPlacementJournaled,
    kPlacementFilled,
    kPlacementLagging,
    kPlacementColumns = kPlacementLagging
};
enum LeftoverColumn { kLeftoverNodeId = 1, kLeftoverShardId, kLeftoverColumns = kLeftoverShardId };

enum NodeObjectColumn { kNodeObjectClass = 1, kNodeObjectId, kNodeObjectColumns = kNodeObjectId };

// The OID of a relation of schema panvel; invalid when the extension is not in this database.
Oid find_panvel_relation(const char *name);
// Same, but an error (55000) that says to create the extension.
Oid panvel_relation(const char *name);
Oid catalog_oid(Catalog catalog);
Relation open_catalog(Catalog catalog, LOCKMODE lockmode);

// A scan over the rows of `catalog` that match the keys, by the index called `index` (null: all
// rows). Values of a row by catalog_value().
struct CatalogScan {
    Relation relation;
    SysScanDesc scan;
};
CatalogScan begin_catalog_scan(Catalog catalog, LOCKMODE lockmode, const char *index, int nkeys,
                               ScanKey keys);
HeapTuple next_catalog_row(CatalogScan *scan);
void end_catalog_scan(CatalogScan *scan); // keeps the lock

// A scan by one key of an integer, oid or text column.
CatalogScan begin_catalog_scan_int32(Catalog catalog, LOCKMODE lockmode, const char *index,
                                     AttrNumber column, int32 value);
CatalogScan begin_catalog_scan_int64(Catalog catalog, LOCKMODE lockmode, const char *index,
                                     AttrNumber column, int64 value);
CatalogScan begin_catalog_scan_oid(Catalog catalog, LOCKMODE lockmode, const char *index,
                                   AttrNumber column, Oid value);

// The column's value; no column of these tables is nullable, so NULL is an error (XX001).
Datum catalog_value(const CatalogScan *scan, HeapTuple row, AttrNumber column);

// Inserts rows; `values` as many as the table has columns. Visible after a command counter
// increment, which the caller makes.
void insert_catalog_row(Relation catalog, Datum *values);

// Replaces the columns with replace[i] of `row` (arrays of as many as the table has columns).
void update_catalog_row(Relation catalog, HeapTuple row, Datum *values, const bool *replace);

int64 next_catalog_id(const char *sequence);

// Deletes a row that the scan has found.
void delete_catalog_row(const CatalogScan *scan, HeapTuple row);

// Deletes the rows found by one int32 or int64 key.
void delete_catalog_rows(CatalogScan scan);

} // namespace panvel
