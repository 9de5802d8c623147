"""INSERT, UPDATE and DELETE on a distributed table do what they do on a plain one."""

import threading

import psycopg
import pytest
from panvel_test import wait_until

from write_statements import BY_ROWS, CONFLICTS, INSERTS, ITEMS, MERGES, REFUSED, UPDATES, UPSERTS_BY_ROWS


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
            assert not self.connections[schema].closed, f"{sql}: {error}"
            diag = error.diag
            # Nodes name what is outside pg_catalog with its schema.
            message = diag.message_primary.replace("public.", "")
            return ("error", diag.sqlstate, message, diag.constraint_name)
        if not cursor.description:
            return cursor.statusmessage, [], None
        names = [column.name for column in cursor.description]
        # As sent, not as Python understands it: NaN is equal to NaN.
        result = cursor.pgresult
        columns = range(result.nfields)
        rows = [tuple(result.get_value(row, c) for c in columns) for row in range(result.ntuples)]
        return cursor.statusmessage, names, rows

    def same(self, sql, tables, parameters=None, ordered=False):
        """Runs the statement on both; what it returns and leaves must be equal."""
        plain = self.outcome("plain", sql, parameters)
        dist = self.outcome("dist", sql, parameters)
        if plain[0] != "error" and plain[2] is not None and not ordered:
            plain, dist = comparable(plain), comparable(dist)
        assert dist == plain, f"{sql}: {difference(dist, plain)}"
        for table in tables:
            state = f"select * from {table} order by {table}::text"
            dist_state, plain_state = self.outcome("dist", state), self.outcome("plain", state)
            assert dist_state == plain_state, (
                f"{table} after {sql}: {difference(dist_state, plain_state)}"
            )
        return plain

    def same_or_refused(self, sql, tables):
        """As same(), but the distributed table may refuse: nothing is then changed on either."""
        dist = self.outcome("dist", sql)
        if dist[:2] == ("error", "0A000"):
            return "refused"
        plain = self.outcome("plain", sql)
        # Which of several errors is found first is open.
        if (dist[0], plain[0]) == ("error", "error"):
            assert dist[1] == plain[1] or {dist[1][:2], plain[1][:2]} <= {"22", "23"}, (sql, dist, plain)
            return "error"
        left, right = comparable(dist), comparable(plain)
        assert left == right, f"{sql}: {difference(left, right)}"
        for table in tables:
            state = f"select * from {table} order by {table}::text"
            left, right = self.outcome("dist", state), self.outcome("plain", state)
            assert left == right, f"{table} after {sql}: {difference(left, right)}"
        return "same"

    def refused(self, sql, names):
        status, sqlstate, message, *_ = self.outcome("dist", sql)
        assert (status, sqlstate) == ("error", "0A000"), (sql, message)
        assert names in message, sql


def difference(dist, plain):
    """What differs, short: the first row that does, only its differing columns."""
    if "error" in (dist[0], plain[0]) or dist[:2] != plain[:2] or not dist[2]:
        return dist, plain
    if len(dist[2]) != len(plain[2]):
        return f"{len(dist[2])} rows, not {len(plain[2])}"
    for left, right in zip(dist[2], plain[2]):
        if left != right:
            columns = zip(dist[1], left, right)
            return [column for column in columns if isinstance(left, tuple) and column[1] != column[2]]


def comparable(outcome):
    if outcome[0] == "error" or outcome[2] is None:
        return outcome
    return outcome[0], outcome[1], sorted(outcome[2], key=repr)


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


def test_on_conflict_by_rows(items):
    for sql in UPSERTS_BY_ROWS:
        items.same(sql, ["items"], ordered=True)


def test_on_conflict_by_rows_waits(items):
    """A row that another transaction is changing is waited for, and what it has then is what the new value is computed from."""
    dist = items.connections["dist"]
    dist.execute("insert into items (id, k) values (1, 1)")
    upsert = "insert into items (id, k) values (1, 5), (2, 5) on conflict (id) do update set k = items.k + excluded.k + random() * 0 returning id, k"
    with items.database.connect(autocommit=False) as other:
        other.execute("update dist.items set k = 100 where id = 1")
        rows = []
        thread = threading.Thread(target=lambda: rows.extend(dist.execute(upsert).fetchall()))
        thread.start()
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'INSERT INTO panvel%'"
        wait_until(lambda: sum(worker.value(waits) for worker in items.database.workers) == 1, 60)
        other.commit()
        thread.join()
    assert rows == [(1, 105), (2, 5)]


