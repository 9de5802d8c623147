-- The table access method of the shell that a distributed table is on the coordinator
-- (coordinator/catalog/shell_am.cpp).
CREATE FUNCTION panvel.shell_handler(internal) RETURNS table_am_handler
AS 'MODULE_PATHNAME', 'panvel_shell_handler' LANGUAGE C STRICT;
CREATE ACCESS METHOD panvel TYPE TABLE HANDLER panvel.shell_handler;
COMMENT ON ACCESS METHOD panvel IS
    'a distributed table on its coordinator; made by panvel.create_distributed_table()';
CREATE FUNCTION panvel.create_distributed_table(relation regclass, distribution_column name,
        shard_count int DEFAULT NULL, replication_factor int DEFAULT NULL,
        colocate_with regclass DEFAULT NULL) RETURNS void
AS 'MODULE_PATHNAME', 'panvel_create_distributed_table' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION panvel.create_distributed_table(regclass, name, int, int, regclass) IS
    'spreads a table over the nodes by the hash of a column; its rows move to the shards';

CREATE FUNCTION panvel.create_reference_table(relation regclass) RETURNS void
AS 'MODULE_PATHNAME', 'panvel_create_reference_table' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION panvel.create_reference_table(regclass) IS
    'puts a copy of a table on every node, so that it is joined there';

CREATE FUNCTION panvel.undistribute_table(relation regclass) RETURNS void
AS 'MODULE_PATHNAME', 'panvel_undistribute_table' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION panvel.undistribute_table(regclass) IS
    'brings the rows of a distributed or reference table back into an ordinary table';
