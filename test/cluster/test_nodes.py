"""add_node, remove_node, set_node, the view nodes, run_on_nodes."""

import pytest

from panvel_test import wait_until
from panvel_test.server import Database


@pytest.fixture
def coordinator(shared_cluster, database_names):
    """A database on the coordinator with extension panvel and no node; its name is free on the workers."""
    database = shared_cluster.coordinator.database(next(database_names))
    database.execute("create extension panvel cascade")
    yield database
    database.drop()


@pytest.fixture
def worker(shared_cluster, coordinator):
    """A database on the first worker with extension vector, not added yet."""
    database = shared_cluster.workers[0].database(coordinator.name)
    database.execute("create extension vector")
    yield database
    database.drop()


def add(name, database):
    return f"select panvel.add_node('{name}', '127.0.0.1', {database.server.port}, '{database.name}')"


def refused(error_of, coordinator, sql, sqlstate, message, hint):
    """The statement fails so, and the session goes on without a trace of it."""
    before = coordinator.query("select * from panvel.node")
    with coordinator.connect() as connection:
        error = error_of(connection.execute, sql)
        assert error.sqlstate == sqlstate, error
        assert message in str(error), error
        assert (hint in (error.diag.message_hint or "")) if hint else True, error.diag.message_hint
        assert connection.execute("select * from panvel.node").fetchall() == before


def test_add_node_gives_its_id_and_shows_it(coordinator, worker):
    node_id = coordinator.value(add("w1", worker))
    rows = coordinator.query(
        "select name, host, port, dbname, status, since is not null, last_error, shards, bytes from panvel.nodes"
    )
    assert rows == [("w1", "127.0.0.1", worker.server.port, worker.name, "up", True, None, 0, 0)]
    assert coordinator.value("select node_id from panvel.node") == node_id


def test_impossible_arguments(coordinator, worker, error_of):
    for name in ["", "a b", "a''b", 'a"b', "ä", "x" * 64, "a;b"]:
        refused(error_of, coordinator, add(name, worker), "42602", "not a valid node name", "letters, digits")
    for arguments in ["null, 'h'", "'n', null", "'n', 'h', null", "'n', 'h', 1, null"]:
        refused(error_of, coordinator, f"select panvel.add_node({arguments})", "22004", "must not be null", None)
    for arguments in ["'n', ''", "'n', 'h', 0", "'n', 'h', 65536", "'n', 'h', 1, ''"]:
        refused(error_of, coordinator, f"select panvel.add_node({arguments})", "22023", "", None)


def test_unreachable_node(coordinator, error_of, worker):
    sql = "select panvel.add_node('w1', '127.0.0.1', 1)"
    refused(error_of, coordinator, sql, "08001", 'could not connect to node "w1"', "server listens at")
    sql = "select panvel.add_node('w1', 'no-such-host.invalid', 5432)"
    refused(error_of, coordinator, sql, "08001", 'could not connect to node "w1"', "server listens at")
    # the failed attempts leave the name free
    assert coordinator.value(add("w1", worker)) > 0


def test_unknown_database(coordinator, worker, error_of):
    sql = f"select panvel.add_node('w1', '127.0.0.1', {worker.server.port}, 'nonesuch')"
    refused(error_of, coordinator, sql, "08001", 'database "nonesuch" does not exist', "it has database")


def test_added_twice(coordinator, worker, error_of):
    coordinator.execute(add("w1", worker))
    refused(error_of, coordinator, add("w1", worker), "42710", "already exists", "another name")
    refused(error_of, coordinator, add("w2", worker), "42710", 'already is node "w1"', None)


def test_the_coordinator_itself(coordinator, error_of):
    refused(error_of, coordinator, add("me", coordinator), "22023", "the coordinator itself", None)


def test_vector_missing_or_different(coordinator, worker, error_of):
    sql = add("w1", worker)
    worker.execute("create schema elsewhere; alter extension vector set schema elsewhere")
    refused(error_of, coordinator, sql, "55000", 'in schema "elsewhere"', "SET SCHEMA")
    worker.execute("update pg_extension set extversion = '0.0.1' where extname = 'vector'")
    refused(error_of, coordinator, sql, "55000", "version 0.0.1", "ALTER EXTENSION")
    worker.execute("drop extension vector")
    refused(error_of, coordinator, sql, "55000", '"vector" is not created', "CREATE EXTENSION vector")
    assert worker.value("select count(*) from pg_extension where extname = 'vector'") == 0


