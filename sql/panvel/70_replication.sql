-- Placements compared row by row (coordinator/replication/README.md).
CREATE FUNCTION panvel.check_placements(relation regclass)
    RETURNS TABLE (shard_id bigint, node text, rows bigint, checksum text, equal boolean)
    LANGUAGE C VOLATILE STRICT ROWS 100 AS 'MODULE_PATHNAME', 'panvel_check_placements';
COMMENT ON FUNCTION panvel.check_placements(regclass) IS
    'counts and checksums of all placements of a table, compared with the leaders''; writes wait meanwhile';
