"""A worker that hangs: its connections stay open, and nothing answers (SIGSTOP)."""

import os
import signal
import threading
import time

import psycopg
import pytest

from panvel_test import wait_until
from panvel_test.distributed import wait_until_stopped

NODE_TIMEOUT = 1.0


@pytest.fixture
def db(make_cluster):
    db = make_cluster(workers=2, coordinator_conf={"panvel.node_timeout": f"{NODE_TIMEOUT}s"})
    db.execute("create table items (id int primary key, v int)")
    db.execute("select panvel.create_distributed_table('items', 'id', shard_count => 4)")
    db.execute("insert into items select i, 0 from generate_series(1, 100) i")
    yield db
    for worker in db.workers:
        worker.server.resume()


def status(db, node="w1"):
    return db.value("select status from panvel.nodes where name = %s", [node])


@pytest.mark.parametrize(
    "statement",
    [
        "select sum(v) from items",
        "update items set v = 1",
        "insert into items select i, 1 from generate_series(101, 200) i",
        "select id from items order by v limit 3",
    ],
)
def test_a_statement_fails_and_nothing_of_it_appears(db, statement):
    with db.connect() as session:
        session.execute("select count(*) from items")
        db.workers[0].server.pause()
        start = time.monotonic()
        with pytest.raises(psycopg.errors.ConnectionFailure) as caught:
            session.execute(statement)
        assert NODE_TIMEOUT <= time.monotonic() - start < NODE_TIMEOUT + 1
        assert "does not answer" in str(caught.value)
        assert caught.value.diag.context.endswith('on node "w1"')
        # Known to be gone now: no more waiting.
        start = time.monotonic()
        with pytest.raises((psycopg.errors.SqlclientUnableToEstablishSqlconnection, psycopg.errors.ConnectionFailure)):
            session.execute(statement)
        assert time.monotonic() - start < 0.3
        db.workers[0].server.resume()
        wait_until(lambda: status(db) == "up", 5)
        assert session.execute("select count(*), sum(v) from items").fetchone() == (100, 0)
    sessions = "select count(*) from pg_stat_activity where application_name like 'panvel %' and state <> 'idle'"
    for worker in db.workers:
        wait_until(lambda: worker.value(sessions) == 0)


def test_what_came_after_the_monitors_question(make_cluster):
    """The server answers a session while the monitor waits, and hangs then: the monitor's question is the older one."""
    timeout = 4 * NODE_TIMEOUT
    db = make_cluster(workers=1, coordinator_conf={"panvel.node_timeout": f"{timeout}s"})
    db.execute("create table items (id int primary key, v int)")
    db.execute("select panvel.create_distributed_table('items', 'id', shard_count => 2)")
    server = db.workers[0].server
    with db.connect() as session:
        session.execute("set statement_timeout = '20s'")
        find = "select pid from pg_stat_activity where application_name = 'panvel monitor'"
        probe = wait_until(lambda: db.workers[0].value(find), 5)
        os.kill(probe, signal.SIGSTOP)
        try:
            # It asks every second, and tries another connection after half of node_timeout.
            asked = time.monotonic() + 1.3
            while time.monotonic() < asked:
                session.execute("select count(*) from items")
            server.pause()
            start = time.monotonic()
            with pytest.raises(psycopg.errors.ConnectionFailure):
                session.execute("select count(*) from items")
            assert time.monotonic() - start < timeout + 1
        finally:
            server.resume()


def test_a_transaction_that_hangs_is_gone(db):
    with db.connect(autocommit=False) as session:
        session.execute("update items set v = 1")
        db.workers[0].server.pause()
        with pytest.raises(psycopg.errors.ConnectionFailure):
            session.execute("update items set v = 2")
        session.rollback()
        db.workers[0].server.resume()
        wait_until(lambda: status(db) == "up", 5)
        session.execute("update items set v = 3")
        session.commit()
        assert session.execute("select distinct v from items").fetchall() == [(3,)]


def test_cancel_is_at_once(db):
    with db.connect() as session:
        session.execute("select count(*) from items")
        session.execute("set panvel.node_timeout = '60s'")
        db.workers[0].server.pause()
        threading.Timer(0.7, session.cancel).start()
        start = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("update items set v = 1")
        assert time.monotonic() - start < 1.4
        db.workers[0].server.resume()
        assert session.execute("select sum(v) from items").fetchone() == (0,)