def test_update_and_delete(items):
    for sql in UPDATES:
        items.same(sql, ["items", "labels"])


def test_by_rows(items):
    items.connections["plain"].execute("analyze items")
    for sql in BY_ROWS:
        items.same(sql, ["items", "labels"])


def test_merge(items):
    for sql in MERGES:
        items.same(sql, ["items", "labels"])


def test_many_rows_by_rows(items):
    """More than one batch a shard, and more than one turn of RETURNING."""
    items.same("insert into items (id, k) select g, g % 900 from generate_series(1, 25000) g", [])
    for sql in (
        "update items set v = n::text from generate_series(1, 25000, 2) n where n = id returning id, n, v",
        "update items set f = random() * 0",
        "delete from items where id % 3 = 0 and random() < 2 returning id",
        """merge into items using generate_series(1, 30000, 5) n on n = id when matched then update set f = n
           when not matched then insert (id, k) values (n, 1)""",
    ):
        items.same(sql, ["items"])


def test_refused(items):
    items.connections["dist"].execute("insert into items (id, k) values (1, 1), (2, 2)")
    for sql, names in REFUSED:
        items.refused(sql, names)
        items.connections["dist"].execute("rollback")
    items.connections["dist"].execute("delete from items")
    assert items.connections["dist"].execute("select count(*) from items").fetchone() == (0,)


# ---------------------------------------------------------------------- values on the wire
TYPES = [
    "create type mood as enum ('sad', 'ok', 'happy')",
    "create domain positive as int check (value > 0)",
    "create domain ints as int[]",
    "create type pair as (a int, b text)",
    "create type named as (r regclass, p pair, d float8)",
    "create type moods as range (subtype = float8)",
]
WIDE = """create table wide (id int primary key, b bool, i2 int2, i8 int8, o oid, f4 float4, f8 float8,
    n numeric(20, 5), n0 numeric, t text, vc varchar(5), c char(4), c1 "char", nm name, by bytea,
    d date, tm time, tz timetz, ts timestamp, tsz timestamptz, iv interval, u uuid, ip inet, nt cidr,
    ma macaddr, bi bit(3), vb varbit, mo money, j json, jb jsonb, x xml, pt point, bx box, pa path,
    tv tsvector, tq tsquery, lsn pg_lsn, xid xid, tid tid, rc regclass, rt regtype, rp regprocedure,
    rn regnamespace, ro regrole, ai int[], at text[], an numeric[], arc regclass[], av vector[],
    m mood, am mood[], po positive, apo positive[], dom ints, pr pair, apr pair[], nd named,
    rg int4range, mr int4multirange, rm moods, v vector(3), acl aclitem, ov oidvector, iv2 int2vector,
    jp jsonpath)"""
VALUES = [
    """1, true, -32768, 9223372036854775807, 4294967295, 0.1, 0.1, 123456789012345.12345, 1e-30, 'ü''\\"',
    'abcde', 'ab', 'x', 'name', '\\x00ff', '2024-02-29', '23:59:59.999999', '12:00+05:30',
    '2024-01-01 00:00:00.000001', '2024-06-01 12:00+00', '1 mon -2 days 03:04:05.678', 
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.1.2.3/8', '10.0.0.0/8', '08:00:2b:01:02:03', '101',
    '10101', 12.34, '{"a": [1, null]}', '{"b": {"c": 1.50}}', '<a>x</a>', '(1,2)', '(1,1),(0,0)',
    '[(0,0),(1,1)]', 'fat:2A cat', 'fat & cat', '16/B374D848', '7', '(1,2)', 'pg_class', 'int4', 'lower(text)',
    'pg_catalog', 'postgres', '{1,null,3}', '{"a,b","c\\"d",null,""}', '{1.5,NaN}', '{pg_class,pg_type}',
    array['[1,2,3]','[4,5,6]']::vector[], 'ok', '{sad,happy}', 5, '{1,2}', '{7,8}', '(1,"x,y")',
    '{"(1,a)","(2,)"}', '(pg_class,"(1,z)",0.1)', '[1,5)', '{[1,2),[5,6)}', '[0.5,1.5)', '[1,2,3]',
    'postgres=r/postgres', '1 2 3', '4 5', '$.a[*]'""",
    """2, false, 0, 0, 0, 'NaN', '-Infinity', 'NaN', 'Infinity', '', '', '', '', '', '', 'infinity', '00:00', '24:00+00',
    '-infinity', 'infinity', '0', null, '::1', '::/0', null, '000', '', -0.01, 'null', 'null', '', '(NaN,0)',
    '(0,0),(0,0)', '((0,0))', '', '', '0/0', '0', '(0,0)', null, 'vector', null, null, null, '{}', '{{a,b},{c,d}}',
    '[0:1]={1,2}', '{}', '{}', null, '{}', 1, '{}', '{}', '(,)', '{}', '(,,)', 'empty', '{}', '(,)',
    '[0,0,0]', null, '', '', '$'""",
    "3",
]


