"""What a user gets wrong is told clearly: SQLSTATE, message and hint; and the session goes on."""

import re

import psycopg
import pytest

TABLE = "create table items (id bigint primary key, label text, embedding vector(3))"
INTERNAL = ("XX", "57P", "08006")  # internal errors, a lost session


@pytest.fixture
def session(cluster):
    with cluster.connect() as connection:
        connection.execute(TABLE)
        connection.execute("select panvel.create_distributed_table('items', 'id')")
        connection.execute("insert into items values (1, 'one', '[1,2,3]'), (2, 'two', '[4,5,6]')")
        yield connection


def refused(connection, sql, sqlstate, message, hint=None):
    """`sql` fails so; afterwards the same session still works."""
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(sql)
    error = caught.value
    told = f"{error.sqlstate}: {error.diag.message_primary}; hint: {error.diag.message_hint}"
    assert not error.sqlstate.startswith(INTERNAL), told
    assert error.sqlstate == sqlstate, told
    assert re.search(message, error.diag.message_primary), told
    if hint:
        assert re.search(hint, error.diag.message_hint or ""), told
    assert connection.execute("select 1").fetchone() == (1,)


def test_vectors(session):
    insert = "insert into items values "
    refused(session, insert + "(3, '', '[1,2]')", "22000", "expected 3 dimensions, not 2")
    refused(session, insert + "(3, '', '[1,2,nan]')", "22000", "NaN")
    refused(session, insert + "(3, '', '[1,2,inf]')", "22000", "infinite")
    refused(session, insert + "(3, '', '[1,2,')", "22P02", "invalid input syntax for type vector")
    refused(session, insert + "(null, '', '[1,2,3]')", "23502", "null")
    nearest = "select id from items order by embedding <-> "
    refused(session, nearest + "'[1,2]' limit 1", "22000", "different vector dimensions")
    refused(session, "set hnsw.ef_search = 0", "22023", "hnsw.ef_search", None)
    assert session.execute("select count(*) from items").fetchone() == (2,)


def test_constraint(session):
    """The worker's error arrives as if the table were local."""
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        session.execute("insert into items values (1, 'again', '[1,1,1]')")
    assert caught.value.diag.constraint_name == "items_pkey"
    assert session.execute("select label from items where id = 1").fetchone() == ("one",)


def test_tables(session):
    distribute = "select panvel.create_distributed_table"
    session.execute("create table plain (a int)")
    refused(session, f"{distribute}('plain', 'nosuch')", "42703", '"nosuch"')
    refused(session, f"{distribute}('nosuch', 'a')", "42P01", "nosuch")
    refused(session, f"{distribute}('items', 'id')", "55000", "already")
    refused(session, f"{distribute}('plain', 'a', shard_count => 0)", "22023", "shard_count")
    session.execute("create table keyed (id int primary key, a int)")
    refused(session, f"{distribute}('keyed', 'a')", "0A000", "distribution column")
    assert session.execute("select count(*) from panvel.tables").fetchone() == (1,)


def test_shell(session):
    """The coordinator's own, empty copy of the table never answers."""
    refused(session, "update items set id = 5 where id = 1", "0A000", "distribution column")
    refused(session, "cluster items", "42704", "items", "USING")
    assert session.execute("select count(*) from only items").fetchone() == (2,)


def test_nodes(session, cluster, shared_server):
    add = "select panvel.add_node"
    refused(session, f"{add}('w1', '127.0.0.1', 1)", "42710", '"w1"')
    refused(session, f"{add}('x', '127.0.0.1', 1)", "08001", '"x"')
    refused(session, f"{add}('x', 'no-such-host.invalid', 5432)", "08001", '"x"')
    refused(session, f"{add}('x', '127.0.0.1', 70000)", "22023", "port")
    refused(session, "select panvel.remove_node('nosuch')", "42704", '"nosuch"')
    refused(session, "select panvel.remove_node('w1')", "55006", "shards", None)
    # A server without extension vector in that database.
    port = shared_server.port
    sql = f"{add}('x', '127.0.0.1', {port}, 'postgres')"
    refused(session, sql, "55000", 'extension "vector"', "CREATE EXTENSION vector")
    sql = f"{add}('x', '127.0.0.1', {port}, 'nosuch')"
    refused(session, sql, "08001", '"x"', 'database "nosuch"')
    assert session.execute("select count(*) from panvel.nodes").fetchone() == (3,)


def test_worker_without_prepared_transactions(cluster, make_server):
    server = make_server(conf={"max_prepared_transactions": 0})
    server.execute("create extension vector")
    sql = f"select panvel.add_node('x', '127.0.0.1', {server.port}, 'postgres')"
    with cluster.connect() as session:
        refused(session, sql, "55000", "max_prepared_transactions", "max_prepared_transactions")


def test_library_not_preloaded(db):
    with db.connect() as session:
        refused(session, "create extension panvel cascade", "55000", "", "shared_preload_libraries")


def test_unreachable_node(make_cluster):
    db = make_cluster(workers=2)
    with db.connect() as session:
        session.execute(TABLE)
        session.execute("select panvel.create_distributed_table('items', 'id')")
        session.execute("insert into items select i, '', '[1,2,3]' from generate_series(1, 9) i")
        db.workers[1].server.stop()
        with pytest.raises(psycopg.Error) as caught:
            session.execute("select count(*) from items")
        assert caught.value.sqlstate.startswith("08"), caught.value
        assert "w2" in str(caught.value)
        assert session.execute("select 1").fetchone() == (1,)
        db.workers[1].server.start()
        assert session.execute("select count(*) from items").fetchone() == (9,)