def test_a_long_statement_is_left_alone(db):
    """Longer than node_timeout, on a server that answers the monitor; also a long PREPARE."""
    with db.connect() as session:
        slow = "select count(*) from items where id = 1 and v is distinct from (select 1 from pg_sleep(3))"
        assert session.execute(slow).fetchone() == (1,)
    for worker in db.workers:
        worker.execute(
            "create function slow() returns trigger language plpgsql as "
            "$$ begin perform pg_sleep(2); return null; end $$"
        )
        shards = worker.query(
            "select oid::regclass::text from pg_class where relname = 'items' and relkind = 'r'"
        )
        for (shard,) in shards:
            worker.execute(
                f"create constraint trigger slow after update on {shard} deferrable "
                "initially deferred for each row execute function slow()"
            )
    with db.connect() as session:
        session.execute("update items set v = 1 where id = 7")  # one phase
        session.execute("update items set v = 1 where id between 10 and 13")  # two
        assert session.execute("select sum(v) from items").fetchone() == (5,)


def test_status_and_errors_in_the_view(db):
    # A read waits until recovery has looked at every node; before that, w1 is in doubt.
    assert db.value("select count(*) from items") == 100
    up = db.value("select since from panvel.nodes where name = 'w1'")
    assert db.value("select since from panvel.nodes where name = 'w1'") == up
    db.workers[0].server.pause()
    wait_until(lambda: status(db) == "down", 4)
    row = db.query("select status, since > %s, last_error, bytes from panvel.nodes where name = 'w1'", [up])[0]
    assert row[:2] == ("down", True) and row[3] is None
    assert "w1" in row[2] and "in doubt" not in row[2]
    assert status(db, "w2") == "up"
    db.workers[0].server.resume()
    wait_until(lambda: status(db) == "up", 5)
    assert db.value("select last_error is null and bytes > 0 from panvel.nodes where name = 'w1'")
    db.workers[0].server.restart("immediate")
    assert db.value("select count(*) from items") == 100


def test_a_node_in_doubt_that_hangs_is_said_to_hang(db):
    """What is in doubt there is not what keeps it from being used, and nobody waits for recovery."""
    with db.connect() as session:
        session.execute("set panvel.crash_point = 'after_local_commit:stop'")
        writer = threading.Thread(target=session.execute, args=["update items set v = 1"])
        writer.start()
        wait_until_stopped(session.info.backend_pid)
        db.workers[0].server.pause()
        os.kill(session.info.backend_pid, signal.SIGCONT)
        writer.join(30)
        assert not writer.is_alive()
    wait_until(lambda: status(db) == "down", 10)
    error = db.value("select last_error from panvel.nodes where name = 'w1'")
    assert 'could not connect to node "w1"' in error and "in doubt" not in error
    start = time.monotonic()
    with pytest.raises(psycopg.errors.SqlclientUnableToEstablishSqlconnection):
        db.execute("select count(*) from items")
    assert time.monotonic() - start < NODE_TIMEOUT
    db.workers[0].server.resume()
    wait_until(lambda: status(db) == "up", 5)
    assert db.query("select count(*), min(v) from items") == [(100, 1)]


def test_a_session_that_hangs_at_commit_prepared(db):
    """Its server answers the monitor. The client has its success in time; recovery does the rest."""
    with db.connect() as session:
        pid = session.info.backend_pid
        session.execute("set panvel.crash_point = 'after_local_commit:stop'")
        writer = threading.Thread(target=session.execute, args=["update items set v = 1"])
        writer.start()
        wait_until_stopped(pid)
        find = "select pid from pg_stat_activity where application_name like %s"
        hung = db.workers[0].value(find, [f"panvel % {pid}"])
        os.kill(hung, signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGCONT)
            writer.join(20)
            assert not writer.is_alive()
            assert db.query("select count(*), min(v) from items") == [(100, 1)]
        finally:
            os.kill(hung, signal.SIGCONT)
        assert session.execute("select count(*) from items").fetchone() == (100,)


def test_a_prepare_that_arrives_late_is_undone(db):
    """The server hangs with PREPARE TRANSACTION under way, and prepares when it goes on."""
    prepared = "select count(*) from pg_prepared_xacts"
    with db.connect(autocommit=False) as session:
        session.execute("update items set v = 1")
        db.workers[0].server.pause()
        with pytest.raises(psycopg.errors.ConnectionFailure):
            session.commit()
        # Recovery looks, finds the server silent, and has to look again.
        wait_until(lambda: db.workers[1].value(prepared) == 0)
        db.workers[0].server.resume()
    wait_until(lambda: all(worker.value(prepared) == 0 for worker in db.workers), 12)
    wait_until(lambda: status(db) == "up", 5)
    assert db.value("select sum(v) from items") == 0
    db.execute("update items set v = 2")  # no lock is left
