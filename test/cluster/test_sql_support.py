"""docs/sql-support.md says of each construct in sql_constructs.py what running it gives.

    PANVEL_WRITE_DOCS=1 pytest test/cluster/test_sql_support.py      writes the file anew
"""

import os
import pathlib

import psycopg
import pytest

from sql_constructs import ALONE, SECTIONS

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "sql-support.md"

TABLES = """
    create table items (id int primary key, category text, price float8, at timestamptz, embedding vector(3), tags text[]);
    create table reviews (item int, n int, stars int);
    create table orders (id int primary key, item int);
    create table categories (name text primary key, parent text);
    create table notes (id int primary key, body text);
    create table notes_copy (like notes);
    insert into items select i, 'c' || i % 4, i % 7, timestamptz '2024-01-01 00:00+00' + i * interval '1 day',
        format('[%s,%s,3]', i, i % 5)::vector, array['t' || i % 3, 'u'] from generate_series(1, 20) i;
    insert into reviews select i % 20 + 1, i, i % 5 from generate_series(1, 30) i;
    insert into orders select i, i * 3 % 25 from generate_series(1, 15) i;
    insert into categories select 'c' || i, 'c' || i / 2 from generate_series(1, 5) i;
    insert into notes select i, 'n' || i from generate_series(1, 5) i;
"""
DISTRIBUTE = """
    select panvel.create_distributed_table('items', 'id', 5);
    select panvel.create_distributed_table('reviews', 'item', colocate_with => 'items');
    select panvel.create_distributed_table('orders', 'id', 5);
    select panvel.create_reference_table('categories');
    select panvel.create_distributed_table('notes_copy', 'id', 5);
"""
REFERENCE = "".join(
    f"select panvel.create_reference_table('{table}');\n" for table in ("items", "reviews", "orders", "categories", "notes_copy")
)
HEAD = """# SQL on distributed tables

What each of these statements does on the tables described below, found out by running it: the test
`test/cluster/test_sql_support.py` fails where this file says something else, and writes it anew with
`PANVEL_WRITE_DOCS=1`. **yes**: it does what it does on a plain table. Otherwise the error is shown (SQLSTATE and message); nothing is
half done then, and the message comes with a hint.

`items` is distributed by `id`; `reviews` is colocated with it by `item`; `orders` is distributed by its own
`id`; `categories` is a reference table; `notes` is an ordinary table of the coordinator. The last column says what the
same statement does where all of these but `notes` are reference tables.
"""


@pytest.fixture(scope="module")
def databases(shared_cluster):
    """Databases with the same tables: distributed, reference tables, plain."""
    names = ("support", "support_reference", "support_plain")
    all_databases = [shared_cluster.database(name) for name in names]
    for database in all_databases:
        database.execute(TABLES)
    all_databases[0].execute(DISTRIBUTE)
    all_databases[1].execute(REFERENCE)
    yield all_databases
    for database in all_databases:
        database.drop()


def run(connection, construct, text):
    """The last statement's rows, or the error; the database is as before."""
    begun = construct not in ALONE
    try:
        if begun:
            connection.execute("begin")
        with connection.cursor() as cursor:
            for statement in text.split(";\n"):
                if statement.startswith("COPY") and "STDOUT" in statement:
                    with cursor.copy(statement) as copy:
                        return sorted(copy.rows())
                if statement.startswith("COPY"):
                    with cursor.copy(statement) as copy:
                        copy.write("1\tone\n2\ttwo\n")
                    cursor.execute("select * from notes_copy order by 1")
                else:
                    cursor.execute(statement)
            if text.startswith("EXPLAIN"):
                return "a plan"
            return sorted(map(repr, cursor.fetchall())) if cursor.description else cursor.rowcount
    except psycopg.Error as error:
        assert not connection.closed, (text, error)
        return error
    finally:
        if begun:
            connection.execute("rollback")


def outcome(connection, expected, construct, text):
    """`expected`: what it gives on plain tables."""
    result = run(connection, construct, text)
    if not isinstance(result, psycopg.Error):
        assert result == expected, text
        return "yes"
    if isinstance(expected, psycopg.Error) and expected.sqlstate == result.sqlstate != "0A000":
        return "yes"
    assert result.sqlstate != "XX000", (text, result)
    if result.sqlstate == "0A000":
        assert result.diag.message_hint, f"no hint: {text}: {result}"
    return f"{result.sqlstate}: {result.diag.message_primary}"


def escaped(text):
    return text.replace("|", "\\|").replace("\n", " ")


def shown(result):
    return "**yes**" if result == "yes" else escaped(result)


def document(databases):
    with databases[0].connect() as distributed, databases[1].connect() as reference, databases[2].connect() as plain:
        text = HEAD
        for section, constructs in SECTIONS.items():
            text += f"\n## {section}\n\n| construct | for example | distributed | reference |\n|---|---|---|---|\n"
            for construct, statement in constructs:
                expected = run(plain, construct, statement)
                results = [shown(outcome(tables, expected, construct, statement)) for tables in (distributed, reference)]
                text += f"| {construct} | `{escaped(statement)}` | {results[0]} | {results[1]} |\n"
    return text


@pytest.mark.timeout(600)
def test_the_document_says_what_is_so(databases):
    found = document(databases)
    if os.environ.get("PANVEL_WRITE_DOCS"):
        DOCUMENT.write_text(found)
    assert DOCUMENT.read_text().splitlines() == found.splitlines()
