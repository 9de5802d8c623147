"""Ctrl-C ends a distributed statement at once, on the nodes too."""

import random
import threading
import time

import psycopg
import pytest

from panvel_test import wait_until


def vectors(count, dimensions):
    generator = random.Random(1)
    for i in range(count):
        values = ",".join(f"{generator.random():.3f}" for _ in range(dimensions))
        yield i, f"[{values}]"


def fill(cluster, count, dimensions):
    cluster.execute(f"create table items (id bigint primary key, embedding vector({dimensions}))")
    cluster.execute("select panvel.create_distributed_table('items', 'id')")
    with cluster.connect() as connection:
        with connection.cursor().copy("copy items from stdin") as copy:
            for row in vectors(count, dimensions):
                copy.write_row(row)


def active_on_workers(cluster, pattern):
    sql = (
        "select query from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid() and state = 'active' and query ~* %s"
    )
    return [row for worker in cluster.workers for row in worker.query(sql, [pattern])]


def cancelled(cluster, sql, pattern, before=lambda: None):
    """Runs `sql`, calls `before` and cancels it once it runs on a worker; returns the session's connection."""
    connection = cluster.connect()
    ended = {}

    def run():
        try:
            connection.execute(sql)
            ended["error"] = None
        except psycopg.Error as error:
            ended["error"] = error
        ended["at"] = time.monotonic()

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: active_on_workers(cluster, pattern), 60, "a remote statement")
    before()
    at = time.monotonic()
    connection.cancel()
    thread.join(60)
    assert not thread.is_alive()
    assert ended["error"] is not None, "it ended before it was cancelled"
    assert ended["error"].sqlstate == "57014"
    assert ended["at"] - at < 2
    wait_until(lambda: not active_on_workers(cluster, pattern), 5, "end on the workers")
    return connection


def test_query(cluster):
    fill(cluster, 1000, 3)
    slow = "select count(*) from items where length(repeat(md5(id::text), 3000000)) > 0"
    with cancelled(cluster, slow, "repeat") as connection:
        assert connection.execute("select count(*) from items").fetchone() == (1000,)


def test_query_in_transaction(cluster):
    fill(cluster, 1000, 3)
    slow = "select count(*) from items where length(repeat(md5(id::text), 3000000)) > 0"
    with cancelled(cluster, "begin; insert into items values (-1, '[1,2,3]'); " + slow, "repeat"):
        pass
    assert cluster.value("select count(*) from items") == 1000


@pytest.mark.parametrize("rows", ["(5)", "(5), (6), (7), (8)"])
def test_commit(cluster, rows):
    """A COMMIT or PREPARE that waits for a deferred constraint: rolled back, and known to be."""
    cluster.execute("create table later (id int unique deferrable initially deferred)")
    cluster.execute("select panvel.create_distributed_table('later', 'id')")
    # Of all sessions of coordinators: one that ended before may still be seen.
    sessions = "select pid, substring(application_name from '^panvel [0-9a-f]+ [0-9]+ ([0-9]+)$') from pg_stat_activity"
    with cluster.connect(autocommit=False) as first:
        first.execute("insert into later values (5)")
        insert = f"begin; insert into later values {rows}; commit"
        def note_sessions():
            before.extend(set(worker.query(sessions)) for worker in cluster.workers)

        before = []
        with cancelled(cluster, insert, "^(commit|prepare)", note_sessions) as session:
            first.rollback()
            assert session.execute("select count(*) from later").fetchone() == (0,)
            session.execute(f"insert into later values {rows}")
            # Ended by a cancel, not by closing the connection.
            own = [{pid for pid, backend in old if backend == str(session.info.backend_pid)} for old in before]
            assert any(own) and all(pids <= {pid for pid, _ in worker.query(sessions)} for pids, worker in zip(own, cluster.workers))
    prepared = "select count(*) from pg_prepared_xacts where database = current_database()"
    assert all(worker.value(prepared) == 0 for worker in cluster.workers)


def test_index_build(cluster):
    fill(cluster, 20000, 200)
    build = "create index items_embedding on items using hnsw (embedding vector_l2_ops)"
    with cancelled(cluster, build, "create index") as connection:
        assert connection.execute("select count(*) from items").fetchone() == (20000,)
    find = "select count(*) from pg_class where relname = 'items_embedding'"
    for database in (cluster, *cluster.workers):
        assert database.value(find) == 0
