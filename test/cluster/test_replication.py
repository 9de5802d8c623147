"""Tables with a replication factor above 1 while all nodes are well: placements, writes, equality."""

import itertools
import threading

import psycopg
import pytest

from panvel_test import wait_until


@pytest.fixture
def items(cluster):
    """Six shards with two placements each on three nodes."""
    cluster.execute(
        "create table items (id int primary key, k int, v text, e vector(3), g int generated always as (k * 2) stored)"
    )
    cluster.execute("select panvel.create_distributed_table('items', 'id', 6, 2)")
    cluster.execute("insert into items select i, i % 7, 'v' || i, array[i, 1, 2]::vector from generate_series(1, 300) i")
    return cluster


def placements(db, table="items"):
    """{shard: [(node, rows in key order as text)]}, read behind the coordinator's back."""
    found = {}
    for shard_id, node in db.query(
        "select shard_id, node from panvel.shards where relation = %s::regclass order by shard_id, role desc", [table]
    ):
        rows = db.worker(node).query(f"select t::text from panvel_s{shard_id}.{table} t order by t::text collate \"C\"")
        found.setdefault(shard_id, []).append((node, [row for (row,) in rows]))
    return found


def assert_equal_placements(db, table="items", factor=2):
    """Every shard has `factor` placements with the same rows; returns the rows of all shards."""
    rows = []
    for shard_id, copies in placements(db, table).items():
        assert len({node for node, _ in copies}) == len(copies) == factor
        for node, copy in copies[1:]:
            assert copy == copies[0][1], f"shard {shard_id} on {node} and {copies[0][0]}"
        rows += copies[0][1]
    return rows


def test_placements_are_spread(items):
    rows = items.query("select shard_id, node, role, state from panvel.shards")
    assert len(rows) == 12
    for role in ("leader", "follower"):
        nodes = [node for _, node, its_role, _ in rows if its_role == role]
        assert sorted(nodes) == ["w1", "w1", "w2", "w2", "w3", "w3"]
    assert {state for *_, state in rows} == {"active"}
    assert items.query("select shards, replication_factor from panvel.tables") == [(6, 2)]


def test_a_setting_gives_the_factor(cluster):
    with cluster.connect() as session:
        session.execute("set panvel.replication_factor = 3")
        session.execute("create table t (id int primary key)")
        session.execute("select panvel.create_distributed_table('t', 'id', 4)")
    assert cluster.value("select count(*) from panvel.shards") == 12


def test_a_primary_key_is_required(cluster, error_of):
    cluster.execute("create table t (id int)")
    error = error_of(cluster.execute, "select panvel.create_distributed_table('t', 'id', 4, 2)")
    assert error.sqlstate == "55000" and "primary key" in str(error)
    error = error_of(cluster.execute, "select panvel.create_distributed_table('t', 'id', 4, 4)")
    assert error.sqlstate == "55000" and "needs 4 nodes" in str(error)
    assert cluster.value("select count(*) from panvel.shard") == 0


def test_rows_that_were_there_go_to_all_placements(cluster):
    cluster.execute("create table items (id int primary key, v text)")
    cluster.execute("insert into items select i, i::text from generate_series(1, 200) i")
    cluster.execute("select panvel.create_distributed_table('items', 'id', 4, 2)")
    assert len(assert_equal_placements(cluster)) == 200
    with cluster.connect() as session:
        with session.cursor().copy("copy items from stdin") as copy:
            for i in range(201, 301):
                copy.write_row((i, f"copied {i}"))
    assert len(assert_equal_placements(cluster)) == 300
    cluster.execute("truncate items")
    assert assert_equal_placements(cluster) == []


WRITES = [
    ("insert into items values (1001, 1, 'one', '[1,2,3]')", 1),
    ("insert into items select i, i, i::text from generate_series(2001, 4500) i", 2500),
    ("update items set v = v || '!' where id = 7", 1),
    ("update items set v = null, k = k + 1", 300),
    ("update items set e = array[k, k, id]::vector where k < 3", 128),
    ("update items set id = id, k = 5 where id = 9", 1),
    ("update items set id = 9, k = 6 where id = 9", 1),
    ("update items set v = 'never' where id = -1", 0),
    ("update items set v = v || n, k = n from generate_series(1, 9) n where n = id", 9),
    ("update items set v = 'random' || (random() * 0)::text where id < 50", 49),
    ("delete from items using generate_series(1, 9) n where n = id", 9),
    ("delete from items where id = 12", 1),
    ("delete from items where k in (1, 2)", 86),
    ("delete from items", 300),
    ("insert into items values (5, 9, 'nine') on conflict (id) do update set k = excluded.k + items.k", 1),
    (
        "insert into items select i, 1, 'new' from generate_series(250, 350) i"
        " on conflict (id) do update set v = excluded.v where items.k <> 3",
        94,
    ),
    ("insert into items select i, 1 from generate_series(250, 350) i on conflict do nothing", 50),
    (
        "insert into items select i, 1, 'new' from generate_series(250, 350) i on conflict (id)"
        " do update set v = excluded.v || random() * 0, k = (select n from generate_series(1, 99) n where n = items.k) where items.k <> 3",
        94,
    ),
]


