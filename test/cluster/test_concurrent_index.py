"""CREATE INDEX, DROP INDEX and REINDEX CONCURRENTLY, CLUSTER, and what a table takes on the nodes."""

import threading

import pytest

from panvel_test import wait_until
from shard_definitions import check_shards


@pytest.fixture
def items(cluster):
    cluster.execute("create table items (id int, n int, label text, e vector(2))")
    cluster.execute("insert into items select i, i, 'l' || i, format('[%s,1]', i)::vector from generate_series(1, 200) i")
    cluster.execute("select panvel.create_distributed_table('items', 'id', 4)")
    return cluster


def valid(cluster, name):
    """None: there is no such index."""
    return cluster.value("select bool_and(indisvalid) from pg_index where indexrelid = to_regclass(%s)", [name])


def on_shards(cluster, name):
    """How many valid and invalid indexes of the name the nodes have."""
    rows = [worker.query("select indisvalid, count(*) from pg_index join pg_class c on c.oid = indexrelid where relname = %s group by 1", [name])
            for worker in cluster.workers]
    counts = {True: 0, False: 0}
    for row in sum(rows, []):
        counts[row[0]] += row[1]
    return counts[True], counts[False]


def test_create_reindex_drop(items, error_of):
    with items.connect() as connection:
        for statement in [
            "create index concurrently by_n on items (n) where n > 5",
            "create index concurrently if not exists by_n on items (label)",
            'create unique index concurrently "U x" on items (label, id)',
            "create index concurrently on items using hnsw (e vector_l2_ops) with (m = 4)",
            "reindex index concurrently by_n",
            "reindex table concurrently items",
            "reindex (concurrently) table items",
        ]:
            connection.execute(statement)
            assert check_shards(items, "items") == 4, statement
        assert items.query("select relname from pg_index join pg_class c on c.oid = indexrelid where indrelid = 'items'::regclass order by 1") == [("U x",), ("by_n",), ("items_e_idx",)]
        for statement, sqlstate in [
            ("create unique index concurrently bad on items (label)", "0A000"),
            ("create index concurrently by_n on items (label)", "42P07"),
            ("create index concurrently bad on items (nope)", "42703"),
            ("drop index concurrently by_n, items_e_idx", "0A000"),
            ("drop index concurrently by_n cascade", "0A000"),
            ("drop index concurrently nope", "42704"),
            ("begin; create index concurrently bad on items (n)", "25001"),
            ("begin; drop index concurrently by_n", "25001"),
            ("begin; reindex index concurrently by_n", "25001"),
            ("reindex table concurrently by_n", "42809"),
        ]:
            assert error_of(connection.execute, statement).sqlstate == sqlstate, statement
            connection.execute("rollback")
            assert check_shards(items, "items") == 4, statement
        connection.execute("drop index concurrently by_n")
        connection.execute("drop index concurrently if exists by_n")
        connection.execute("drop index concurrently items_e_idx")
        assert on_shards(items, "by_n") == (0, 0) and check_shards(items, "items") == 4


def test_expressions_and_a_reference_table(cluster):
    cluster.execute("create table r (name text primary key); select panvel.create_reference_table('r')")
    cluster.execute("create function low(text) returns text language sql immutable return lower($1)")
    cluster.execute("create unique index concurrently on r (low(name))")
    assert check_shards(cluster, "r") == 3


def test_one_shard_fails(items, error_of):
    """An invalid index is left, which does not count, can be seen and dropped, and is in no other definition's way."""
    items.execute("insert into items values (7, 1), (7, 1)")
    for end in ["drop index u", "drop index concurrently u", "alter index u rename to v; alter index v set (fillfactor = 70); drop index v", "alter table items rename to things; alter table things rename to items; drop index u"]:
        error = error_of(items.execute, "create unique index concurrently u on items (id)")
        assert error.sqlstate == "23505" and "DROP INDEX" in error.diag.message_hint
        assert valid(items, "u") is False and on_shards(items, "u") == (3, 1)
        assert error_of(items.execute, "reindex index u").sqlstate == "23505"
        if "things" in end:
            assert error_of(items.execute, "reindex schema public").sqlstate == "23505"
        assert valid(items, "u") is False
        items.execute(end)
        assert on_shards(items, "u") == on_shards(items, "v") == (0, 0)
    error_of(items.execute, "create unique index concurrently u on items (id)")
    items.execute("delete from items where id = 7")
    items.execute("reindex index concurrently u")
    assert valid(items, "u") is True and on_shards(items, "u") == (4, 0)


