"""Whether the shards of a table are defined as their shell is: compares what the catalogs say, part by part."""

import re

# {table}: a regclass. Each gives rows of text; names of schemas are taken out afterwards.
PARTS = {
    "columns": """
        select attname, format_type(atttypid, atttypmod), attnotnull, attgenerated, attstorage, attcompression, attstattarget,
               array(select o from unnest(attoptions) o where o not like 'pg_attver=%'), attcollation::regcollation, case when attgenerated <> '' then pg_get_expr(adbin, adrelid) end
        from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attrelid = {table} and attnum > 0 and not attisdropped order by attname""",
    "constraints": """
        select conname, contype, convalidated, condeferrable, condeferred, pg_get_constraintdef(oid)
        from pg_constraint where conrelid = {table} order by conname""",
    "indexes": """
        select c.relname, pg_get_indexdef(i.indexrelid), c.reloptions, indisclustered, indisreplident, indisvalid, indisprimary,
               array(select attstattarget from pg_attribute where attrelid = c.oid order by attnum)
        from pg_index i join pg_class c on c.oid = i.indexrelid where indrelid = {table} order by 1""",
    "table": """
        select relname, pg_get_userbyid(relowner), reloptions, relrowsecurity, relforcerowsecurity, relreplident
        from pg_class where oid = {table}""",
    "rights": """
        select grantee::regrole, privilege_type, is_grantable, ''
        from pg_class, aclexplode(relacl) where pg_class.oid = {table} and grantee <> relowner
        union all
        select grantee::regrole, privilege_type, is_grantable, attname
        from pg_attribute, aclexplode(attacl) where attrelid = {table} and not attisdropped
        order by 1, 2, 3, 4""",
    "policies": """
        select polname, polcmd, polpermissive, array(select case r when 0 then 'public' else r::regrole::text end from unnest(polroles) r order by 1),
               pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
        from pg_policy where polrelid = {table} order by 1""",
    "statistics": """
        select stxname, pg_get_statisticsobjdef(oid), stxstattarget from pg_statistic_ext where stxrelid = {table} order by 1""",
}


def definition(connection, table):
    """`table`: a qualified name. What the catalogs have of it, free of schemas' names; defaults apart."""
    parts = {**PARTS, "defaults": "select attname from pg_attribute where attrelid = {table} and atthasdef and attgenerated = '' order by 1"}
    regclass = f"'{table}'::regclass"
    columns = [
        f"(select coalesce(json_agg(p::text), '[]') from ({sql.format(table=regclass)}) p)" for sql in parts.values()
    ]
    row = connection.execute(("select " + ", ".join(columns)).encode()).fetchone()
    return {
        part: [re.sub(r'(REFERENCES|ON|STATISTICS|FROM) ("*\w+"*)\.', r"\1 ", text) for text in texts]
        for part, texts in zip(parts, row)
    }


class Checker:
    """Keeps a session for each server."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.sessions = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for session in self.sessions.values():
            session.close()

    def session(self, db):
        if db not in self.sessions:
            self.sessions[db] = db.connect()
            self.sessions[db].execute("set search_path = pg_catalog")
        return self.sessions[db]

    def check(self, relid):
        """Asserts that all placements of the table are defined as the shell is, and have no defaults. Returns how many there are."""
        session = self.session(self.cluster)
        schema, name = session.execute(
            "select quote_ident(nspname), quote_ident(relname) from pg_class c join pg_namespace n on n.oid = relnamespace where c.oid = %s",
            [relid],
        ).fetchone()
        shell = definition(session, f"{schema}.{name}")
        shell["defaults"] = []
        placements = session.execute(
            "select n.name, shard_id from panvel.distributed_table join panvel.shard s using (colocation_id) "
            "join panvel.placement using (shard_id) join panvel.node n using (node_id) where relation = %s",
            [relid],
        ).fetchall()
        for node, shard_id in placements:
            shard = definition(self.session(self.cluster.worker(node)), f"panvel_s{shard_id}.{name}")
            for part, rows in shell.items():
                if shard[part] != rows:
                    raise AssertionError(f"{part} of {name} on {node}, shard {shard_id}:\n{shard[part]}\ninstead of\n{rows}")
        return len(placements)

    def check_all(self):
        for (relid,) in self.session(self.cluster).execute("select relation::oid from panvel.distributed_table").fetchall():
            assert self.check(relid) > 0


def check_shards(cluster, table):
    with Checker(cluster) as checker:
        return checker.check(cluster.value(f"select '{table}'::regclass::oid"))