@pytest.fixture
def wide(cluster):
    for database in [cluster, *cluster.workers]:
        for statement in TYPES:
            database.execute(statement)
    return Pair(cluster, WIDE).distribute("wide", "id", shard_count=2)


def test_every_type_survives_the_wire(wide):
    for single in VALUES:
        wide.same(f"insert into wide values ({single}) returning *", ["wide"])
    rows = "insert into wide values " + ", ".join(
        "(" + v.replace("1,", f"{n},", 1) + ")" for n in (11, 12, 13, 14) for v in VALUES[:1]
    )
    wide.same(rows + " returning *", ["wide"])
    wide.same("insert into wide select id + 100 as i, b, i2 from wide returning *", ["wide"])
    columns = "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute"
    rest = wide.database.value(columns + " where attrelid = 'plain.wide'::regclass and attnum > 1")
    wide.same(f"insert into wide select id + 1000, {rest} from wide returning *", ["wide"])
    wide.same("update wide set pr = '(9,z)', apo = '{3}', m = 'sad', rc = 'pg_type', dom = '{1}'", ["wide"])
    wide.same("update wide set pr.a = 77, nd.p.b = 'deep', apr[1].b = 'el' where id < 5 returning pr, nd, apr", ["wide"])
    wide.same("update wide set pr.b = pr.b || id, av[2] = v, dom[3] = i2 where id > 10 returning pr, av, dom", ["wide"])
    wide.same("insert into wide (id, pr.b, nd.p.a) values (60, 'x', 1), (61, 'y', 2) returning pr, nd", ["wide"])
    wide.same("update wide set po = -1 where id = 1", ["wide"])
    wide.same("insert into wide (id, po) values (50, 0)", ["wide"])


@pytest.mark.parametrize(
    "setting",
    [
        "client_encoding = latin1",
        "datestyle = 'german, dmy'",
        "intervalstyle = 'sql_standard'",
        "extra_float_digits = 0",
        "timezone = 'America/St_Johns'",
        "bytea_output = 'escape'",
    ],
)
def test_values_do_not_depend_on_settings(cluster, setting):
    pair = Pair(
        cluster,
        """create table t (id int primary key, txt text, d date, iv interval, f float8, tsz timestamptz,
           by bytea, ds date[], r regclass)""",
    ).distribute("t", "id", shard_count=2)
    for connection in pair.connections.values():
        connection.execute(f"set {setting}")
    values = "'Größe', make_date(2024, 2, 3), make_interval(0, 1, 0, -2, 3), 0.1::float8 + 0.2"
    more = "to_timestamp(1700000000.123456), decode('00ff', 'hex'), array[make_date(2024, 5, 6)]"
    pair.same(f"insert into t values (1, {values}, {more}) returning *", ["t"])
    pair.same(f"insert into t select g, {values}, {more} from generate_series(2, 9) g", ["t"])
    pair.same(f"insert into t select g, {values}, {more}, 'pg_class' from generate_series(10, 19) g", ["t"])
    pair.same("update t set txt = txt || 'ä' where txt like '%ö%' and d = make_date(2024, 2, 3) returning txt, f", ["t"])
    for connection in pair.connections.values():
        connection.execute("reset all")
        connection.execute("set search_path = " + ("plain" if connection is pair.connections["plain"] else "dist"))
    exact = "select id, txt, d, iv, f, tsz, by, ds, r from t order by id"
    assert pair.outcome("dist", exact) == pair.outcome("plain", exact)


# ---------------------------------------------------------------------- transactions and rights
def test_many_rows(items):
    items.same("insert into items (k, v) select g % 900, 'v' || g from generate_series(1, 10000) g", ["items"])
    items.same("insert into items (k, v) select k, v from items order by id", ["items"])
    statement = "insert into items (k) select g % 900 from generate_series(1, 25000) g returning id, k, v"
    items.same(statement, ["items"], ordered=True)
    items.same("update items set v = v || '.' where k % 2 = 0", ["items"])
    items.same("delete from items where k % 3 = 0", ["items"])