@pytest.mark.parametrize("statement, count", WRITES)
def test_a_write_is_on_all_placements(items, statement, count):
    """And gives what it gives on a plain table."""
    items.execute("create table plain (like items including all)")
    items.execute("insert into plain (id, k, v, e) select id, k, v, e from items")
    with items.connect() as session:
        assert session.execute(statement).rowcount == count
        plain = statement.replace("items", "plain")
        returned = session.execute(f"{plain} returning *").fetchall()
    rows = "select t::text from {} t order by 1"
    assert items.query(rows.format("items")) == items.query(rows.format("plain"))
    assert len(assert_equal_placements(items)) == items.value("select count(*) from plain")
    assert len(returned) == count


def test_returning_gives_what_was_asked_for(items):
    with items.connect() as session:
        rows = session.execute("update items set v = 'x', k = 70 where id in (1, 2) returning k + 1, v, g, e").fetchall()
        assert sorted(rows) == [(71, "x", 140, "[1,1,2]"), (71, "x", 140, "[2,1,2]")]
        assert session.execute("delete from items where id = 3 returning v").fetchall() == [("v3",)]
        rows = session.execute("update items set k = n from generate_series(5, 6) n where n = id returning n, items.k, v").fetchall()
        assert sorted(rows) == [(5, 5, "v5"), (6, 6, "v6")]
        assert session.execute("delete from items using (values (7)) s (n) where n = id returning 'gone'").fetchall() == [("gone",)]
        upsert = "insert into items values (4, 0, 'y'), (400, 0, 'z') on conflict (id) do update set v = 'w' returning id, v"
        assert sorted(session.execute(upsert).fetchall()) == [(4, "w"), (400, "z")]
    assert_equal_placements(items)


def test_types_that_travel_as_text(cluster):
    """An array column makes all images text; so does a type without a binary form."""
    cluster.execute(
        "create table items (id text, part numeric, a int[], r regclass, d float8, c varchar(5), primary key (id, part))"
    )
    cluster.execute("select panvel.create_distributed_table('items', 'id', 4, 2)")
    odd = ["a", 'q"uo,te', "back\\slash", "{brace}", "", "NULL", " sp ace "]
    for i, key in enumerate(odd):
        cluster.execute("insert into items values (%s, 1.50, '{1,null}', 'pg_class', 0.1, 'abc')", [key])
    for statement in (
        "update items set a = array[3, 4], d = d / 3, c = null",
        "update items set a = null, r = 'pg_type' where id = 'a'",
        "update items set d = 'NaN' where part = 1.5",
        "insert into items values ('a', 1.5, '{}'), ('{b}', 2, '{2}') on conflict (id, part) do update set a = excluded.a",
        "delete from items where id in ('', 'NULL')",
        "delete from items where d = 'NaN' and id = '{brace}'",
    ):
        cluster.execute(statement)
        assert_equal_placements(cluster)
    assert cluster.value("select count(*) from items") == 5


def test_what_cannot_be_followed_is_refused(cluster, error_of):
    cluster.execute("create table t (id int, n int, u int unique, v int, primary key (id, n), unique (id, u))".replace(" unique,", ",", 1))
    cluster.execute("select panvel.create_distributed_table('t', 'id', 4, 2)")
    cluster.execute("insert into t values (1, 1, 1, 1)")
    for statement in (
        "update t set n = 2",
        "insert into t values (1, 2, 1) on conflict (id, u) do update set n = excluded.n",
        "insert into t values (1, 1, 1) on conflict (id, n) do update set n = 5",
    ):
        error = error_of(cluster.execute, statement)
        assert error.sqlstate == "0A000" and "primary key column n" in str(error)
    cluster.execute("update t set n = n, v = 2")
    cluster.execute("insert into t values (1, 1, 7, 7) on conflict (id, n) do update set n = excluded.n, u = excluded.u")
    assert cluster.query("select * from t") == [(1, 1, 7, 2)]
    assert assert_equal_placements(cluster, "t") == ["(1,1,7,2)"]


def test_merge(items):
    """All of its actions, and what they find on a plain table."""
    items.execute("create table plain (like items including all)")
    items.execute("insert into plain (id, k, v, e) select id, k, v, e from items")
    merge = (
        "merge into {0} t using (select i, i %% 4 a from generate_series(200, 400) i) s on s.i = t.id"
        " when matched and a = 0 then delete"
        " when matched and a = 1 then update set v = t.v || '+', k = a"
        " when matched then do nothing"
        " when not matched and a < 3 then insert (id, k, v) values (i, a, 'new')"
    ).replace("%%", "%")
    with items.connect() as session:
        counts = [session.execute(merge.format(table)).rowcount for table in ("items", "plain")]
    assert counts[0] == counts[1] > 100
    rows = "select t::text from {} t order by 1"
    assert items.query(rows.format("items")) == items.query(rows.format("plain"))
    assert len(assert_equal_placements(items)) == items.value("select count(*) from plain")


