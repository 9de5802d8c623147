"""A worker or the coordinator killed at each point of a commit: all or nothing, and soon resolved."""

import os
import signal
import threading

import psycopg
import pytest

from panvel_test import Cluster, wait_until
from panvel_test.distributed import wait_until_settled, wait_until_stopped
from panvel_test.remote import prepare

# In what order a commit passes them, and whether it is decided there.
POINTS = [
    ("before_prepare", False),
    ("between_prepares", False),
    ("after_prepare", None),  # not yet; success, if only a worker dies
    ("after_record", None),
    ("after_local_commit", True),
    ("between_commit_prepared", True),
]
WRITE = "select remote_all('{1,2,3}', 'insert into public.t values (%s)', 'write')"


@pytest.fixture(scope="module")
def db():
    # What a commit leaves to the WAL writer is not written before the kill.
    cluster = Cluster(workers=3, fsync=True, coordinator_conf={"wal_writer_delay": "10s"})
    try:
        yield prepare(cluster.start().database("killed"))
    finally:
        cluster.remove()


class Writer:
    """A transaction that stops itself at the point."""

    def __init__(self, db, point, key, setting="synchronous_commit = on"):
        self.session = db.connect()
        self.session.execute(f"set {setting}")
        self.session.execute(f"set panvel.crash_point = '{point}:stop'")
        self.pid = self.session.info.backend_pid
        self.error = None
        self.thread = threading.Thread(target=self.run, args=[WRITE % key])
        self.thread.start()
        wait_until_stopped(self.pid)

    def run(self, sql):
        try:
            self.session.execute(sql)
        except psycopg.Error as error:
            self.error = error

    def end(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.session.close()


def present(db, key):
    counts = [worker.value(f"select count(*) from t where id = {key}") for worker in db.workers]
    assert len(set(counts)) == 1, f"by half: {counts}"
    return counts[0] == 1


def kill_worker(db, point, decided, key, victim):
    writer = Writer(db, point, key)
    db.workers[victim].server.kill9()
    os.kill(writer.pid, signal.SIGCONT)
    writer.end()
    db.workers[victim].server.start()
    wait_until_settled(db)
    if writer.error is None:
        assert present(db, key)
    else:
        assert decided is not True and writer.error.sqlstate in ("08006", "08001"), writer.error
        assert not present(db, key)


def kill_coordinator(db, point, decided, key, *setting):
    writer = Writer(db, point, key, *setting)
    db.server.kill9()
    writer.end()
    db.server.start()
    wait_until_settled(db)
    assert present(db, key) == (decided is True)


@pytest.mark.parametrize("point, decided", POINTS)
def test_a_worker_killed(db, point, decided):
    kill_worker(db, point, decided, 1 + POINTS.index((point, decided)), 1)


@pytest.mark.parametrize("point, decided", POINTS)
def test_the_coordinator_killed(db, point, decided):
    kill_coordinator(db, point, decided, 101 + POINTS.index((point, decided)))


def test_the_record_does_not_wait_for_the_wal_writer(db):
    kill_coordinator(db, "between_commit_prepared", True, 190, "synchronous_commit = off")


def test_a_reader_before_recovery(db, error_of):
    """After a restart nobody reads what may be committed and not yet visible."""
    writer = Writer(db, "between_commit_prepared", 195)
    db.server.kill9()
    writer.end()
    db.server.configure(max_worker_processes=3)  # none is left for recovery
    db.server.start()
    try:
        with db.connect() as session:
            session.execute("set panvel.node_timeout = '200ms'")
            for node in (1, 2, 3):
                count = f"select remote({node}, 'select count(*) from public.t where id = 195')"
                error = error_of(session.execute, count)
                assert error.sqlstate == "08006" and "in doubt" in str(error)
    finally:
        db.server.configure(max_worker_processes=8)
        db.server.restart("fast")
    wait_until_settled(db)
    assert present(db, 195)


def test_recovery_that_cannot_ask_a_node_makes_no_reader_wait(db):
    """What its sessions have told their clients of is confirmed there, whatever recovery can see."""
    worker = db.workers[1]
    with db.connect() as writer, db.connect() as recovery:
        writer.execute(WRITE % 196)
        worker.server.stop_forking()
        try:
            recovery.execute("set panvel.node_timeout = '500ms'")
            recovery.execute("set client_min_messages = error")
            assert recovery.execute("select panvel.recover_transactions()").fetchone() == (0,)
            count = "select remote(2, 'select count(*) from public.t where id = 196')"
            assert writer.execute(count).fetchone() == ("1",)
        finally:
            worker.server.resume()
    wait_until_settled(db)


def test_recovery_at_the_same_transaction(db):
    """COMMIT PREPARED is asked for again while recovery's own is under way on the node."""
    server = db.workers[1].server
    offset = server.log_size()

    def wait_for_standby(name):
        """Where it is nobody, a commit waits, and holds what it commits."""
        server.configure(synchronous_standby_names=name)
        server.reload()
        wait_until(lambda: db.workers[1].value("show synchronous_standby_names") == name, 10)
        db.workers[1].execute("checkpoint")  # by whom the setting takes effect

    committing = "select count(*) from pg_stat_activity where wait_event = 'SyncRep' and query ~ '^COMMIT PREPARED'"
    writer = Writer(db, "after_local_commit", 197)
    with db.connect() as session:
        recovery = threading.Thread(target=session.execute, args=["select panvel.recover_transactions()"])
        try:
            wait_for_standby("nobody")
            recovery.start()
            wait_until(lambda: db.workers[1].value(committing) == 1, 10, "recovery's COMMIT PREPARED")
            os.kill(writer.pid, signal.SIGCONT)
            wait_until(lambda: server.log_text(offset).count("is busy") >= 2, 10, "a second try")
        finally:
            wait_for_standby("")
        writer.end()
        assert writer.error is None
        recovery.join(30)
    assert present(db, 197)


def test_coordinator_and_worker_killed(db):
    """The worker is back only after the coordinator's first look."""
    writer = Writer(db, "after_prepare", 200)
    db.workers[2].server.kill9()
    db.server.kill9()
    writer.end()
    db.server.start()
    assert db.value("select panvel.recover_transactions()") in (0, 1, 2)
    db.workers[2].server.start()
    wait_until_settled(db)
    assert not present(db, 200)


def test_a_transaction_id_that_is_given_again(db):
    """What a crash left prepared is not taken for a part of a later transaction of its number."""
    writer = Writer(db, "after_prepare", 210)
    db.workers[2].server.kill9()
    db.server.kill9()
    writer.end()
    db.server.start()
    with db.connect() as session, db.connect(autocommit=False) as holder:
        session.execute("select panvel.recover_transactions()")
        holder.execute("lock table panvel.commit_record in share update exclusive mode")  # keeps the records
        for key in range(211, 231):
            session.execute(f"select remote_all('{{1,2}}', 'insert into public.t values ({key})', 'write')")
        db.workers[2].server.start()
        holder.rollback()
    wait_until_settled(db)
    assert not present(db, 210)


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("point, decided", POINTS)
def test_each_50_times(db, point, decided):
    base = 1000 * (1 + POINTS.index((point, decided)))
    for i in range(50):
        kill_worker(db, point, decided, base + i, i % 3)
        kill_coordinator(db, point, decided, base + 500 + i)