def test_writers_go_on(items):
    """A writer's open transaction holds the index up, and is not in its way."""
    with items.connect(autocommit=False) as writer, items.connect() as session:
        writer.execute("insert into items values (1000, 1000)")
        thread = threading.Thread(target=session.execute, args=["create index concurrently by_n on items (n)"])
        thread.start()
        wait_until(lambda: valid(items, "by_n") is not None, 60)
        items.execute("insert into items values (1001, 1001)")
        writer.execute("insert into items values (1002, 1002)")
        writer.commit()
        thread.join()
    assert valid(items, "by_n") and on_shards(items, "by_n") == (4, 0)
    assert items.query("select id from items where n > 999 order by 1") == [(1000,), (1001,), (1002,)]


def test_cluster(items, error_of):
    items.execute("create index by_label on items (label desc)")
    items.execute("cluster items using by_label")
    for worker in items.workers:
        for (schema,) in worker.query("select schemaname from pg_tables where tablename = 'items'"):
            labels = [row[0] for row in worker.query(f"select label from {schema}.items order by ctid")]
            assert labels == sorted(labels, reverse=True)
    assert check_shards(items, "items") == 4
    assert error_of(items.execute, "cluster items").sqlstate == "42704"
    assert error_of(items.execute, "cluster items using nope").sqlstate == "42704"


def test_notices_come_once(items):
    heard = []
    with items.connect() as connection:
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        connection.execute("create index on items using ivfflat (e vector_l2_ops) with (lists = 500)")
        connection.execute("create index concurrently on items using ivfflat (e vector_l2_ops) with (lists = 500)")
    assert heard == ["ivfflat index created with little data"] * 2


def test_sizes(items, error_of):
    for function in ("relation_size", "table_size", "indexes_size", "total_relation_size"):
        expected = sum(worker.value(f"select coalesce(sum(pg_{function}(oid)), 0)::bigint from pg_class where relname = 'items'") for worker in items.workers)
        assert items.value(f"select panvel.{function}('items')") == expected
        items.execute("create table if not exists plain as select 1")
        assert items.value(f"select panvel.{function}('plain') = pg_{function}('plain')")
    assert items.value("select panvel.total_relation_size('items')") > 0
    items.execute("create index by_n on items (n)")
    assert items.value("select panvel.relation_size('by_n') = panvel.indexes_size('items')")


def test_a_node_is_down(make_cluster, error_of):
    """Refused before anything is done."""
    db = make_cluster(workers=2)
    db.execute("create table items (id int primary key, n int); create index by_n on items (n); insert into items values (1, 1)")
    db.execute("create type mood as enum ('sad'); create type used as enum ('a'); create table moods (m used, id int)")
    db.execute("select panvel.create_distributed_table('items', 'id', 4); select panvel.create_reference_table('moods')")
    db.workers[1].server.kill9()
    before = db.query("select indexrelid, indisvalid from pg_index where indrelid = 'items'::regclass order by 1")
    for statement in ["create index concurrently more on items (n)", "drop index concurrently by_n", "reindex table concurrently items",
                      "alter type used add value 'b'", "alter table items add column m mood", "cluster items using by_n",
                      "drop table moods; drop type used", "select panvel.total_relation_size('items')"]:
        assert error_of(db.execute, statement).sqlstate in ("08001", "08006"), statement
        assert db.query("select indexrelid, indisvalid from pg_index where indrelid = 'items'::regclass order by 1") == before
    assert db.workers[0].query("select enumlabel from pg_enum") == [("a",)]
