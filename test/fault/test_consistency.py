"""What panvel.write_consistency and panvel.read_consistency promise when placements are missing (docs/consistency.md)."""

import contextlib
import time

import psycopg
import pytest

from panvel_test import Cluster, wait_until
from panvel_test.distributed import databases_on, wait_until_settled

UNREACHED = ("08001", "08006", "57P01", "57P02", "57P03")


@pytest.fixture(scope="module")
def databases():
    databases = databases_on(Cluster(workers=3, coordinator_conf={"panvel.node_timeout": "4s"}))
    yield databases
    databases.close()


@pytest.fixture
def db(databases):
    db = next(databases)
    db.execute("create table items (id int primary key, n int)")
    db.execute("select panvel.create_distributed_table('items', 'id', 6, 2)")
    db.execute("create table thrice (id int primary key, n int)")
    db.execute("select panvel.create_distributed_table('thrice', 'id', 3, 3)")
    for table in ("items", "thrice"):
        db.execute(f"insert into {table} select i, 0 from generate_series(1, 60) i")
    return db


def key_on(db, table, leader, follower=None):
    """A key whose shard has these placements."""
    nodes = "select string_agg(node, ' ' order by role desc, node) from panvel.shards s where s.shard_id = x.shard_id"
    for key, found in db.query(
        f"select i, ({nodes}) from generate_series(1, 60) i, panvel.shards x where relation = %s::regclass"
        " and role = 'leader' and hashint4extended(i, 0) between hash_min and hash_max",
        [table],
    ):
        if found.split()[0] == leader and (follower is None or found.split()[1] == follower):
            return key
    raise LookupError((leader, follower))


def wait_until_in_sync(db, *tables):
    wait_until(lambda: db.value("select bool_and(active) from panvel.placement"), 60, "all placements in sync")
    wait_until_settled(db, 30)
    for table in tables:
        assert all(equal for (equal,) in db.query("select equal from panvel.check_placements(%s)", [table]))


def wait_until_up(db, node):
    wait_until(lambda: db.value("select status from panvel.nodes where name = %s", [node]) == "up", 20, f"{node} up")


@contextlib.contextmanager
def held_back(db):
    """Nothing catches up meanwhile: on every placement's tables somebody has a lock that the worker waits for in vain."""
    with contextlib.ExitStack() as stack:
        for worker in db.workers:
            session = stack.enter_context(worker.connect(autocommit=False))
            for (table,) in worker.query("select oid::regclass::text from pg_class where relname in ('items', 'thrice') and relkind = 'r'"):
                session.execute(f"lock table {table} in row exclusive mode")
        yield


def write_until_done(db, sql):
    deadline = time.monotonic() + 15
    while True:
        try:
            return db.execute(sql)
        except psycopg.Error as error:
            assert error.sqlstate in (*UNREACHED, "40001") and time.monotonic() < deadline, error


def test_settings(db, error_of):
    for setting in ("write_consistency", "read_consistency"):
        error = error_of(db.execute, f"set panvel.{setting} = 'most'")
        assert error.sqlstate == "22023" and "Available values" in error.diag.message_hint
    assert db.query("show panvel.write_consistency") == [("all",)]
    assert db.query("show panvel.read_consistency") == [("strong",)]


def test_eventual_reads_a_stale_placement_where_no_other_answers(db, error_of):
    key = key_on(db, "items", "w1", "w2")
    other = key_on(db, "items", "w3")
    read = "select n from items where id = %s"
    db.worker("w2").server.kill9()
    write_until_done(db, f"update items set n = 1 where id = {key}")
    db.worker("w1").server.kill9()
    start = time.monotonic()
    with db.connect() as session:  # nobody has it
        for setting in ("strong", "eventual"):
            session.execute(f"set panvel.read_consistency = {setting}")
            error = error_of(session.execute, read, [key])
            assert error.sqlstate in UNREACHED and "No in-sync placement of shard" in error.diag.message_detail
        assert error_of(session.execute, f"update items set n = 9 where id = {key}").sqlstate in UNREACHED
        assert time.monotonic() - start < 3
        assert session.execute(read, [other]).fetchone() == (0,)
    write_until_done(db, f"update items set n = 2 where id = {other}")
    db.worker("w2").server.start()
    wait_until_up(db, "w2")
    with db.connect() as session:  # one has it as it was
        error = error_of(session.execute, read, [key])
        assert error.sqlstate in UNREACHED and "read_consistency = eventual" in error.diag.message_hint
        with session.transaction():
            session.execute("set local panvel.read_consistency = eventual")
            assert session.execute(read, [key]).fetchone() == (0,)
            assert session.execute(read, [other]).fetchone() == (2,)
            assert session.execute("select count(*) from items").fetchone() == (60,)
        assert error_of(session.execute, read, [key]).sqlstate in UNREACHED
        session.execute("set panvel.read_consistency = eventual")
        assert error_of(session.execute, f"update items set n = 9 where id = {key}").sqlstate in UNREACHED
    db.worker("w1").server.start()
    wait_until_in_sync(db, "items")
    assert db.query("select sum(n) from items") == [(3,)]


