-- The table access method of the shell that a distributed table is on the coordinator
-- (coordinator/catalog/shell_am.cpp).
CREATE FUNCTION panvel.shell_handler(internal) RETURNS table_am_handler
AS 'MODULE_PATHNAME', 'panvel_shell_handler' LANGUAGE C STRICT;
CREATE ACCESS METHOD panvel TYPE TABLE HANDLER panvel.shell_handler;
COMMENT ON ACCESS METHOD panvel IS
    'a distributed table on its coordinator; made by panvel.create_distributed_table()';