def test_wide_rows_in_many_batches(cluster):
    pair = Pair(cluster, "create table t (id int primary key, b text)").distribute("t", "id")
    pair.same("insert into t select g, repeat(md5(g::text), 3000) from generate_series(1, 300) g", [])
    sums = "select count(*), sum(length(b)), md5(string_agg(b, '' order by id)) from t"
    assert pair.outcome("dist", sums) == pair.outcome("plain", sums)


def test_one_failing_shard_undoes_all(items):
    dist = items.connections["dist"]
    with pytest.raises(psycopg.errors.UniqueViolation):
        dist.execute("insert into items (id, k) select g, 1 from generate_series(1, 5000) g union all select 7, 1")
    assert dist.execute("select count(*) from items").fetchone() == (0,)
    dist.execute("insert into items (id, k) select g, g from generate_series(1, 100) g")
    with pytest.raises(psycopg.errors.CheckViolation):
        dist.execute("update items set k = k + 900")
    assert dist.execute("select sum(k) from items").fetchone() == (5050,)


def test_transactions(items):
    for sql in [
        "begin",
        "insert into items (k) select g from generate_series(1, 20) g",
        "update items set v = 'tx' where k > 10",
        "savepoint s",
        "delete from items",
        "insert into items (k) values (5000)",
        "rollback to s",
        "insert into items (k) values (21) returning id, k",
        "release s",
        "commit",
        "begin",
        "delete from items where k < 5 returning k",
        "insert into items (k, v) select k, 'again' from items",
        "rollback",
        "begin read only",
        "insert into items (k) values (1)",
        "rollback",
        "begin isolation level repeatable read",
        "insert into items (k) values (300)",
        "update items set v = 'rr' where k = 300 returning v",
        "commit",
        "do $$ begin for i in 1..5 loop insert into items (k) values (i); commit; end loop; end $$",
        """do $$ declare n int; begin
             insert into items (k) values (400) returning k into n;
             update items set k = n + 1 where k = n;
             begin insert into items (k) values (null); exception when others then n := 0; end;
             delete from items where k = n; end $$""",
    ]:
        items.same(sql, [])
    items.same("select count(*) from items", ["items"])


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_prepared_statements(items, mode):
    for connection in items.connections.values():
        connection.execute(f"set plan_cache_mode = {mode}")
        connection.prepare_threshold = 0
    for n in range(1, 8):
        items.same("insert into items (id, k, v, e) values (%s, %s, %s, %s::vector) returning *", ["items"],
                   [n, n, f"v{n}", f"[{n},0,1]"])
    for i, n in enumerate((3, 4, 99, 1, 2, 3, 4), 1):
        items.same("update items set v = v || %s::text, e = %s where id = %s returning *", ["items"],
                   ["x", "[1,2,3]", n])
        items.same("update items set id = %s, k = %s where id = %s", ["items"], [n, 5, n])
        items.same("insert into items (id, k) values (%s, %s) on conflict (id) do update set k = items.k + %s",
                   ["items"], [n, 1, 7])
        items.same("delete from items where id = any(%s) returning id", ["items"], [[n, 5]])
        items.same("insert into items (id, k) select x, x from unnest(%s::int[]) x", ["items"],
                   [[n + 1000 * i, n + 1000 * i + 500]])
    items.refused("update items set id = 5 where id = 4", "distribution column")


def test_privileges(items):
    role = f"writer_{items.database.name}"
    admin = items.connections["plain"]
    for database in [items.database, *items.database.workers]:
        database.execute(f"create role {role} login")
    admin.execute(f"grant usage on schema plain, dist to {role}")
    for table in ("plain.items", "dist.items"):
        admin.execute(f"grant select (id, k), insert (id, k), update (v) on {table} to {role}")
        admin.execute(f"grant usage on sequence {table}_id_seq to {role}")
    try:
        for schema, connection in items.connections.items():
            connection.execute(f"set session authorization {role}; set search_path = {schema}")
        for sql in [
            "insert into items (k, v) values (1, 'x')",
            "insert into items (id, k) values (1, 1) returning v",
            "update items set k = 2 where id = 1",
            "update items set v = v || 'x'",
            "delete from items where id = 1",
            "insert into items (id, k) values (1, 1) on conflict (id) do update set k = 3",
        ]:
            outcome = items.outcome("dist", sql)
            assert outcome == items.outcome("plain", sql) and outcome[1] == "42501", (sql, outcome)
    finally:
        for schema, connection in items.connections.items():
            connection.execute("reset session authorization")
        for database in [items.database, *items.database.workers]:
            database.execute(f"drop owned by {role}; drop role {role}")


