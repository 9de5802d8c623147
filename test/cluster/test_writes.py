"""INSERT, UPDATE and DELETE on a distributed table do what they do on a plain one."""

import psycopg
import pytest
from panvel_test import wait_until

from write_statements import CONFLICTS, INSERTS, ITEMS, REFUSED, UPDATES


class Pair:
    """The same tables in two schemas of one database: `dist` distributed, `plain` not."""

    def __init__(self, database, *statements):
        self.database = database
        self.connections = {}
        for schema in ("plain", "dist"):
            connection = self.connections[schema] = database.connect()
            connection.execute(f"create schema {schema}")
            connection.execute(f"set search_path = {schema}, public")
            for statement in statements:
                connection.execute(statement)

    def distribute(self, table, column, **options):
        more = "".join(f", {name} => {value}" for name, value in options.items())
        self.connections["dist"].execute(
            f"select panvel.create_distributed_table('{table}', '{column}'{more})"
        )
        return self

    def outcome(self, schema, sql, parameters=None):
        try:
            cursor = self.connections[schema].execute(sql, parameters)
        except psycopg.Error as error:
            diag = error.diag
            return ("error", diag.sqlstate, diag.message_primary, diag.constraint_name)
        rows = cursor.fetchall() if cursor.description else None
        names = [column.name for column in cursor.description or []]
        return cursor.statusmessage, names, rows

    def same(self, sql, tables, parameters=None, ordered=False):
        """Runs the statement on both; what it returns and leaves must be equal."""
        plain = self.outcome("plain", sql, parameters)
        dist = self.outcome("dist", sql, parameters)
        if plain[0] != "error" and plain[2] is not None and not ordered:
            plain, dist = comparable(plain), comparable(dist)
        assert dist == plain, sql
        for table in tables:
            state = f"select * from {table} order by {table}::text"
            assert self.outcome("dist", state) == self.outcome("plain", state), f"{table}: {sql}"
        return plain

    def refused(self, sql, names):
        status, sqlstate, message, *_ = self.outcome("dist", sql)
        assert (status, sqlstate) == ("error", "0A000"), (sql, message)
        assert names in message, sql


def comparable(outcome):
    if outcome[0] == "error":
        return outcome
    return outcome[0], outcome[1], sorted(map(repr, outcome[2]))


ITEM_TABLES = [
    ITEMS,
    "create table labels (w int, l text)",
    "insert into labels values (1, 'one'), (2, 'two'), (3, 'three')",
    "create view items_view as select id, k, v from items where k < 500",
    "create view items_checked as select id, k from items where k < 500 with check option",
    "create view items_barrier with (security_barrier) as select id, k from items where k < 500",
    """create function local_function(text) returns text language plpgsql immutable
       as $$ begin return $1 || 'local'; end $$""",
]


@pytest.fixture
def items(cluster):
    return Pair(cluster, *ITEM_TABLES).distribute("items", "id", shard_count=5)


# ---------------------------------------------------------------------- same as a plain table
def test_insert(items):
    for sql in INSERTS:
        # Rows are returned in the order they are inserted.
        items.same(sql, ["items", "labels"], ordered="returning" in sql and "with" not in sql)


def test_on_conflict(items):
    for sql in CONFLICTS:
        items.same(sql, ["items"])


def test_update_and_delete(items):
    for sql in UPDATES:
        items.same(sql, ["items", "labels"])


def test_refused(items):
    for sql, names in REFUSED:
        items.refused(sql, names)
    assert items.connections["dist"].execute("select count(*) from items").fetchone() == (0,)
