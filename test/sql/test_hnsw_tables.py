"""hnsw indexes through everything that happens to tables: each time the index and the table agree."""

import pytest

from hnsw_workload import SETUP, ids_by_index, ids_by_table, problems

LAYOUT = ("items", 64, "vector_l2_ops", "m = 6, ef_construction = 20")
INDEX = "create index items_hnsw on items using hnsw (embedding vector_l2_ops)"


@pytest.fixture
def items(db):
    """A table of 300 rows with an index."""
    db.execute(SETUP)
    db.execute("create table items (id int primary key, embedding vector(64), note text)")
    fill(db, 1, 300)
    db.execute(INDEX)
    return db


def fill(db, first, last):
    db.execute("insert into items select i, vec(i, 64)"
               f" from generate_series({first}, {last}) i")


def agree(db, count):
    assert problems(db, [LAYOUT]) == []
    rows = ids_by_table(db, LAYOUT)
    found = ids_by_index(db, LAYOUT)
    assert len(found) == len(set(found)) and set(found) == rows and len(rows) == count


@pytest.mark.parametrize("rewrite", [
    "vacuum full items", "cluster items using items_pkey", "reindex table items",
    "reindex table concurrently items", "alter table items alter id type bigint",
    "alter table items set unlogged", "truncate items; insert into items select i, vec(i, 64)"
    " from generate_series(1, 200) i",
])
def test_rewrites(items, rewrite):
    items.execute("delete from items where id % 3 = 0")
    items.execute(rewrite)
    agree(items, 200)
    fill(items, 1001, 1050)
    agree(items, 250)


def test_truncate_rolled_back(items):
    with items.connect(autocommit=False) as connection:
        connection.execute("truncate items")
        connection.execute("insert into items select i, vec(i, 64) from generate_series(1, 9) i")
        connection.rollback()
    agree(items, 300)


def test_rolled_back_inserts_are_vacuumed(items):
    with items.connect(autocommit=False) as connection:
        connection.execute("insert into items select i, vec(i, 64)"
                           " from generate_series(1001, 1100) i")
        connection.rollback()
    agree(items, 300)
    items.execute("vacuum items")
    assert items.query("select elements, rows from hnsw_index_info('items_hnsw')") == [(300, 300)]
    agree(items, 300)


def test_savepoints(items):
    with items.connect(autocommit=False) as connection:
        for i in range(1001, 1021):
            connection.execute("savepoint a")
            connection.execute("insert into items values (%s, vec(%s, 64))", [i, i])
            if i % 2 == 0:
                connection.execute("rollback to a")
        connection.commit()
    agree(items, 310)


def test_moved_to_another_tablespace(make_server):
    server = make_server(conf={"allow_in_place_tablespaces": "on"})
    server.execute(SETUP)
    server.execute("create tablespace elsewhere location ''")
    server.execute("create table items (id int primary key, embedding vector(64))")
    fill(server, 1, 300)
    server.execute(INDEX)
    server.execute("alter index items_hnsw set tablespace elsewhere")
    agree(server, 300)
    server.execute("alter table items set tablespace elsewhere")
    fill(server, 301, 320)
    agree(server, 320)
    server.kill9()
    server.start()
    agree(server, 320)


def test_on_conflict_and_updates(items):
    items.execute("insert into items select i, vec(i + 5000, 64) from generate_series(201, 400) i"
                  " on conflict (id) do update set embedding = excluded.embedding")
    agree(items, 400)
    items.execute("insert into items select i, vec(i, 64) from generate_series(301, 420) i"
                  " on conflict do nothing")
    agree(items, 420)
    for _ in range(5):  # the vector stays: HOT, no new entries
        items.execute("update items set note = coalesce(note, '') || 'x' where id <= 50")
    agree(items, 420)
    items.execute("update items set embedding = vec(id + 9000, 64) where id % 2 = 0")
    agree(items, 420)
    items.execute("vacuum items")
    agree(items, 420)
    assert items.value("select rows from hnsw_index_info('items_hnsw')") == 420
    assert items.value("select embedding = vec(100 + 9000, 64) from items where id = 100")


def test_prepared_transactions(make_server):
    server = make_server(conf={"max_prepared_transactions": 10})
    server.execute(SETUP)
    server.execute("create table items (id int primary key, embedding vector(64))")
    fill(server, 1, 300)
    server.execute(INDEX)
    for gid, first in (("stays", 1001), ("goes", 2001), ("late", 3001)):
        with server.connect(autocommit=False) as connection:
            connection.execute("insert into items select i, vec(i, 64) from generate_series"
                               f"({first}, {first + 49}) i")
            connection.execute(f"prepare transaction '{gid}'")
    agree(server, 300)
    server.kill9()
    server.start()
    server.execute("vacuum items")
    agree(server, 300)
    server.execute("commit prepared 'stays'")
    server.execute("rollback prepared 'goes'")
    agree(server, 350)
    server.execute("vacuum items")
    server.execute("commit prepared 'late'")
    agree(server, 400)


def test_temporary_table(items):
    with items.connect() as connection:
        connection.execute("create temp table passing (id int, embedding vector(64))")
        connection.execute("create index on passing using hnsw (embedding vector_l2_ops)")
        connection.execute("insert into passing select * from (select id, embedding from items) i")
        connection.execute("delete from passing where id % 2 = 0")
        connection.execute("vacuum passing")
        connection.execute("set enable_seqscan = off; set enable_sort = off;"
                           "set hnsw.ef_search = 300")
        sql = "select id from passing order by embedding <-> vec(1, 64)"
        assert "hnsw" in str(connection.execute("explain " + sql).fetchall()) or \
            "passing_embedding_idx" in str(connection.execute("explain " + sql).fetchall())
        assert {row[0] for row in connection.execute(sql)} == set(range(1, 301, 2))
        check = "select * from hnsw_index_check('passing_embedding_idx')"
        assert connection.execute(check).fetchall() == []
        connection.execute("create temp table gone (embedding vector(3)) on commit delete rows")
        connection.execute("create index on gone using hnsw (embedding vector_l2_ops)")
        for _ in range(3):
            connection.execute("begin; insert into gone values ('[1,2,3]'); commit")
        info = "select elements from hnsw_index_info('gone_embedding_idx')"
        assert connection.execute(info).fetchall() == [(0,)]


def test_partitions(db):
    db.execute(SETUP)
    db.execute("create table items (id int, embedding vector(64)) partition by hash (id);"
               "create table items_0 partition of items for values with (modulus 2, remainder 0);"
               "create table items_1 partition of items for values with (modulus 2, remainder 1)")
    db.execute(INDEX)
    fill(db, 1, 200)
    db.execute("update items set embedding = vec(id + 7, 64) where id % 5 = 0")
    db.execute("vacuum items")
    with db.connect() as connection:
        connection.execute("set enable_seqscan = off; set enable_sort = off")
        sql = "select id from items order by embedding <-> vec(1, 64) limit 50"
        plan = str(connection.execute("explain " + sql).fetchall())
        assert "Merge Append" in plan and plan.count("Index Scan") == 2
        found = [row[0] for row in connection.execute(sql)]
        connection.execute("set enable_indexscan = off; set enable_seqscan = on;"
                           "set enable_sort = on")
        exact = [row[0] for row in connection.execute(sql)]
    assert len(set(found) & set(exact)) >= 45
    for (index,) in db.query("select relid::regclass::text from pg_partition_tree('items_hnsw')"
                             " where isleaf"):
        assert db.query("select * from hnsw_index_check(%s::regclass)", [index]) == []