def test_another_encoding(coordinator, shared_cluster, database_names, error_of):
    server = shared_cluster.workers[0]
    name = next(database_names)
    server.execute(f"create database {name} template template0 encoding 'LATIN1' locale 'C'")
    try:
        Database(server, name).execute("create extension vector")
        sql = f"select panvel.add_node('w1', '127.0.0.1', {server.port}, '{name}')"
        refused(error_of, coordinator, sql, "55000", 'encoding "LATIN1"', "encoding and locale")
    finally:
        server.execute(f"drop database {name} with (force)")


def test_without_prepared_transactions(make_server, coordinator, error_of):
    server = make_server("unprepared", conf={"max_prepared_transactions": 0})
    database = server.database("d")
    database.execute("create extension vector")
    refused(error_of, coordinator, add("w1", database), "55000", "max_prepared_transactions = 0", "restart")


def test_standby_is_no_node(make_server, coordinator, error_of):
    server = make_server("primary")
    database = server.database("d")
    database.execute("create extension vector")
    standby = server.standby("standby")
    try:
        sql = f"select panvel.add_node('w1', '127.0.0.1', {standby.port}, 'd')"
        standby.wait_replayed(server)
        refused(error_of, coordinator, sql, "55000", "is a standby", "primary")
    finally:
        standby.remove()


def test_remove_node(coordinator, worker, error_of):
    refused(error_of, coordinator, "select panvel.remove_node('w1')", "42704", "does not exist", "panvel.nodes")
    coordinator.execute(add("w1", worker))
    coordinator.execute("create table t (id int)")
    coordinator.execute("select panvel.create_distributed_table('t', 'id')")
    refused(error_of, coordinator, "select panvel.remove_node('w1')", "55006", "holds 8 shards", "Drop the tables")
    coordinator.execute("drop table t")
    coordinator.execute("select panvel.remove_node('w1')")
    assert coordinator.query("select * from panvel.nodes") == []
    assert coordinator.value(add("w1", worker)) > 0


def test_add_node_is_transactional(coordinator, worker):
    with coordinator.connect(autocommit=False) as connection:
        connection.execute(add("w1", worker))
        assert connection.execute("select name from panvel.nodes").fetchall() == [("w1",)]
        connection.rollback()
        assert connection.execute("select name from panvel.nodes").fetchall() == []
    assert coordinator.value(add("w1", worker)) > 0


def test_changes_reach_other_sessions(coordinator, worker):
    with coordinator.connect() as other:
        assert other.execute("select * from panvel.run_on_nodes('select 1')").fetchall() == []
        coordinator.execute(add("w1", worker))
        assert other.execute("select * from panvel.run_on_nodes('select 1')").fetchall() == [("w1", True, "1")]
        coordinator.execute("select panvel.remove_node('w1')")
        assert other.execute("select * from panvel.run_on_nodes('select 1')").fetchall() == []


def test_set_node(make_cluster, error_of):
    db = make_cluster(workers=2)
    first, second = (worker.server for worker in db.workers)
    db.execute("create table t (id int)")
    db.execute("insert into t select generate_series(1, 100)")
    db.execute("select panvel.create_distributed_table('t', 'id')")
    error = error_of(db.execute, f"select panvel.set_node('w1', '127.0.0.1', {second.port})")
    assert error.sqlstate == "22023" and 'is not node "w1"' in str(error)
    assert db.value("select count(*) from t") == 100
    db.execute(f"select panvel.set_node('w1', 'localhost', {first.port})")
    assert db.value("select host from panvel.nodes where name = 'w1'") == "localhost"
    assert db.value("select count(*) from t") == 100
    assert error_of(db.execute, "select panvel.set_node('w7', 'localhost', 1)").sqlstate == "42704"


