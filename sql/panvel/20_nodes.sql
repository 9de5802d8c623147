CREATE FUNCTION panvel.add_node(name text, host text, port int DEFAULT 5432,
                                dbname text DEFAULT current_database()) RETURNS int
AS 'MODULE_PATHNAME', 'panvel_add_node' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION panvel.add_node(text, text, int, text) IS
    'makes a PostgreSQL server with extension vector a node that can hold shards';

CREATE FUNCTION panvel.remove_node(name text) RETURNS void
AS 'MODULE_PATHNAME', 'panvel_remove_node' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION panvel.remove_node(text) IS 'forgets a node that holds no shards';

CREATE FUNCTION panvel.set_node(name text, host text, port int) RETURNS void
AS 'MODULE_PATHNAME', 'panvel_set_node' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION panvel.set_node(text, text, int) IS
    'tells the coordinator that a node is reached at another address';

REVOKE EXECUTE ON FUNCTION panvel.add_node(text, text, int, text), panvel.remove_node(text),
    panvel.set_node(text, text, int) FROM PUBLIC;
