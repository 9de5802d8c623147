-- What the nodes say about themselves, asked for in parallel. A node that does not answer has
-- nulls; it is not an error.
CREATE FUNCTION panvel.node_states(OUT node_id int, OUT status text, OUT since timestamptz,
                                   OUT last_error text, OUT bytes bigint) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'panvel_node_states' LANGUAGE C VOLATILE ROWS 10;
COMMENT ON FUNCTION panvel.node_states() IS 'which nodes answer; for the view panvel.nodes';

CREATE FUNCTION panvel.placement_sizes(OUT node_id int, OUT shard_id bigint, OUT table_name name,
                                       OUT rows bigint, OUT bytes bigint) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'panvel_placement_sizes' LANGUAGE C VOLATILE ROWS 100;
COMMENT ON FUNCTION panvel.placement_sizes() IS
    'estimated rows and size of every placement; for the views panvel.tables and panvel.shards';

CREATE VIEW panvel.nodes AS
SELECT n.name, n.host, n.port, n.dbname, s.status, s.since, s.last_error,
       (SELECT count(*) FROM panvel.placement p WHERE p.node_id = n.node_id) AS shards, s.bytes
FROM panvel.node n LEFT JOIN panvel.node_states() s USING (node_id)
ORDER BY n.node_id;

CREATE VIEW panvel.shards AS
SELECT s.shard_id, t.relation,
       CASE WHEN t.distribution_column <> 0 THEN s.hash_min END AS hash_min,
       CASE WHEN t.distribution_column <> 0 THEN s.hash_max END AS hash_max, n.name AS node,
       CASE WHEN p.leader THEN 'leader' ELSE 'follower' END AS role,
       CASE WHEN p.active THEN 'active' WHEN p.copying THEN 'copying' ELSE 'stale' END AS state, z.rows, z.bytes
FROM panvel.distributed_table t
JOIN pg_catalog.pg_class c ON c.oid = t.relation
JOIN panvel.shard s USING (colocation_id)
JOIN panvel.placement p USING (shard_id)
JOIN panvel.node n USING (node_id)
LEFT JOIN panvel.placement_sizes() z
    ON z.node_id = p.node_id AND z.shard_id = s.shard_id AND z.table_name = c.relname
ORDER BY t.relation, s.hash_min, p.leader DESC, n.node_id;

-- An estimate is null where a part of it is not known. A reference table has no distribution
-- column and as many placements as there are nodes.
CREATE VIEW panvel.tables AS
SELECT t.relation, a.attname AS distribution_column, g.shard_count AS shards,
       CASE WHEN t.distribution_column <> 0 THEN g.replication_factor ELSE z.placements END
           AS replication_factor,
       t.colocation_id AS colocation, z.rows, z.bytes
FROM panvel.distributed_table t
JOIN panvel.colocation g USING (colocation_id)
LEFT JOIN pg_catalog.pg_attribute a
    ON a.attrelid = t.relation AND a.attnum = t.distribution_column AND t.distribution_column <> 0
LEFT JOIN (
    SELECT s.relation, count(*)::int AS placements,
           CASE WHEN pg_catalog.bool_and(s.rows IS NOT NULL OR s.role <> 'leader')
                THEN (pg_catalog.sum(s.rows) FILTER (WHERE s.role = 'leader'))::bigint END AS rows,
           CASE WHEN pg_catalog.bool_and(s.bytes IS NOT NULL)
                THEN pg_catalog.sum(s.bytes)::bigint END AS bytes
    FROM panvel.shards s GROUP BY s.relation) z USING (relation)
ORDER BY t.relation;

GRANT SELECT ON panvel.nodes, panvel.tables, panvel.shards TO PUBLIC;

CREATE FUNCTION panvel.run_on_nodes(sql text, OUT node text, OUT ok boolean, OUT result text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'panvel_run_on_nodes' LANGUAGE C VOLATILE ROWS 10;
COMMENT ON FUNCTION panvel.run_on_nodes(text) IS
    'runs one statement on every node, each in a transaction of its own';
REVOKE EXECUTE ON FUNCTION panvel.run_on_nodes(text) FROM PUBLIC;