def test_a_node_that_is_down(make_cluster, error_of):
    db = make_cluster(workers=2)
    db.execute("create table t (id int)")
    db.execute("insert into t select generate_series(1, 1000)")
    db.execute("select panvel.create_distributed_table('t', 'id', 4)")
    db.workers[0].server.kill9()
    with db.connect() as connection:
        nodes = connection.execute("select name, status, last_error, shards, bytes > 0 from panvel.nodes").fetchall()
        assert nodes[1] == ("w2", "up", None, 2, True)
        assert nodes[0][:2] == ("w1", "down") and "w1" in nodes[0][2] and nodes[0][3:] == (2, None)
        shards = connection.execute("select node, rows is null, bytes is null from panvel.shards").fetchall()
        assert set(shards) == {("w1", True, True), ("w2", False, False)}
        assert connection.execute("select rows, bytes from panvel.tables").fetchall() == [(None, None)]
        rows = connection.execute("select * from panvel.run_on_nodes('select 1')").fetchall()
        assert rows[1] == ("w2", True, "1") and rows[0][:2] == ("w1", False) and "w1" in rows[0][2]
        for sql in [
            "select panvel.create_distributed_table('u', 'id')",
            "create index on t (id)",
            "truncate t",
            "drop table t",
            "copy t from program 'seq 1 10'",
            "analyze t",
        ]:
            connection.execute("create table if not exists u (id int)")
            error = error_of(connection.execute, sql)
            assert error.sqlstate in ("08001", "08006"), (sql, error)
    db.workers[0].server.start()
    wait_until(lambda: db.query("select status from panvel.nodes") == [("up",), ("up",)], 20, "both nodes up")
    assert db.value("select count(*) from t") == 1000
    assert db.value("select count(*) from pg_indexes where tablename = 't'") == 0
    assert "panvel_s5" not in str(db.query("select * from panvel.run_on_nodes('select nspname from pg_namespace')"))
    db.execute("select panvel.create_distributed_table('u', 'id')")
    db.execute("drop table t, u")


def test_run_on_nodes_results(cluster):
    def results(sql):
        return cluster.query("select * from panvel.run_on_nodes(%s)", [sql])

    def same(sql, ok, result):
        assert results(sql) == [(f"w{i}", ok, result) for i in (1, 2, 3)], sql

    same("select 7", True, "7")
    same("select null", True, None)
    same("select 1 as a, 'x\"y' as b, null as c, true as d, 1.5 as e, 'NaN'::float8 as f, '{\"k\":1}'::jsonb as g",
         True, '[{"a": 1, "b": "x\\"y", "c": null, "d": true, "e": 1.5, "f": "NaN", "g": {"k": 1}}]')
    same("select i from generate_series(1, 2) i", True, '[{"i": 1}, {"i": 2}]')
    same("select 1 where false", True, "[]")
    same("create table made (a int)", True, "CREATE TABLE")
    same("insert into made values (1), (2)", True, "INSERT 0 2")
    same("vacuum made", True, "VACUUM")
    same("select * from missing", False, 'relation "missing" does not exist')
    assert cluster.workers[2].value("select count(*) from made") == 2
    assert cluster.value("select jsonb_typeof(result::jsonb) from panvel.run_on_nodes('table made') limit 1") == "array"


def test_run_on_nodes_goes_on_after_an_error(cluster):
    with cluster.connect(autocommit=False) as connection:
        connection.execute("select * from panvel.run_on_nodes('select 1/0')")
        rows = connection.execute("select ok from panvel.run_on_nodes('select 1')").fetchall()
        assert rows == [(True,)] * 3
        connection.commit()


def test_rights(cluster, error_of):
    cluster.execute("create role guest login")
    try:
        with cluster.connect(user="guest") as guest:
            for sql in [
                "select panvel.add_node('x', 'h')",
                "select panvel.remove_node('w1')",
                "select panvel.set_node('w1', 'h', 1)",
                "select * from panvel.run_on_nodes('select 1')",
                "insert into panvel.node values (9, 'x', 'h', 1, 'd', 0)",
                "delete from panvel.placement",
                "update panvel.shard set hash_min = 0",
                "truncate panvel.distributed_table",
                "select nextval('panvel.shard_id_seq')",
            ]:
                assert error_of(guest.execute, sql).sqlstate == "42501", sql
            assert guest.execute("select count(*) from panvel.node").fetchone() == (3,)
    finally:
        cluster.execute("drop role guest")