def test_a_failure_on_any_placement_leaves_nothing(items, error_of):
    """A follower that would refuse a row; the leader has taken it."""
    shard_id, node = items.query("select shard_id, node from panvel.shards where role = 'follower' order by 1 limit 1")[0]
    items.worker(node).execute(f"alter table panvel_s{shard_id}.items add check (v <> 'bad')")
    for statement in ("update items set v = 'bad'", "insert into items select i, 1, 'bad' from generate_series(1000, 1100) i"):
        assert error_of(items.execute, statement).sqlstate == "23514"
    assert items.value("select count(*) from items where v = 'bad'") == 0
    assert len(assert_equal_placements(items)) == 300


def test_a_diverged_follower_is_an_error(items):
    shard_id, node = items.query("select shard_id, node from panvel.shards where role = 'follower' order by 1 limit 1")[0]
    (lost,) = items.worker(node).query(f"delete from panvel_s{shard_id}.items where id = (select min(id) from panvel_s{shard_id}.items) returning id")[0]
    with items.connect() as session:
        session.execute("set panvel.node_timeout = '200ms'")
        with pytest.raises(psycopg.errors.DataCorrupted) as caught:
            session.execute("update items set v = 'x' where id = %s", [lost])
        assert "differs from its leader" in str(caught.value)


def test_every_session_reads_the_same_rows(items):
    expected = items.query("select id, k, v, g from items order by id")
    for _ in range(4):
        assert items.query("select id, k, v, g from items order by id") == expected
    asked = set()
    for _ in range(6):
        plan = items.query("explain (verbose) select * from items where id = 1")
        asked |= {line for (line,) in plan if "Node: " in line or "Node w" in line or "node" in line.lower()}
    assert len(asked) == 2, asked


def test_own_writes_are_read_on_every_placement(items):
    with items.connect(autocommit=False) as session:
        for _ in range(2):
            session.execute("update items set k = k + 100")
            assert session.execute("select count(*) from items where k >= 100").fetchone() == (300,)
            session.execute("savepoint s")
            session.execute("delete from items where k > 103")
            session.execute("rollback to s")
            assert session.execute("select count(*) from items").fetchone() == (300,)
        session.commit()
    assert_equal_placements(items)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_concurrent_writers_leave_equal_placements(items, isolation):
    """Inserts, updates, deletes and upserts of few keys by several sessions at once."""
    keys = range(1, 9)
    failures = []

    def write(number):
        with items.connect() as session:
            session.execute(f"set default_transaction_isolation = '{isolation}'")
            for i in itertools.islice(itertools.cycle(range(5)), 60):
                key = keys[(i * 3 + number * 5 + i) % len(keys)]
                statement = [
                    "update items set k = k + 1, v = %(v)s where id = %(key)s",
                    "delete from items where id = %(key)s",
                    "insert into items values (%(key)s, 1, %(v)s)",
                    "insert into items values (%(key)s, 1, %(v)s) on conflict (id) do update set k = items.k + 1",
                    "update items set v = %(v)s where k = 1",
                ][(i + number) % 5]
                try:
                    session.execute(statement, {"key": key, "v": f"{number}.{i}"})
                except (psycopg.errors.UniqueViolation, psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                    pass
                except psycopg.Error as error:
                    failures.append(error)

    threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    wait_until(lambda: items.value("select count(*) from panvel.transactions") == 0)
    assert_equal_placements(items)
    assert items.query("select id from items order by 1") == sorted(items.query("select id from items"))


def test_a_row_lock_is_on_the_leader(items):
    with items.connect(autocommit=False) as first, items.connect() as second:
        first.execute("select * from items where id = 1 for update")
        second.execute("set lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            second.execute("update items set k = 0 where id = 1")
        first.execute("update items set k = 77 where id = 1")
        first.commit()
        second.execute("update items set k = k + 1 where id = 1 and k = 77")
        assert second.execute("select k from items where id = 1").fetchone() == (78,)


def test_knn_and_joins(items):
    items.execute("create index on items using hnsw (e vector_l2_ops)")
    for _ in range(2):
        rows = items.query("select id from items order by e <-> '[100,1,2]' limit 3")
        assert {row for (row,) in rows} == {99, 100, 101}
    items.execute("create table parts (id int, part int, primary key (id, part))")
    items.execute("select panvel.create_distributed_table('parts', 'id', colocate_with => 'items')")
    items.execute("insert into parts select i, p from generate_series(1, 300) i, generate_series(1, 2) p")
    assert items.value("select count(*) from items join parts using (id)") == 600
    assert len(assert_equal_placements(items, "parts")) == 600
