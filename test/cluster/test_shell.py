"""The shell must not answer: whatever reaches a distributed table itself is an error."""

import pytest


@pytest.fixture
def items(cluster):
    cluster.execute("create table items (id int primary key, n int, body text)")
    cluster.execute("insert into items select i, i, repeat('x', 10) from generate_series(1, 1000) i")
    cluster.execute("create index items_n on items (n)")
    cluster.execute("analyze items")
    cluster.execute("select panvel.create_distributed_table('items', 'id')")
    return cluster


def answers_or_refuses(connection, error_of, sql, answer):
    """Either the right answer or 0A000, and the session goes on."""
    try:
        assert connection.execute(sql).fetchall() == answer, sql
    except Exception as error:
        assert getattr(error, "sqlstate", None) == "0A000", (sql, error)
    assert connection.execute("select 1").fetchall() == [(1,)]


def test_whatever_reads_it(items, error_of):
    with items.connect() as connection:
        for sql, answer in [
            ("select count(*) from only items", [(1000,)]),
            ("select count(*) from items tablesample system (100)", [(1000,)]),
            ("select id from items where ctid = '(0,1)'", None),
            ("select id from items where id = 5 for update", [(5,)]),
            ("select id from items where id = 5 for key share", [(5,)]),
            ("select count(*) from (select * from items limit 5 for share) x", [(5,)]),
            ("select count(*) from items where n > 990", [(10,)]),
            ("select max(n), min(n) from items", [(1000, 1)]),
            ("table items order by id limit 1", [(1, 1, "xxxxxxxxxx")]),
        ]:
            answers_or_refuses(connection, error_of, sql, answer)


def test_histograms_do_not_look_into_its_indexes(items):
    """The planner asks an index for the ends of a histogram where statistics exist."""
    assert items.value("select count(*) from pg_stats where tablename = 'items'") > 0
    assert items.value("select count(*) from items where n > 2000") == 0
    assert items.value("select count(*) from items where id < 3") == 2


def test_dropping_preload(make_cluster, error_of):
    db = make_cluster(workers=1)
    db.execute("create table items (id int primary key)")
    db.execute("insert into items select generate_series(1, 10)")
    db.execute("select panvel.create_distributed_table('items', 'id')")
    server = db.server
    server.execute("alter system set shared_preload_libraries = 'vector'")
    server.restart()
    with db.connect() as connection:
        for sql in [
            "select * from items",
            "insert into items values (1)",
            "select * from items where id = 1",
            "set enable_seqscan = off; select count(*) from items where id > 1",
            "copy items to '/dev/null'",
            "update items set id = 2",
            "delete from items",
            "drop table items",
            "truncate items",
            "alter table items add column x int",
            "create index on items (id)",
        ]:
            error = error_of(connection.execute, sql)
            assert error.sqlstate == "55000", (sql, error)
            assert "shared_preload_libraries" in error.diag.message_hint, sql
        for sql in ["select * from panvel.nodes", "select panvel.add_node('x', 'y')"]:
            error = error_of(connection.execute, sql)
            assert error.sqlstate == "55000" and "shared_preload_libraries" in str(error), sql
    server.execute("alter system reset shared_preload_libraries")
    server.restart()
    assert db.value("select count(*) from items") == 10


def test_access_method_is_not_for_the_taking(cluster, error_of):
    cluster.execute("create table plain (id int)")
    with cluster.connect() as connection:
        for sql in [
            "create table t (id int) using panvel",
            "alter table plain set access method panvel",
            "create table t using panvel as select 1",
            "create materialized view t using panvel as select 1",
        ]:
            error = error_of(connection.execute, sql)
            assert error.sqlstate == "0A000" and "create_distributed_table" in error.diag.message_hint, sql
        connection.execute("set default_table_access_method = panvel")  # as a dump does: see test_dump.py
        connection.execute("create table t (id int)")
        assert connection.execute("select amname from pg_am a join pg_class c on relam = a.oid where relname = 't'").fetchall() == [("heap",)]
        connection.execute("insert into plain values (1)")


def test_holds_no_horizon_and_no_storage(items):
    frozen = "select relfrozenxid::text, relminmxid::text, reltoastrelid, pg_relation_size(oid) from pg_class where relname = 'items'"
    assert items.query(frozen) == [("0", "0", 0, 0)]
    items.execute("truncate items")
    assert items.query(frozen) == [("0", "0", 0, 0)]
    items.execute("vacuum (freeze)")
    assert items.query(frozen) == [("0", "0", 0, 0)]


def test_whole_database_maintenance_passes_by(items):
    with items.connect() as connection:
        connection.execute("vacuum")
        connection.execute("vacuum (analyze, freeze)")
        connection.execute("analyze")
        connection.execute("cluster")
        connection.execute(f'reindex database "{items.name}"')
    assert items.value("select count(*) from items") == 1000


def test_sizes_reach_the_planner(items):
    def planned_rows(sql):
        return items.query(f"explain (format json) {sql}")[0][0][0]["Plan"]["Plan Rows"]

    assert planned_rows("select * from items") == 1000
    items.execute("insert into items select i, i, 'y' from generate_series(1001, 5000) i")
    items.execute("analyze items")
    assert planned_rows("select * from items") == 5000
    items.execute("delete from items where id > 100")
    items.execute("vacuum analyze items")
    assert planned_rows("select * from items") == 100
    items.execute("truncate items")
    assert items.value("select row_estimate from panvel.distributed_table") == -1  # unknown, as after CREATE TABLE
