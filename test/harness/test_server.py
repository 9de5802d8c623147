"""The fixtures keep their own promises."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import psycopg
import pytest

from panvel_test import Server, collect, postgres, wait_until
from panvel_test.alarm import Alarm


def test_database_is_fresh(db):
    db.execute("create table t (a int)")
    assert db.query("select count(*) from t") == [(0,)]
    assert db.psql("select extname from pg_extension where extname = 'vector'").stdout == "vector\n"


def test_psql_stops_at_the_first_error(db):
    done = db.psql("select 1/0; select 2;", check=False)
    assert done.returncode == 3 and done.stdout == "" and "division by zero" in done.stderr
    with pytest.raises(AssertionError, match="division by zero"):
        db.psql("select 1/0")


def test_kill9_keeps_what_was_committed(make_server):
    server = make_server(fsync=True)
    server.execute("create table t as select 1 as a")
    connection = server.connect(autocommit=False)
    connection.execute("insert into t values (2)")
    server.kill9()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("commit")
    port = server.port
    server.start()
    assert server.port == port
    assert server.query("select a from t") == [(1,)]
    server.restart()
    assert server.value("select count(*) from t") == 1


def test_starts_beside_lock_files_of_another_process(make_server):
    """What a killed server leaves names its process, whose id may be another's by now."""
    server, other = make_server("one"), make_server("other")
    server.kill9()
    locks = [server.data / "postmaster.pid", server.directory / f".s.PGSQL.{server.port}.lock"]
    for lock in locks:
        lines = lock.read_text().split("\n")
        lock.write_text("\n".join([str(other.process.pid), *lines[1:]]))
    assert server.start().value("select 1") == 1


@pytest.mark.parametrize("kill", [Server.kill9, Server.kill_postmaster])
def test_nothing_is_left_of_a_killed_server(make_server, kill):
    """Also while it forks all the time."""
    server = make_server()
    stopping = threading.Event()

    def connect_again_and_again():
        while not stopping.is_set():
            with contextlib.suppress(psycopg.Error):
                server.connect().close()

    clients = [threading.Thread(target=connect_again_and_again) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            kill(server)
            assert server.attached_processes() == 0
            server.start()
    finally:
        stopping.set()
        for client in clients:
            client.join()


def test_standby_follows(make_server):
    server = make_server()
    standby = server.standby("standby")
    try:
        server.execute("create table t as select generate_series(1, 1000) as a")
        standby.wait_replayed(server)
        assert standby.value("select count(*) from t") == 1000
        assert standby.value("select pg_is_in_recovery()")
    finally:
        standby.remove()


def test_paused_server_goes_on(make_server):
    server = make_server()
    with server.connect() as connection:
        server.pause()
        server.resume()
        assert connection.execute("select 1").fetchone() == (1,)


def test_tap_problems():
    assert collect.tap_problems("ok 1 - a\nok 2\n1..2\n") == []
    assert collect.tap_problems("1..2\nok 1\n") == ["2 tests planned, 1 run"]
    assert collect.tap_problems("ok 1\n")[0].startswith("no plan")
    failing = collect.tap_problems("1..2\nnot ok 1 - a\n# have: 1\nok 2\n# note\n")
    assert failing == ["not ok 1 - a", "# have: 1"]
    excused = "not ok 1 - a # skip not here"
    assert collect.tap_problems(f"1..1\n{excused}\n") == [excused], "no directive excuses a failure"


def test_time_is_up():
    """Also where it is up in a destructor, which swallows exceptions."""
    alarm = Alarm()

    rung = []
    usual = signal.signal(signal.SIGALRM, lambda *ring: (rung.append(ring), alarm.rung(*ring)))

    class Slow:
        def __del__(self):
            alarm.set(0.01)
            wait_until(lambda: rung, 5)

    try:
        with pytest.raises(pytest.fail.Exception, match="not done within 0.01 s"):
            slow = Slow()
            del slow
            wait_until(lambda: False, 5)
        assert len(rung) > 1
    finally:
        signal.signal(signal.SIGALRM, usual)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_run_leaves_nothing(number):
    """A run that is interrupted or killed ends its servers and removes its directory."""
    endless = postgres.REPOSITORY / "test/harness/endless.py"
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s", "-q", str(endless)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A run in the background of a shell ignores it, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        started = next((line for line in run.stdout if "started " in line), None)
        assert started, "the inner run did not start its server"
        base, pid = started.split()[-2:]
        assert Server.is_alive(pid)
        run.send_signal(number)
        run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
    wait_until(lambda: not os.path.exists(base), 30, "removal of the directory")
    wait_until(lambda: not Server.is_alive(pid), 30, "end of the server")
