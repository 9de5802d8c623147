-- A member of the extension, so that a dump does not create it beside CREATE EXTENSION.
CREATE SCHEMA panvel;

-- The module's hooks and background work exist only when it is preloaded: say so before anything
-- is created, rather than when the first distributed table does not answer.
CREATE FUNCTION panvel.require_preload() RETURNS void
AS 'MODULE_PATHNAME', 'panvel_require_preload' LANGUAGE C;
SELECT panvel.require_preload();
DROP FUNCTION panvel.require_preload();

-- The metadata: which tables are distributed, and where their shards are. Readable by everybody,
-- changed only by the functions of this extension, which tell every backend's cache about it
-- (coordinator/catalog/README.md).

CREATE SEQUENCE panvel.node_id_seq AS int;
CREATE TABLE panvel.node (
    node_id int NOT NULL PRIMARY KEY,
    name text NOT NULL,
    host text NOT NULL,
    port int NOT NULL,
    dbname text NOT NULL,
    system_identifier bigint NOT NULL, -- of the server's cluster, to know it again
    CONSTRAINT node_name_key UNIQUE (name)
);

-- Tables of one colocation group have the same shards: equal keys are on the same node.
CREATE SEQUENCE panvel.colocation_id_seq AS int;
CREATE TABLE panvel.colocation (
    colocation_id int NOT NULL PRIMARY KEY,
    shard_count int NOT NULL,
    replication_factor int NOT NULL,
    distribution_type regtype NOT NULL, -- 0 for a reference table, as the collation and the factor
    distribution_collation oid NOT NULL
);

CREATE TABLE panvel.distributed_table (
    relation regclass NOT NULL PRIMARY KEY,
    distribution_column int2 NOT NULL, -- attnum; 0: a reference table
    colocation_id int NOT NULL,
    row_estimate float8 NOT NULL,      -- of all shards, for the planner; -1: never analyzed
    page_estimate bigint NOT NULL
);
CREATE INDEX distributed_table_colocation_id_idx ON panvel.distributed_table (colocation_id);

CREATE SEQUENCE panvel.shard_id_seq;
CREATE TABLE panvel.shard (
    shard_id bigint NOT NULL PRIMARY KEY,
    colocation_id int NOT NULL,
    hash_min bigint NOT NULL, -- inclusive
    hash_max bigint NOT NULL, -- inclusive
    epoch bigint NOT NULL     -- of the in-sync set: one more with every change of it
);
CREATE INDEX shard_colocation_id_idx ON panvel.shard (colocation_id);

CREATE TABLE panvel.placement (
    shard_id bigint NOT NULL,
    node_id int NOT NULL,
    leader boolean NOT NULL,
    active boolean NOT NULL,    -- in the in-sync set; the rest is about those that are not
    copying boolean NOT NULL,   -- to be copied anew: the leader's journal has not all
    journaled boolean NOT NULL, -- writers note in the leader's journal what it misses
    filled boolean NOT NULL,    -- it has had all rows once, so it may answer reads that may be stale
    lagging boolean NOT NULL,  -- left out by panvel.write_consistency = one, and not lost
    PRIMARY KEY (shard_id, node_id)
);
CREATE INDEX placement_node_id_idx ON panvel.placement (node_id);

-- What repair() has replaced on nodes that were down: schemas of shards to be dropped when they are
-- back and the shard has all its placements.
CREATE TABLE panvel.leftover (
    node_id int NOT NULL,
    shard_id bigint NOT NULL,
    PRIMARY KEY (node_id, shard_id)
);

-- Types, functions and the like that tables need on every node: created there, and altered and
-- dropped as here from then on (coordinator/ddl/README.md).
CREATE TABLE panvel.node_object (
    class_id oid NOT NULL, -- of the catalog the object is in, as in pg_depend
    object_id oid NOT NULL,
    PRIMARY KEY (object_id, class_id)
);

GRANT USAGE ON SCHEMA panvel TO PUBLIC;
GRANT SELECT ON panvel.node, panvel.colocation, panvel.distributed_table, panvel.shard,
    panvel.placement, panvel.leftover, panvel.node_object TO PUBLIC;
