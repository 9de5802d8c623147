"""coordinator/remote: connections, requests, settings, errors, cancel."""

import os
import signal
import threading
import time

import psycopg
import pytest
from panvel_test import wait_until

from panvel_test.remote import prepare

CONNECTIONS = "select count(*) from pg_stat_activity where application_name like 'panvel%%' and application_name <> 'panvel monitor'"
RUNNING = (
    "select count(*) from pg_stat_activity"
    " where application_name like 'panvel%%' and application_name <> 'panvel monitor' and state <> 'idle'"
)


@pytest.fixture
def db(cluster):
    return prepare(cluster)


def test_statement_and_its_result(db):
    assert db.value("select remote(1, 'select 40 + 2')") == "42"
    assert db.value("select remote(2, 'select $1 || ''!''', 'read_once', true, 'a')") == "a!"
    assert db.value("select remote(3, 'select null')") is None


def test_one_connection_per_session_and_node(db):
    with db.connect() as session:
        for _ in range(5):
            session.execute("select remote(n, 'select 1') from generate_series(1, 3) n")
        for worker in db.workers:
            assert worker.value(CONNECTIONS) == 1
    for worker in db.workers:
        wait_until(lambda: worker.value(CONNECTIONS) == 0)


def test_prepared_statements_stay(db):
    with db.connect() as session:
        for i in range(10):
            sql = "select remote(1, 'select $1::int * 2', 'read_once', true, %s)"
            assert session.execute(sql, [str(i)]).fetchone()[0] == str(2 * i)
        count = session.execute(
            "select remote(1, 'select count(*) from pg_prepared_statements')"
        ).fetchone()[0]
        assert count == "1"


def test_prepared_statements_are_bounded(db):
    with db.connect() as session:
        session.execute(
            "select remote(1, format('select %s + $1::int', i), 'read_once', true, '1')"
            " from generate_series(1, 600) i"
        )
        count = session.execute(
            "select remote(1, 'select count(*) from pg_prepared_statements')"
        ).fetchone()[0]
        assert int(count) == 256


def test_error_arrives_with_its_fields(db, error_of):
    with db.connect() as session:
        session.execute("select remote(1, 'insert into public.t values (1)', 'write')")
        error = error_of(
            session.execute, "select remote(1, 'insert into public.t values (1)', 'write')"
        )
        assert error.sqlstate == "23505"
        assert error.diag.constraint_name == "t_pkey"
        assert error.diag.table_name == "t"
        assert error.diag.message_detail == "Key (id)=(1) already exists."
        assert 'on node "w1"' in error.diag.context
        assert session.execute("select remote(1, 'select 1')").fetchone()[0] == "1"


def test_an_error_does_not_unprepare_what_worked(db, error_of):
    with db.connect() as session:
        divide = "select remote(1, 'select 1 / $1::int', 'read_once', true, %s)"
        assert session.execute(divide, ["1"]).fetchone()[0] == "1"
        assert error_of(session.execute, divide, ["0"]).sqlstate == "22012"
        assert session.execute(divide, ["1"]).fetchone()[0] == "1"
        wrong = "select remote(1, 'select nothing', 'read_once', true)"
        assert error_of(session.execute, wrong).sqlstate == "42703"
        assert error_of(session.execute, wrong).sqlstate == "42703"


def test_settings_follow(db):
    with db.connect() as session:

        def remote_setting(name):
            sql = "select remote(1, format('select current_setting(%%L)', %s::text))"
            return session.execute(sql, [name]).fetchone()[0]

        session.execute("set timezone = 'Asia/Tokyo'")
        assert remote_setting("TimeZone") == "Asia/Tokyo"
        session.execute("begin; set local timezone = 'Europe/Berlin'; set local enable_seqscan = off")
        assert remote_setting("TimeZone") == "Europe/Berlin"
        assert remote_setting("enable_seqscan") == "off"
        session.execute("commit")
        assert remote_setting("TimeZone") == "Asia/Tokyo"
        assert remote_setting("enable_seqscan") == "on"
        session.execute("set datestyle = 'German, DMY'")
        assert remote_setting("DateStyle") == "ISO, DMY"
        session.execute("set lock_timeout = '1500ms'")
        assert remote_setting("lock_timeout") == "1500ms"
        assert remote_setting("search_path") == "pg_catalog"


def test_settings_are_sent_again_after_a_rollback(db):
    with db.connect() as session:
        zone = "select remote(1, 'show timezone', 'read')"
        session.execute("select remote(1, 'select 1')")
        session.execute("set timezone = 'Asia/Tokyo'")
        session.execute("begin")
        assert session.execute(zone).fetchone()[0] == "Asia/Tokyo"
        session.execute("rollback")
        assert session.execute(zone).fetchone()[0] == "Asia/Tokyo"
        session.execute("begin; savepoint a; set timezone = 'Asia/Seoul'")
        assert session.execute(zone).fetchone()[0] == "Asia/Seoul"
        session.execute("rollback to a")
        assert session.execute(zone).fetchone()[0] == "Asia/Tokyo"
        session.execute("commit")


