"""coordinator/transaction: commit on all nodes or on none, savepoints, recovery."""

import os
import signal
import threading

import psycopg
import pytest
from panvel_test import Cluster, wait_until
from panvel_test.distributed import wait_until_stopped
from panvel_test.remote import prepare

PREPARED = "select count(*) from pg_prepared_xacts where database = current_database()"
OPEN = (
    "select count(*) from pg_stat_activity where application_name like 'panvel%%'"
    " and application_name <> 'panvel monitor'"
    " and state <> 'idle'"
)


@pytest.fixture
def db(cluster):
    return prepare(cluster)


@pytest.fixture(scope="module")
def mortal_servers():
    cluster = Cluster(workers=3, fsync=True)
    try:
        yield cluster.start()
    finally:
        cluster.remove()


@pytest.fixture
def mortal(mortal_servers, database_names):
    """As db, on servers that may be killed."""
    database = prepare(mortal_servers.database(f"mortal_{next(database_names)}"))
    yield database
    for server in mortal_servers.servers:
        if not server.is_running():
            server.gone()
            server.start()
    database.drop()


def write(session, nodes, key):
    nodes = "{" + ",".join(map(str, nodes)) + "}"
    sql = f"insert into public.t values ({key})"
    session.execute("select remote_all(%s, %s, 'write')", [nodes, sql])


def keys(database):
    return [[key for (key,) in worker.query("select id from t order by id")] for worker in database.workers]


def is_clean(database):
    """Nothing prepared, no remote transaction open."""
    return all(worker.value(PREPARED) == 0 and worker.value(OPEN) == 0 for worker in database.workers)


@pytest.fixture
def no_recovery(request):
    """Keeps recovery from running in the test's database."""
    database = request.getfixturevalue("db" if "db" in request.fixturenames else "mortal")
    with database.connect(autocommit=False) as session:
        session.execute("lock table panvel.commit_record in share update exclusive mode")
        yield session