def test_row_level_security_is_not_bypassed(items):
    role = f"secured_{items.database.name}"
    dist = items.connections["dist"]
    dist.execute("insert into items (k) values (1), (2)")
    for database in [items.database, *items.database.workers]:
        database.execute(f"create role {role} login")
    try:
        dist.execute(f"grant usage on schema dist to {role}; grant all on items to {role}")
        dist.execute("alter table items enable row level security; create policy p on items using (k = 1)")
        dist.execute(f"set session authorization {role}; set search_path = dist")
        for sql in ("insert into items (id, k) values (5, 2)", "update items set k = 2"):
            assert items.outcome("dist", sql)[1] == "42501", sql
        for sql in (
            "update items set v = 'x'",
            "update items set v = 'y' from generate_series(1, 9) n where n = k",
            "merge into items using generate_series(1, 9) n on n = k when matched then delete",
            "delete from items where random() < 2",
            "delete from items",
        ):
            outcome = items.outcome("dist", sql)
            assert outcome[0] != "error" or outcome[1] in ("0A000", "42501"), (sql, outcome)
        dist.execute("reset session authorization")
        assert dist.execute("select k, v from items where k <> 1").fetchall() == [(2, "dflt")]
    finally:
        for database in [items.database, *items.database.workers]:
            database.execute(f"drop owned by {role}; drop role {role}")


def test_explain(items):
    def explain(sql):
        return "\n".join(line for (line,) in items.connections["dist"].execute(sql).fetchall())

    text = explain("explain (verbose, costs off) update items set v = 'x' where id = 1 returning id + 1")
    assert "Custom Scan (Panvel Update) on dist.items" in text and "Shards: 1 of 5" in text
    assert "Output: (id + 1)" in text
    assert "Remote SQL: UPDATE panvel_s" in text and "RETURNING t.id" in text
    text = explain("explain (analyze, costs off, timing off, summary off) insert into items (k) select 1 from generate_series(1, 500)")
    assert "Custom Scan (Panvel Insert) on items" in text
    rows = [int(line.split("rows=")[1].split()[0]) for line in text.splitlines() if "Node w" in line]
    assert len(rows) == 3 and sum(rows) == 500
    text = explain("explain (analyze, costs off, timing off, summary off) delete from items where k = 1")
    assert "Custom Scan (Panvel Delete) on items" in text and "Shards: 5 of 5" in text
    assert items.connections["dist"].execute("select count(*) from items").fetchone() == (0,)
    assert "Shards: 0 of 5" in explain("explain delete from items where false")


# However it is joined: what a plan keeps when it is executed again must not be old rows.
SELF_JOIN = "update dist.items i set k = i.k + other.id * 0 + 10 from dist.items other where other.id = i.id and i.k = 1"


@pytest.mark.parametrize(
    "statement",
    [
        "update dist.items set k = k + 10 where k = 1",
        "update dist.items set k = k + n from generate_series(10, 10) n where k = 1",
        SELF_JOIN,
        "set enable_mergejoin = off; set enable_nestloop = off; " + SELF_JOIN,
        "set enable_hashjoin = off; set enable_nestloop = off; " + SELF_JOIN,
        "set enable_hashjoin = off; set enable_mergejoin = off; " + SELF_JOIN,
        "update dist.items set k = k + 10 where k = 1 and random() < 2",
        "merge into dist.items using generate_series(1, 10) n on n = id when matched and k = 1 then update set k = k + 10",
    ],
)
def test_a_statement_waits_for_a_row_lock_and_sees_the_new_row(items, statement):
    """READ COMMITTED: the filter is checked again on the row that another transaction wrote."""
    dist = items.connections["dist"]
    dist.execute("insert into items (id, k) select g, 1 from generate_series(1, 10) g")
    with items.database.connect(autocommit=False) as first, items.database.connect() as second:
        first.execute("update dist.items set k = 2 where id = 5")
        *settings, statement = statement.split("; ")
        for setting in settings:
            second.execute(setting)
        pid = second.info.backend_pid
        with psycopg.connect(items.database.conninfo(), autocommit=True) as watch:
            cursor = second.cursor()
            second.pgconn.send_query(statement.encode())

            def waits():
                return watch.execute("select wait_event_type from pg_stat_activity where pid = %s", [pid]).fetchone()[
                    0] is not None

            wait_until(waits, 20, "the second update to wait")
        first.commit()
        while (result := second.pgconn.get_result()) is not None:
            assert result.command_tuples == 9
        cursor.close()
    assert dist.execute("select k, count(*) from items group by k order by k").fetchall() == [(2, 1), (11, 9)]
