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


def definition(db, table):
    """`table`: a qualified name. What db has of it, free of schemas' names."""
    schema = table.split(".")[0]
    found = {}
    with db.connect() as connection:
        connection.execute("set search_path = pg_catalog")
        for part, sql in PARTS.items():
            rows = connection.execute(sql.format(table=f"'{table}'::regclass").replace("%", "%%")).fetchall()
            texts = ["|".join("" if value is None else str(value) for value in row) for row in rows]
            found[part] = [re.sub(r"(REFERENCES|ON|STATISTICS|FROM) (\"?\w+\"?)\.", r"\1 ", text) for text in texts]
        found["defaults"] = connection.execute(
            f"select attname from pg_attribute where attrelid = '{table}'::regclass and atthasdef and attgenerated = ''"
        ).fetchall()
    return found, schema


def check_shards(cluster, table):
    """Asserts that all placements of `table` are defined as the shell is, and have no defaults. Returns how many there are."""
    relid = cluster.value(f"select '{table}'::regclass::oid")
    schema, name = cluster.query(f"select quote_ident(nspname), quote_ident(relname) from pg_class c join pg_namespace n on n.oid = relnamespace where c.oid = {relid}")[0]
    shell, _ = definition(cluster, f"{schema}.{name}")
    shell.pop("defaults")
    placements = cluster.query(f"select node, shard_id from panvel.shards where relation = {relid}")
    for node, shard_id in placements:
        shard, _ = definition(cluster.worker(node), f"panvel_s{shard_id}.{name}")
        assert shard.pop("defaults") == [], (table, node, shard_id)
        for part, rows in shell.items():
            if shard[part] != rows:
                raise AssertionError(f"{part} of {table} on {node}, shard {shard_id}:\n{shard[part]}\ninstead of\n{rows}")
    return len(placements)
