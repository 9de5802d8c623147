-- Bytes on the nodes, over all placements; of a table of the coordinator what pg_relation_size() and
-- its kin say. Those say of a distributed table what its shell takes.
CREATE FUNCTION panvel.relation_size(relation regclass) RETURNS bigint
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'panvel_relation_size';
COMMENT ON FUNCTION panvel.relation_size(regclass) IS
    'bytes of a distributed table or index on all nodes, without TOAST';

CREATE FUNCTION panvel.table_size(relation regclass) RETURNS bigint
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'panvel_table_size';
COMMENT ON FUNCTION panvel.table_size(regclass) IS
    'bytes of a distributed table on all nodes, with TOAST, without indexes';

CREATE FUNCTION panvel.indexes_size(relation regclass) RETURNS bigint
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'panvel_indexes_size';
COMMENT ON FUNCTION panvel.indexes_size(regclass) IS
    'bytes of a distributed table''s indexes on all nodes';

CREATE FUNCTION panvel.total_relation_size(relation regclass) RETURNS bigint
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'panvel_total_relation_size';
COMMENT ON FUNCTION panvel.total_relation_size(regclass) IS
    'bytes of a distributed table on all nodes, with TOAST and indexes';
