-- Placements compared row by row (coordinator/replication/README.md).
CREATE FUNCTION panvel.check_placements(relation regclass)
    RETURNS TABLE (shard_id bigint, node text, rows bigint, checksum text, equal boolean)
    LANGUAGE C VOLATILE STRICT ROWS 100 AS 'MODULE_PATHNAME', 'panvel_check_placements';
COMMENT ON FUNCTION panvel.check_placements(regclass) IS
    'counts and checksums of all placements of a table, compared with the leaders''; writes wait meanwhile';

-- Placements that get what they lack (coordinator/replication/README.md), since the server's start.
CREATE FUNCTION panvel.job_states(OUT job_id bigint, OUT kind text, OUT state text, OUT done bigint,
        OUT total bigint, OUT started timestamptz, OUT finished timestamptz, OUT error text,
        OUT shard_id bigint, OUT node_id int, OUT relation regclass) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'panvel_job_states' LANGUAGE C VOLATILE ROWS 10;
COMMENT ON FUNCTION panvel.job_states() IS
    'work on this database''s placements; for the view panvel.jobs';

CREATE VIEW panvel.jobs AS
SELECT j.job_id, j.kind, j.state, j.done, j.total, j.started, j.finished, j.error, j.shard_id, n.name AS node, j.relation
FROM panvel.job_states() j LEFT JOIN panvel.node n USING (node_id)
ORDER BY j.job_id;
COMMENT ON VIEW panvel.jobs IS
    'placements that catch up or are built anew: done and total count rows and journal entries; tables that are distributed: pages; error: why it waits';
GRANT SELECT ON panvel.jobs TO PUBLIC;

CREATE FUNCTION panvel.repair() RETURNS int
AS 'MODULE_PATHNAME', 'panvel_repair' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION panvel.repair() IS
    'replaces placements on nodes that are down by new ones on other nodes; returns how many; panvel.jobs shows their progress';
REVOKE EXECUTE ON FUNCTION panvel.repair() FROM PUBLIC;