class Background:
    """A statement in a session of its own, running while the test goes on."""

    def __init__(self, database, *statements):
        self.session = database.connect(autocommit=False)
        self.pid = self.session.info.backend_pid
        self.error = None
        self.statements = statements
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            for statement in self.statements:
                self.session.execute(statement)
            self.session.commit()
        except psycopg.Error as error:
            self.error = error

    def end(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.session.close()
        return self.error


WRITE_EVERYWHERE = "select remote_all('{1,2,3}', 'insert into public.t values (7)', 'write')"


# ---------------------------------------------------------------------- commit and rollback
def test_commit_and_rollback_on_all_nodes(db, no_recovery):
    with db.connect() as session:
        session.execute("begin")
        write(session, [1, 2, 3], 1)
        assert keys(db) == [[], [], []]
        session.execute("commit")
        assert keys(db) == [[1], [1], [1]]
        session.execute("begin")
        write(session, [1, 2, 3], 2)
        session.execute("rollback")
        assert keys(db) == [[1], [1], [1]]
        assert is_clean(db)
        assert session.execute("select count(*) from panvel.commit_record").fetchone()[0] == 1
        no_recovery.rollback()
        assert session.execute("select panvel.recover_transactions()").fetchone()[0] == 0
        assert session.execute("select count(*) from panvel.commit_record").fetchone()[0] == 0


def test_one_node_commits_in_one_phase(db, no_recovery):
    with db.connect() as session:
        write(session, [2], 1)
        session.execute("begin")
        write(session, [2], 2)
        write(session, [2], 3)
        session.execute("select remote(1, 'select 1', 'read')")
        session.execute("commit")
        assert session.execute("select count(*) from panvel.commit_record").fetchone()[0] == 0
        assert keys(db) == [[], [1, 2, 3], []]
        assert is_clean(db)


def test_one_node_and_a_local_write_commit_in_two_phases(db, no_recovery):
    with db.connect() as session:
        session.execute("create table here (id int)")
        session.execute("begin; insert into here values (1)")
        write(session, [2], 1)
        session.execute("commit")
        assert session.execute("select count(*) from panvel.commit_record").fetchone()[0] == 1
        assert keys(db) == [[], [1], []]


def test_serializable_commits_in_two_phases(db, no_recovery):
    """The local transaction may still fail after the node's COMMIT."""
    with db.connect() as session:
        session.execute("begin isolation level serializable")
        write(session, [2], 1)
        session.execute("commit")
        assert session.execute("select count(*) from panvel.commit_record").fetchone()[0] == 1
        assert keys(db) == [[], [1], []]


def test_an_error_on_one_node_undoes_all(db, error_of):
    with db.connect() as session:
        write(session, [2], 1)
        sql = "select remote_all('{1,2,3}', 'insert into public.t values (1)', 'write')"
        assert error_of(session.execute, sql).sqlstate == "23505"
        assert keys(db) == [[], [1], []]
        assert is_clean(db)


def test_a_failed_prepare_undoes_all(db, error_of):
    db.workers[1].execute(
        "alter table t add column other int references t deferrable initially deferred"
    )
    with db.connect() as session:
        session.execute("begin")
        write(session, [1, 3], 1)
        session.execute("select remote(2, 'insert into public.t values (1, null, 99)', 'write')")
        error = error_of(session.execute, "commit")
        assert error.sqlstate == "23503"
        assert 'on node "w2"' in error.diag.context
        assert keys(db) == [[], [], []]
        assert is_clean(db)
        # in one phase the error is the COMMIT's
        sql = "select remote(2, 'insert into public.t values (1, null, 99)', 'write')"
        assert error_of(session.execute, sql).sqlstate == "23503"
        write(session, [1, 2, 3], 2)
        assert keys(db) == [[2], [2], [2]]


def test_a_worker_without_prepared_transactions(make_cluster, error_of):
    try:
        db = prepare(make_cluster(workers=2, worker_conf={"max_prepared_transactions": 0}))
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return  # add_node() refuses it
    with db.connect() as session:
        session.execute("begin")
        write(session, [1, 2], 1)
        assert error_of(session.execute, "commit").sqlstate == "55000"
    assert keys(db) == [[], []]


def test_reads_see_the_transactions_writes(db):
    with db.connect() as session:
        session.execute("begin")
        write(session, [1], 1)
        count = "select remote(1, 'select count(*) from public.t')"
        assert session.execute(count).fetchone()[0] == "1"
        assert db.value(count) == "0"
        session.execute("rollback")


def test_isolation_and_read_only_are_passed_on(db, error_of):
    with db.connect() as session:
        session.execute("begin isolation level repeatable read")
        count = "select remote(1, 'select count(*) from public.t')"
        assert session.execute(count).fetchone()[0] == "0"
        db.workers[0].execute("insert into t values (1)")
        assert session.execute(count).fetchone()[0] == "0"
        session.execute("commit")
        assert session.execute(count).fetchone()[0] == "1"
        session.execute("begin isolation level serializable read only")
        show = "select remote(1, 'show transaction_isolation')"
        assert session.execute(show).fetchone()[0] == "serializable"
        sql = "select remote(1, 'insert into public.t values (2)', 'write')"
        assert error_of(session.execute, sql).sqlstate == "25006"
        session.execute("rollback; begin isolation level serializable read only deferrable")
        show = "select remote(1, 'show transaction_deferrable')"
        assert session.execute(show).fetchone()[0] == "on"
        session.execute("rollback")


def test_prepare_transaction_is_refused(db, error_of):
    with db.connect() as session:
        session.execute("begin")
        write(session, [1], 1)
        error = error_of(session.execute, f"prepare transaction 'mine{db.name}'")
        assert error.sqlstate == "0A000"
        assert keys(db) == [[], [], []]
        assert is_clean(db)


def test_procedures_commit_in_the_middle(db):
    with db.connect() as session:
        session.execute(
            """create procedure fill() language plpgsql as $$ begin
                   for i in 1..5 loop
                       perform remote_all('{1,2}', format('insert into public.t values (%s)', i), 'write');
                       if i % 2 = 1 then commit; else rollback; end if;
                   end loop;
               end $$"""
        )
        session.execute("call fill()")
    assert keys(db) == [[1, 3, 5], [1, 3, 5], []]
    assert is_clean(db)


def test_a_cancel_after_the_nodes_commit_comes_too_late(db):
    """NOTIFY waits, when the node has committed, for the end of another session's NOTIFY."""
    stop = "set panvel.crash_point = 'after_local_commit:stop'"
    holder = Background(db, stop, "notify x", WRITE_EVERYWHERE)
    wait_until_stopped(holder.pid)
    late = Background(db, "notify x", "select remote(1, 'insert into public.t values (8)', 'write')")
    waits = "select count(*) from pg_locks where pid = %s and not granted"
    try:
        wait_until(lambda: db.value(waits, [late.pid]) == 1)
        assert keys(db)[0] == [8]
        late.session.cancel()
    finally:
        os.kill(holder.pid, signal.SIGCONT)
    assert holder.end() is None
    assert late.end() is None
    assert keys(db) == [[7, 8], [7], [7]]


# ---------------------------------------------------------------------- savepoints
def test_savepoints(db, error_of):
    with db.connect() as session:
        session.execute("begin")
        write(session, [1, 2], 1)
        session.execute("savepoint a")
        write(session, [1, 2, 3], 2)
        session.execute("savepoint b")
        write(session, [1], 3)
        session.execute("rollback to b")
        write(session, [1, 3], 4)
        session.execute("release b")
        session.execute("rollback to a")
        write(session, [2], 5)
        session.execute("savepoint c")
        write(session, [3], 6)
        session.execute("release c")
        session.execute("commit")
    assert keys(db) == [[1], [1, 5], [6]]
    assert is_clean(db)


def test_a_failed_statement_inside_a_savepoint(db, error_of):
    with db.connect() as session:
        session.execute("begin")
        write(session, [1, 2, 3], 1)
        for _ in range(3):
            session.execute("savepoint a")
            sql = "select remote_all('{1,2,3}', 'insert into public.t values (1)', 'write')"
            assert error_of(session.execute, sql).sqlstate == "23505"
            session.execute("rollback to a")
        write(session, [1, 2, 3], 2)
        session.execute("commit")
    assert keys(db) == [[1, 2]] * 3
    assert is_clean(db)


def test_exceptions_in_plpgsql(db):
    with db.connect() as session:
        session.execute(
            """do $$ begin
                   for i in 1..20 loop
                       begin
                           perform remote_all('{1,2}', format('insert into public.t values (%s)', i), 'write');
                           if i % 3 = 0 then raise exception 'no'; end if;
                           perform remote_all('{2}', format('insert into public.t values (%s)', i % 4), 'write');
                       exception when others then null;
                       end;
                   end loop;
               end $$"""
        )
    left, right, _ = keys(db)
    assert left == [i for i in left if i % 3 != 0] and 1 not in left
    assert set(left) <= set(right)
    assert is_clean(db)


def test_an_undone_write_is_no_participant(db, no_recovery):
    with db.connect() as session:
        session.execute("begin")
        write(session, [1], 1)
        session.execute("savepoint a")
        write(session, [2], 1)
        session.execute("rollback to a")
        session.execute("commit")
        assert session.execute("select count(*) from panvel.commit_record").fetchone()[0] == 0
    assert keys(db) == [[1], [], []]


# ---------------------------------------------------------------------- crashes
def hold_between_prepare_and_record(database):
    """A session whose lock stops every transaction after its PREPAREs, before its record."""
    session = database.connect(autocommit=False)
    session.execute("lock table panvel.commit_record in share mode")
    return session


def all_prepared(database):
    return all(worker.value(PREPARED) == 1 for worker in database.workers)


def wait_until_back(server, offset):
    """After a backend was killed: PostgreSQL ends all sessions and restarts by itself.

    `offset`: the size of the server's log before the kill.
    """
    restart = "all server processes terminated; reinitializing"
    wait_until(lambda: restart in server.log_text(offset))

    def answers():
        try:
            return server.value("select 1")
        except psycopg.OperationalError:
            return None

    wait_until(answers)


def wait_until_resolved(database):
    """Recovery is the background worker's: within ten seconds of the servers' being back."""
    records = "select count(*) from panvel.commit_record"
    wait_until(lambda: is_clean(database) and database.value(records) == 0, 10)
    assert database.query("select * from panvel.transactions") == []


def test_recovery_leaves_a_running_transaction_alone(db):
    holder = hold_between_prepare_and_record(db)
    writer = Background(db, WRITE_EVERYWHERE)
    wait_until(lambda: all_prepared(db))
    states = "select state, count(*) from panvel.transactions group by 1"
    assert db.query(states) == [("running", 3)]
    holder.rollback()
    assert writer.end() is None
    assert keys(db) == [[7], [7], [7]]
    wait_until_resolved(db)


def test_records_go_by_themselves(db):
    with db.connect() as session:
        for key in range(20):
            write(session, [1, 2], key)
    wait_until_resolved(db)


def test_a_session_without_its_backend_is_ended(db):
    """What a worker has not noticed to be lost would keep its locks, and could still prepare."""
    name = "select application_name from pg_stat_activity where application_name ~ '^panvel [0-9a-f]+ [0-9]+ [0-9]+$'"
    with db.connect() as session:
        write(session, [1], 1)
        own = db.workers[0].value(f"{name} and datname = current_database()")
        alien = f"{own.rpartition(' ')[0]} {2**22 + 1}"  # above all process ids
        with db.workers[0].connect(autocommit=False) as orphan:
            orphan.execute("select set_config('application_name', %s, false)", [alien])
            orphan.execute("delete from t")
            db.execute("select panvel.recover_transactions()")
            with pytest.raises(psycopg.OperationalError, match="administrator command"):
                orphan.execute("select 1")
        session.execute("select remote(1, 'update public.t set id = 2', 'write')")  # its own goes on
    assert keys(db) == [[2], [], []]


def test_a_killed_coordinator_leaves_no_statement(mortal):
    """Its workers notice by themselves, and soon, in the middle of a statement too."""
    sleeper = Background(mortal, "select remote(1, 'select pg_sleep(100)')")
    sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    wait_until(lambda: mortal.workers[0].value(sleeping) == 1)
    os.kill(sleeper.pid, signal.SIGKILL)  # before it can see the postmaster dead, and cancel
    mortal.server.kill9()
    sleeper.end()
    wait_until(lambda: mortal.workers[0].value(sleeping) == 0, 10)


def test_a_backend_killed_between_prepare_and_record(mortal):
    holder = hold_between_prepare_and_record(mortal)
    writer = Background(mortal, WRITE_EVERYWHERE)
    wait_until(lambda: all_prepared(mortal))
    offset = mortal.server.log_size()
    os.kill(writer.pid, signal.SIGKILL)
    assert isinstance(writer.end(), psycopg.OperationalError)
    holder.close()
    wait_until_back(mortal.server, offset)
    wait_until_resolved(mortal)
    assert keys(mortal) == [[], [], []]


def test_a_coordinator_killed_between_prepare_and_record(mortal):
    holder = hold_between_prepare_and_record(mortal)
    writer = Background(mortal, WRITE_EVERYWHERE)
    wait_until(lambda: all_prepared(mortal))
    mortal.server.kill9()
    writer.end()
    holder.close()
    mortal.server.start()
    wait_until_resolved(mortal)
    assert keys(mortal) == [[], [], []]


def test_a_coordinator_killed_after_its_commit(mortal):
    """Waiting for a standby that is not there holds it after the local commit is durable."""
    mortal.server.configure(synchronous_standby_names="nobody")
    mortal.server.reload()
    wait_until(lambda: mortal.value("show synchronous_standby_names") == "nobody")
    writer = Background(mortal, WRITE_EVERYWHERE)
    wait_until(lambda: all_prepared(mortal))
    waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep' and pid = %s"
    wait_until(lambda: mortal.value(waits, [writer.pid]) == 1)
    mortal.server.kill9()
    writer.end()
    mortal.server.configure(synchronous_standby_names="")
    mortal.server.start()
    # A reader waits for recovery rather than miss the commit.
    count = "select remote(%s, 'select count(*) from public.t')"
    assert [mortal.value(count, [node]) for node in (1, 2, 3)] == ["1", "1", "1"]
    wait_until_resolved(mortal)


def test_a_worker_killed_before_commit_prepared(mortal):
    holder = hold_between_prepare_and_record(mortal)
    writer = Background(mortal, WRITE_EVERYWHERE)
    wait_until(lambda: all_prepared(mortal))
    mortal.workers[1].server.kill9()
    holder.rollback()
    assert writer.end() is None  # the decision was made: a success
    states = "select node, state from panvel.transactions"
    assert mortal.query(states) == [(None, "recorded")]
    count = "select remote(%s, 'select count(*) from public.t')"
    with pytest.raises(psycopg.errors.ConnectionFailure):
        mortal.value(count, [2])
    assert mortal.value(count, [3]) == "1"
    mortal.workers[1].server.start()
    assert mortal.value(count, [2]) == "1"  # as soon as it is back, and never 0
    wait_until_resolved(mortal)
    assert keys(mortal) == [[7], [7], [7]]


def test_a_worker_killed_before_prepare(mortal):
    with mortal.connect(autocommit=False) as session:
        session.execute(WRITE_EVERYWHERE)
        mortal.workers[1].server.kill9()
        with pytest.raises(psycopg.errors.ConnectionFailure):
            session.commit()
    mortal.workers[1].server.start()
    wait_until_resolved(mortal)
    assert keys(mortal) == [[], [], []]


def test_a_hung_worker_at_commit(mortal):
    """One phase: nobody can know. Two phases: an error, and nothing of it appears."""
    worker = mortal.workers[0].server
    with mortal.connect(autocommit=False, options="-c panvel.node_timeout=500ms") as session:
        session.execute("select remote(1, 'insert into public.t values (1)', 'write')")
        worker.pause()
        with pytest.raises(psycopg.errors.TransactionResolutionUnknown):
            session.commit()
        worker.resume()
        wait_until(lambda: is_clean(mortal))
        session.execute("select remote_all('{1,2}', 'insert into public.t values (2)', 'write')")
        worker.pause()
        with pytest.raises(psycopg.errors.ConnectionFailure):
            session.commit()
        worker.resume()
    wait_until_resolved(mortal)
    assert 2 not in keys(mortal)[0] and 2 not in keys(mortal)[1]


def test_recovery_reports_a_node_that_is_gone(mortal):
    mortal.workers[1].server.stop()
    with mortal.connect() as session:
        notices = []
        session.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        assert session.execute("select panvel.recover_transactions()").fetchone()[0] == 0
        assert len(notices) == 1 and "w2" in notices[0]


POINTS = [
    ("before_prepare", "kill", False),
    ("between_prepares", "kill", False),
    ("after_prepare", "kill", False),
    ("after_record", "kill", False),
    ("after_local_commit", "kill", True),
    ("between_commit_prepared", "kill", True),
    ("before_prepare", "error", False),
    ("between_prepares", "error", False),
    ("after_prepare", "error", False),
    ("after_record", "error", False),
    ("after_local_commit", "error", True),
]


@pytest.mark.parametrize("point, how, committed", POINTS)
def test_crash_points(mortal, point, how, committed):
    offset = mortal.server.log_size()
    with mortal.connect() as session:
        session.execute(f"set panvel.crash_point = '{point}:{how}'")
        if how == "kill" or not committed:
            with pytest.raises(psycopg.Error):
                session.execute(WRITE_EVERYWHERE)
        else:
            session.execute(WRITE_EVERYWHERE)
    if how == "kill":
        wait_until_back(mortal.server, offset)
    count = "select remote(%s, 'select count(*) from public.t')"
    if committed:
        assert [mortal.value(count, [node]) for node in (1, 2, 3)] == ["1", "1", "1"]
    wait_until_resolved(mortal)
    assert keys(mortal) == ([[7], [7], [7]] if committed else [[], [], []])