def test_settings_are_sent_again_after_an_error(db, error_of):
    """The statement's error has undone those that went with it."""
    with db.connect() as session:
        session.execute("select remote(1, 'select 1')")
        session.execute("set hnsw.ef_search = 77")
        assert error_of(session.execute, "select remote(1, 'select 1 / 0')").sqlstate == "22012"
        assert session.execute("select remote(1, 'show hnsw.ef_search')").fetchone()[0] == "77"


def test_copy(db):
    data = "".join(f"{i}\tx{i}\n" for i in range(200_000))
    with db.connect() as session:
        sql = "select remote_copy(1, 'copy public.t from stdin', %s)"
        assert session.execute(sql, [data]).fetchone()[0] == 200_000
    assert db.workers[0].value("select count(*) from t") == 200_000


def test_copy_error(db, error_of):
    with db.connect() as session:
        error = error_of(
            session.execute, "select remote_copy(1, 'copy public.t from stdin', E'1\\ta\\nx\\tb\\n')"
        )
        assert error.sqlstate == "22P02"
        assert "line 2" in error.diag.context
        assert session.execute("select remote(1, 'select count(*) from public.t')").fetchone() == ("0",)
        # among pipelined statements of one transaction
        session.execute("begin")
        session.execute("select remote(1, 'insert into public.t values (1)', 'write')")
        session.execute("select remote_copy(1, 'copy public.t from stdin', E'2\\ta\\n')")
        session.execute("select remote(1, 'insert into public.t values (3)', 'write')")
        session.execute("commit")
    assert db.workers[0].value("select count(*) from t") == 3


def test_statement_outside_a_transaction(db, error_of):
    with db.connect() as session:
        session.execute("select remote(1, 'vacuum public.t', 'no_transaction')")
        session.execute("begin; select remote(1, 'select 1', 'read')")
        error = error_of(session.execute, "select remote(1, 'vacuum public.t', 'no_transaction')")
        assert error.sqlstate == "25001"
        session.execute("rollback")
        session.execute("select remote(1, 'vacuum public.t', 'no_transaction')")


def test_roles_map_to_themselves(db, error_of):
    role = f"someone_{db.name}"
    for server in db.cluster.servers:
        server.execute(f"create role {role} login")
    try:
        with db.connect() as session:
            assert session.execute("select remote(1, 'select current_user')").fetchone()[0] == "postgres"
            session.execute(f"set role {role}")
            assert session.execute("select remote(1, 'select current_user')").fetchone()[0] == role
    finally:
        for server in db.cluster.servers:
            server.execute(f"drop role {role}")


def test_notices_arrive(db):
    with db.connect() as session:
        notices = []
        session.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        session.execute(
            "select remote_all('{1,2,3}', $$do 'begin raise warning ''careful''; end'$$)"
        )
        assert notices == ["careful"]


# ---------------------------------------------------------------------- cancel
@pytest.mark.parametrize("effect", ["read_once", "read", "write"])
def test_cancel_ends_the_remote_statements(db, effect):
    with db.connect() as session:
        session.execute("select remote_all('{1,2,3}', 'select 1')")
        session.execute("set statement_timeout = '200ms'")
        start = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute(
                f"select remote_all('{{1,2,3,1,1}}', 'select pg_sleep(60)', '{effect}')"
            )
        assert time.monotonic() - start < 1
        for worker in db.workers:
            assert worker.value(RUNNING) == 0
        session.execute("set statement_timeout = 0")
        assert session.execute("select remote_all('{1,2,3}', 'select 1')").fetchone()[0] == 3


def test_cancel_within_a_savepoint(db):
    with db.connect() as session:
        session.execute("begin")
        session.execute("select remote(1, 'insert into public.t values (1)', 'write')")
        session.execute("savepoint a; set local statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("select remote_all('{1,2}', 'select pg_sleep(60)', 'write')")
        session.execute("rollback to a")
        session.execute("select remote(1, 'insert into public.t values (2)', 'write')")
        session.execute("commit")
    assert db.workers[0].query("select id from t order by 1") == [(1,), (2,)]


def test_what_nobody_waits_for_is_ended_with_its_transaction(db):
    with db.connect() as session:
        session.execute("select remote_all('{1,2}', 'select pg_sleep(60)', 'read_once', false)")
        for worker in db.workers:
            assert worker.value(RUNNING) == 0
        assert session.execute("select remote_all('{1,2}', 'select 1')").fetchone()[0] == 2


def test_a_client_that_vanishes_leaves_nothing(db):
    session = db.connect()
    session.execute("select remote_all('{1,2,3}', 'select 1')")
    session.pgconn.send_query(b"select remote_all('{1,2,3}', 'select pg_sleep(60)')")
    for worker in db.workers:
        wait_until(lambda: worker.value(RUNNING) == 1)
    session.close()
    for worker in db.workers:
        wait_until(lambda: worker.value(CONNECTIONS) == 0, 3)


def test_a_terminated_backend_leaves_nothing(db):
    session = db.connect()
    session.pgconn.send_query(b"select remote_all('{1,2,3}', 'select pg_sleep(60)', 'write')")
    for worker in db.workers:
        wait_until(lambda: worker.value(RUNNING) == 1)
    db.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where query like '%pg_sleep%' and pid <> pg_backend_pid()"
    )
    for worker in db.workers:
        wait_until(lambda: worker.value(CONNECTIONS) == 0, 3)
    session.close()


