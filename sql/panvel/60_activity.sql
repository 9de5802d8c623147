CREATE FUNCTION panvel.remote_activity(OUT pid int, OUT node text, OUT shard_id bigint,
                                       OUT query text, OUT state text, OUT since timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'panvel_remote_activity' LANGUAGE C VOLATILE ROWS 10;
COMMENT ON FUNCTION panvel.remote_activity() IS
    'statements and transactions of this database''s sessions on nodes; of others'' roles to pg_read_all_stats';

CREATE VIEW panvel.activity AS SELECT * FROM panvel.remote_activity();
COMMENT ON VIEW panvel.activity IS
    'remote statements under way, and remote transactions that are open: pid is the backend here';
GRANT SELECT ON panvel.activity TO PUBLIC;