def test_one_is_the_leader_and_the_rest_follows(db):
    key = key_on(db, "items", "w1", "w2")
    shard = db.value("select shard_id from panvel.shards where role = 'leader' and relation = 'items'::regclass"
                     " and hashint4extended(%s, 0) between hash_min and hash_max", [key])
    row = f"select n from panvel_s{shard}.items where id = {key}"
    with held_back(db), db.connect() as session:
        with session.transaction():
            session.execute("set local panvel.write_consistency = one")
            session.execute("update items set n = 1 where id = %s", [key])
        assert session.execute("show panvel.write_consistency").fetchone() == ("all",)
        states = "select distinct role, state from panvel.shards where relation = %s::regclass order by 1"
        assert session.execute(states, ["items"]).fetchall() == [("follower", "stale"), ("leader", "active")]
        assert db.worker("w1").value(row) == 1
        assert db.worker("w2").value(row) == 0
        for _ in range(3):  # strong reads ask the leader
            assert db.value("select n from items where id = %s", [key]) == 1
        # What any session writes now is on the leader and noted; another table is as it was.
        session.execute("insert into items select i, 5 from generate_series(61, 80) i")
        session.execute("delete from items where id = 60")
        session.execute("update thrice set n = 1")
        assert session.execute(states, ["thrice"]).fetchall() == [("follower", "active"), ("leader", "active")]
    wait_until_in_sync(db, "items", "thrice")
    assert db.worker("w2").value(row) == 1
    with held_back(db), db.connect() as session:  # it keeps as many as the session asks for
        session.execute("set panvel.write_consistency = one; set panvel.min_insync_replicas = 2")
        session.execute("update items set n = 6")
        session.execute("update thrice set n = 6")
        active = "select relation::text, count(*) from panvel.shards where state = 'active' group by 1 order by 1"
        assert session.execute(active).fetchall() == [("items", 12), ("thrice", 6)]


def test_one_goes_on_where_followers_would_only_be_taken_out_again(db):
    """Sessions that write with `one` all the time do not meet changed sets; followers follow."""
    epochs = "select sum(epoch) from panvel.shard join panvel.distributed_table using (colocation_id) where relation = 'items'::regclass"
    replayed = "select coalesce(sum(done), 0) from panvel.jobs where error like '%one is in use'"
    with db.connect() as session:
        session.execute("set panvel.write_consistency = one")
        count = 0

        def write_until_a_pass_has_followed():
            nonlocal count
            before = db.value(replayed)
            deadline = time.monotonic() + 60
            while db.value(replayed) == before:
                assert time.monotonic() < deadline
                count += 1
                with contextlib.suppress(psycopg.errors.SerializationFailure):
                    session.execute("update items set n = %s", [count])

        write_until_a_pass_has_followed()
        before = db.value(epochs)
        write_until_a_pass_has_followed()
        assert db.value(epochs) == before
    wait_until_in_sync(db, "items")
    assert db.query("select distinct n from items") == [(count,)]
    assert {state for (state,) in db.query("select state from panvel.jobs")} == {"done"}


def test_quorum_does_not_wait_for_a_slow_minority(db, error_of):
    key = key_on(db, "thrice", "w1")
    with db.connect() as session:
        session.execute("set panvel.write_consistency = quorum")
        session.execute("update thrice set n = 1")
        db.worker("w3").server.pause()
        try:
            start = time.monotonic()
            error = error_of(session.execute, "update thrice set n = 2 where id = %s", [key])
            assert error.sqlstate == "40001" and 'node "w3" takes too long' in str(error)
            session.execute("update thrice set n = 3 where id = %s", [key])
            elapsed = time.monotonic() - start
            assert elapsed < 3.5, elapsed  # node_timeout is 4 s
            print("a slow follower kept quorum waiting for", elapsed)
            # Two of two are a majority of two: there is nobody to spare.
            assert error_of(session.execute, "update items set n = 3").sqlstate in (*UNREACHED, "40001")
        finally:
            db.worker("w3").server.resume()
    wait_until_in_sync(db, "items", "thrice")
    assert db.value("select n from thrice where id = %s", [key]) == 3


def test_quorum_needs_a_majority(db, error_of):
    db.worker("w3").server.kill9()
    write_until_done(db, "update items set n = 1")
    write_until_done(db, "update thrice set n = 1")
    with db.connect() as session:
        session.execute("set panvel.write_consistency = quorum")
        session.execute("update thrice set n = 2")
        error = error_of(session.execute, "update items set n = 2")
        assert error.sqlstate == "55000" and "needs 2" in str(error)
    db.worker("w2").server.kill9()
    write_until_done(db, "update thrice set n = 3")  # with `all`: of those that are in sync
    with db.connect() as session:
        session.execute("set panvel.write_consistency = quorum")
        error = error_of(session.execute, "update thrice set n = 4")
        assert error.sqlstate == "55000" and "1 in-sync placements" in str(error)
    assert db.query("select distinct n from thrice") == [(3,)]
    for worker in db.workers[1:]:
        worker.server.start()
    wait_until_in_sync(db, "items", "thrice")