# ---------------------------------------------------------------------- lost nodes
def test_a_restarted_worker_is_no_error(make_cluster):
    db = prepare(make_cluster(workers=2))
    with db.connect() as session:
        for mode in ["fast", "immediate"]:
            session.execute("select remote_all('{1,2}', 'select 1')")
            db.workers[0].server.restart(mode)
            assert session.execute("select remote(1, 'select 5', 'read')").fetchone()[0] == "5"
        db.workers[0].server.restart()
        session.execute("select remote(1, 'insert into public.t values (1)', 'write')")
        db.workers[0].server.restart()
        session.execute("select remote(1, 'vacuum public.t', 'no_transaction')")  # could not be sent twice
        session.execute("begin; select remote(1, 'insert into public.t values (2)', 'write')")
        db.workers[0].server.restart()
        with pytest.raises(psycopg.errors.ConnectionFailure):
            session.execute("select remote(1, 'insert into public.t values (3)', 'write')")
        session.execute("rollback")
        assert session.execute("select remote(1, 'select count(*) from public.t')").fetchone()[0] == "1"


def test_a_session_that_ends_as_it_is_used(db):
    """The worker's session is told to end before it gets the statement, and ends after."""
    with db.connect() as session:
        session.execute("select remote(1, 'select 1')")
        name = f"panvel% {session.info.backend_pid}"
        pid = db.workers[0].value("select pid from pg_stat_activity where application_name like %s", [name])
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGTERM)
        insert = "select remote(1, 'insert into public.t values (1)', 'write')"
        writer = threading.Thread(target=session.execute, args=[insert])
        writer.start()
        wait_until(lambda: db.value("select count(*) from panvel.activity where state = 'active'") == 1)
        os.kill(pid, signal.SIGCONT)
        writer.join(30)
        assert not writer.is_alive()
    assert db.workers[0].value("select count(*) from t") == 1


def test_a_write_that_was_lost_fails_the_commit(make_cluster):
    db = prepare(make_cluster(workers=2))
    with db.connect() as session:
        session.execute("begin; select remote_all('{1,2}', 'insert into public.t values (2)', 'write')")
        db.workers[0].server.restart()
        with pytest.raises(psycopg.errors.ConnectionFailure):
            session.execute("commit")
        session.execute("begin; select remote(1, 'insert into public.t values (2)', 'write')")
        db.workers[0].server.restart()
        with pytest.raises(psycopg.errors.ConnectionFailure):  # and not 08007
            session.execute("commit")
        assert session.execute("select remote(1, 'select count(*) from public.t')").fetchone()[0] == "0"
        assert session.execute("select remote(2, 'select count(*) from public.t')").fetchone()[0] == "0"


def test_an_unreachable_node(make_cluster, error_of):
    db = prepare(make_cluster(workers=2))
    with db.connect() as session:
        db.workers[0].server.stop()
        assert error_of(session.execute, "select remote(1, 'select 1')").sqlstate == "08001"
        db.workers[1].server.pause()
        session.execute("set panvel.connect_timeout = '300ms'")
        start = time.monotonic()
        assert error_of(session.execute, "select remote(2, 'select 1')").sqlstate == "08001"
        assert 0.2 < time.monotonic() - start < 1
        db.workers[1].server.resume()
        assert session.execute("select remote(2, 'select 1')").fetchone()[0] == "1"


def test_cancel_on_a_hung_node(make_cluster):
    db = prepare(make_cluster(workers=2))
    with db.connect() as session:
        session.execute("select remote(1, 'select 1')")
        db.workers[0].server.pause()
        session.execute("set statement_timeout = '200ms'")
        start = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("select remote(1, 'select 1', 'write')")
        assert time.monotonic() - start < 2
        db.workers[0].server.resume()
        session.execute("set statement_timeout = 0")
        assert session.execute("select remote(1, 'select 1')").fetchone()[0] == "1"


def test_names_are_resolved(db, error_of):
    with db.connect() as session:
        session.execute("update panvel.node set host = 'localhost' where node_id = 1")
    with db.connect() as session:
        assert session.execute("select remote(1, 'select 1')").fetchone()[0] == "1"
        session.execute("update panvel.node set host = 'no-such-host.invalid' where node_id = 2")
    with db.connect() as session:
        assert error_of(session.execute, "select remote(2, 'select 1')").sqlstate == "08001"
