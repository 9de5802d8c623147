"""Names, literals and settings reach the nodes as what they are: none of them can make a node run other SQL.

Random statements are run on distributed tables and on plain ones of the same names; both must give the same, and the
canaries on all nodes must live. PANVEL_SEED=... repeats a run.
"""

import random

import psycopg
from psycopg import sql

from panvel_test.distributed import chosen_seed

ROUNDS = 5
PLACEHOLDER = "<parameter>"  # of a statement that has names with "%s" in them
PIECES = ["'", '"', "\\", "$$", "$a$", ";", "--", "/*", "*/", "%", "%s", "{}", "(", ")", ",", ".", " ", "\n", "\t", "=", "::text", "$1",
          "ä", "ẞ", "日本", "🐘", "\u200b", "\u0301", "a", "Z", "_", "0", "select", "null", "E'", "U&\"", "'';", "\"\";", "\\'", "\\\"",
          "'; drop table public.canary; --", "\"; drop table public.canary; --", "$$; drop table public.canary; $$",
          "\\'; drop table public.canary; --", "'); drop table public.canary; --", "\r\n\\c postgres"]


class Nasty:
    """Random texts that are anything but harmless."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.count = 0

    def text(self):
        return "".join(self.random.choice(PIECES) for _ in range(self.random.randint(0, 6)))

    def name(self):
        """A new identifier of up to 63 bytes; some of exactly that."""
        self.count += 1
        text = f"{self.text()}{self.count}"
        if self.random.random() < 0.3:
            text = (text * 63)[:60] + f"{self.count}"
        return text.encode()[-63:].decode(errors="ignore")

    def literal(self):
        return sql.Literal(self.text())


def composable(argument):
    if isinstance(argument, str):
        return sql.Identifier(argument)
    return sql.Identifier(*argument) if isinstance(argument, tuple) else argument


class Both:
    """A session with the distributed tables and one with the plain ones: what one does, the other does."""

    def __init__(self, distributed, plain):
        self.distributed = distributed
        self.plain = plain

    def run(self, statement, parameters=None):
        found = outcome(self.distributed, statement, parameters)
        expected = outcome(self.plain, statement, parameters)
        assert found == expected, statement
        return found

    def format(self, text, *arguments, parameters=None):
        """`arguments`: names, names with a schema as tuples, and literals."""
        statement = sql.SQL(text).format(*map(composable, arguments)).as_string(self.plain)
        if parameters is not None:  # psycopg's placeholders are the text's, not those of the names
            statement = statement.replace("%", "%%").replace(PLACEHOLDER, "%s")
        return self.run(statement, parameters)


def outcome(connection, statement, parameters):
    """Rows in an order of their own, or the SQLSTATE."""
    try:
        cursor = connection.execute(statement, parameters)
        return sorted(map(repr, cursor.fetchall())) if cursor.description else cursor.rowcount
    except psycopg.Error as error:
        assert not connection.closed, error
        return error.sqlstate


def ok(result):
    assert not isinstance(result, str), result
    return result


def canaries_live(cluster):
    assert cluster.value("select count(*) from public.canary") == 1
    for worker in cluster.workers:
        assert worker.value("select count(*) from public.canary") == 1
        stray = "select nspname from pg_namespace where nspname !~ '^(pg_|panvel_s[0-9]+$)' and nspname not in ('public', 'information_schema')"
        assert worker.query(stray) == []


def write_and_read(both, nasty, table, key, value):
    keys = [nasty.text() + str(i) for i in range(8)]
    for i, text in enumerate(keys):
        if i % 2:
            ok(both.format("insert into {} ({}, {}) values (<parameter>, <parameter>)", table, key, value, parameters=[text, nasty.text()]))
        else:
            ok(both.format("insert into {} values ({}, {}), ({}, default)", table, sql.Literal(text), nasty.literal(),
                           sql.Literal(text + "+")))
    some = sql.Literal(keys[0])
    ok(both.format("select * from {}", table))
    # A pattern that ends with a backslash is an error where LIKE is computed, and none where an index makes it `=`.
    both.format("select {1} || {2}, {2} from {0} where {1} = {3} or {2} like {4} || '%'", table, key, value, some, nasty.literal())
    ok(both.format("select {1} as {2}, count(*) from {0} group by 1 having min({1}) <> {3}", table, value, nasty.name(), nasty.literal()))
    ok(both.format("update {0} set {1} = {1} || {2} where {3} <> <parameter>", table, value, nasty.literal(), key, parameters=[nasty.text()]))
    ok(both.format("insert into {0} values ({1}, {2}) on conflict ({3}) do update set {4} = {0}.{4} || excluded.{4} || {5}"
                   " returning {3}, {4} as {6}", table, some, nasty.literal(), key, value, nasty.literal(), nasty.name()))
    ok(both.format("delete from {} where {} = <parameter> returning *", table, key, parameters=[keys[1]]))
    cursor, savepoint, prepared = nasty.name(), nasty.name(), nasty.name()
    ok(both.run("begin"))
    ok(both.format("savepoint {}", savepoint))
    ok(both.format("declare {} cursor for select * from {} order by {} collate \"C\"", cursor, table, key))
    ok(both.format("fetch all from {}", cursor))
    ok(both.format("rollback to {}", savepoint))
    ok(both.run("commit"))
    ok(both.format("prepare {} (text) as select * from {} where {} = $1", prepared, table, key))
    ok(both.format("execute {} ({})", prepared, some))


def change(both, nasty, table, key, value, role):
    column, renamed, check, index = nasty.name(), nasty.name(), nasty.name(), nasty.name()
    for text, arguments in [
        ("alter table {} add column {} text not null default {}", (table, column, nasty.literal())),
        ("alter table {} rename column {} to {}", (table, column, renamed)),
        ("alter table {} alter column {} set default {}", (table, value, nasty.literal())),
        ("alter table {} add constraint {} check ({} <> {})", (table, check, renamed, sql.Literal("never" + nasty.text()))),
        ("create index {} on {} (lower({}), ({} || {})) where {} <> {}",
         (index, table, key, renamed, nasty.literal(), value, nasty.literal())),
        ("comment on table {} is {}", (table, nasty.literal())),
        ("grant select, update ({}) on {} to {}", (renamed, table, role)),
        ("select {}, {} from {}", (renamed, value, table)),
        ("alter table {} drop constraint {}", (table, check)),
        ("revoke all on {} from {}", (table, role)),
        ("drop index {}", ((table[0], index),)),
        ("alter table {} drop column {}", (table, renamed)),
    ]:
        ok(both.format(text, *arguments))


SETTINGS = ["TimeZone", "DateStyle", "IntervalStyle", "application_name", "extra_float_digits", "bytea_output", "search_path",
            "hnsw.ef_search", "hnsw.iterative_scan", "statement_timeout", "lc_monetary", "xmlbinary", "default_transaction_isolation"]


def set_settings(both, nasty, table):
    """Taken or refused, as on one server; and what is then run gives the same."""
    for name in SETTINGS:
        both.run("select set_config(%s, %s, false) is not null", [name, nasty.text()])
        ok(both.format("select * from {}", table))
    ok(both.run("reset all"))


def test_names_literals_and_settings(cluster, db):
    nasty = Nasty(chosen_seed())
    for database in [cluster, *cluster.workers]:
        database.execute("create table public.canary (id int); insert into public.canary values (1)")
    databases = [cluster, *cluster.workers, db]
    with cluster.connect() as distributed, db.connect() as plain:
        both = Both(distributed, plain)
        ok(both.run("load 'vector'"))  # which knows hnsw.*, and what it may be set to
        for _ in range(ROUNDS):
            schema, name, key, value, role = (nasty.name() for _ in range(5))
            table = (schema, name)
            try:
                for database in databases:
                    database.server.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
                ok(both.format("create schema {}", schema))
                ok(both.format("create table {} ({} text constraint {} primary key, {} text default {}, constraint {} unique ({}, {}))",
                               table, key, nasty.name(), value, nasty.literal(), nasty.name(), value, key))
                ok(both.format("alter table {} owner to {}", table, role))
                arguments = [sql.Identifier(*table).as_string(distributed), key, nasty.random.randint(1, 4)]
                distributed.execute("select panvel.create_distributed_table(%s, %s, %s)", arguments)
                write_and_read(both, nasty, table, key, value)
                change(both, nasty, table, key, value, role)
                set_settings(both, nasty, table)
                canaries_live(cluster)
                distributed.execute("select panvel.undistribute_table(%s)", arguments[:1])
                ok(both.format("select * from {}", table))
                ok(both.format("drop schema {} cascade", schema))
            finally:
                distributed.rollback()
                plain.rollback()
                for database in databases:
                    database.execute(sql.SQL("drop owned by {} cascade").format(sql.Identifier(role)))
                    database.server.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
    canaries_live(cluster)
