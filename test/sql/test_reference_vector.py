"""docs/reference-vector.md: its examples give what it prints, and it lists the whole catalog."""

import re

from panvel_test import postgres

TEXT = (postgres.REPOSITORY / "docs" / "reference-vector.md").read_text()


def stripped(output):
    """psql's table without trailing blanks, row count and command tags."""
    lines = [line.rstrip() for line in output.splitlines()]
    return [line for line in lines if line and not re.fullmatch(r"\(\d+ rows?\)", line)]


def test_examples(db):
    db.execute("drop extension vector")
    examples = re.findall(r"```sql\n(.*?)```\n(?:```\n(.*?)```)?", TEXT, re.S)
    assert len(examples) >= 7
    for sql, printed in examples:
        result = db.psql("\\pset format aligned\n\\pset tuples_only off\n" + sql)
        assert stripped(result.stdout) == stripped(printed), sql


def test_lists_every_function_operator_and_class_of_the_type(db):
    names = db.query("""
        select distinct coalesce(p.proname, o.oprname)::text
        from pg_depend d join pg_extension e on e.oid = d.refobjid and e.extname = 'vector' and d.deptype = 'e'
             left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
             left join pg_operator o on d.classid = 'pg_operator'::regclass and o.oid = d.objid
        where 'vector'::regtype = any (string_to_array(p.proargtypes::text, ' ')::oid[] || p.prorettype)
           or 'vector'::regtype in (o.oprleft, o.oprright)""")
    input_output = {"vector_in", "vector_out", "vector_recv", "vector_send", "vector_typmod_in"}
    text = TEXT.replace("\\|", "|")
    missing = [name for (name,) in names if name not in input_output and not re.search(rf"`{re.escape(name)}[`(]", text)]
    assert len(names) > 40 and not missing
