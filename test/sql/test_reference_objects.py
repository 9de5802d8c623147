"""docs/reference-objects.md lists what the extension has, no more and no less; pgvector's surface is part of it."""

import os

from panvel_test import postgres

DOCS = postgres.REPOSITORY / "docs"
LIST = DOCS / "reference-objects.md"
PGVECTOR = postgres.REPOSITORY / "test" / "sql" / "pgvector_objects.txt"

HEAD = """# Reference: every object

What `CREATE EXTENSION vector` makes and which settings it has; [reference-vector.md](reference-vector.md) says what
it is for. A test compares this list with the catalog (`PANVEL_WRITE_DOCS=1` writes it).

"""


def objects(db):
    """Kind and identity, as pg_identify_object() gives them; settings with their defaults."""
    with db.connect() as connection:
        connection.execute("load 'vector'")
        rows = connection.execute("""
        select o.type || ' ' || replace(replace(o.identity, 'public.', ''), 'pg_catalog.', '')
        from pg_depend d join pg_extension e on e.oid = d.refobjid and e.extname = 'vector' and d.deptype = 'e',
             pg_identify_object(d.classid, d.objid, d.objsubid) o""").fetchall()
        settings = connection.execute("""
            select 'setting ' || name || ' = ' || boot_val from pg_settings
            where name ~ '^(vector|hnsw|ivfflat)[.]'""").fetchall()
    return sorted(line for (line,) in rows + settings)


def listed():
    lines = LIST.read_text().splitlines()
    return [line[3:-1] for line in lines if line.startswith("- `")]


def test_the_list_is_the_catalog(db):
    found = objects(db)
    if os.environ.get("PANVEL_WRITE_DOCS"):
        LIST.write_text(HEAD + "".join(f"- `{line}`\n" for line in found))
    documented = listed()
    assert set(found) - set(documented) == set(), "missing in docs/reference-objects.md"
    assert set(documented) - set(found) == set(), "in docs/reference-objects.md only"
    assert documented == found


def test_everything_that_pgvector_has_is_there(db):
    wanted = [line for line in PGVECTOR.read_text().splitlines() if line and not line.startswith("#")]
    assert len(wanted) > 200
    assert set(wanted) - set(objects(db)) == set()


def test_the_reference_describes_all_that_is_meant_for_use(db):
    """Every function, operator, type, class and setting by its name, but for input and output functions."""
    text = (DOCS / "reference-vector.md").read_text().replace("\\|", "|")
    names = db.query("""
        select distinct coalesce(p.proname, o.oprname, t.typname, c.opcname)::text
        from pg_depend d join pg_extension e on e.oid = d.refobjid and e.extname = 'vector' and d.deptype = 'e'
             left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
                  and p.proname !~ '_(in|out|recv|send|typmod_in)$'
             left join pg_operator o on d.classid = 'pg_operator'::regclass and o.oid = d.objid
             left join pg_type t on d.classid = 'pg_type'::regclass and t.oid = d.objid and t.typcategory <> 'A'
             left join pg_opclass c on d.classid = 'pg_opclass'::regclass and c.oid = d.objid
        where coalesce(p.oid, o.oid, t.oid, c.oid) is not null""")
    missing = sorted(name for (name,) in names if f"`{name}`" not in text and f"`{name}(" not in text)
    assert len(names) > 100 and not missing
