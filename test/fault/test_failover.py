"""Writes go on without a worker that is lost; it catches up and rejoins by itself."""

import time

import psycopg
import pytest

from panvel_test import Cluster, wait_until
from panvel_test.distributed import databases_on, wait_until_settled

UNREACHED = ("08001", "08006", "40001", "57P01", "57P02")


@pytest.fixture(scope="module")
def databases():
    databases = databases_on(Cluster(workers=3, fsync=True, coordinator_conf={"panvel.node_timeout": "2s"}))
    yield databases
    databases.close()


@pytest.fixture
def db(databases):
    db = next(databases)
    db.execute("create table items (id int primary key, v text, n int)")
    db.execute("select panvel.create_distributed_table('items', 'id', 6, 2)")
    db.execute("insert into items select i, 'v' || i, 0 from generate_series(1, 300) i")
    return db


def states(db):
    return db.query("select node, role, state, count(*)::int from panvel.shards group by 1, 2, 3 order by 1, 2")


def write_until_done(db, sql, seconds=10):
    """As a client does: again after an error that says that nothing was written. Returns how long it took."""
    start = time.monotonic()
    while True:
        try:
            db.execute(sql)
            return time.monotonic() - start
        except psycopg.Error as error:
            assert error.sqlstate in UNREACHED, error
            assert time.monotonic() - start < seconds, error


def wait_until_in_sync(db):
    wait_until(lambda: db.value("select bool_and(active) from panvel.placement"), 60, "all placements in sync")
    wait_until_settled(db, 30)
    checked = db.query("select * from panvel.check_placements('items')")
    assert len(checked) == 12 and all(equal for *_, equal in checked), checked


def test_a_dead_worker_is_left_out_and_catches_up(db):
    dead = db.workers[0].server
    dead.kill9()
    assert write_until_done(db, "update items set n = n + 1") < 8
    assert db.value("select count(*) from items where n = 1") == 300
    assert ("w1", "follower", "stale", 4) in states(db)
    assert db.value("select count(*) from panvel.shards where role = 'leader' and node <> 'w1'") == 6
    # All that may be missed while it is away: new, changed and deleted rows, a COPY, an upsert.
    db.execute("insert into items select i, 'new', 0 from generate_series(301, 400) i")
    db.execute("insert into items values (401, 'one', 0)")
    db.execute("delete from items where id between 50 and 60")
    db.execute("update items set v = 'single' where id = 7")
    db.execute("insert into items select i, 'upsert', 5 from generate_series(390, 420) i on conflict (id) do update set n = 9")
    before = db.query("select * from items order by id")
    dead.start()
    wait_until_in_sync(db)
    assert {state for _, _, state, _ in states(db)} == {"active"}
    assert db.query("select * from items order by id") == before
    # And once more with another one, whose place the first may have to take.
    db.workers[1].server.kill9()
    write_until_done(db, "update items set n = n + 1")
    with db.connect() as session, session.cursor().copy("copy items from stdin") as copy:
        for i in range(1001, 1051):
            copy.write_row((i, "copied", 1))
    assert db.value("select count(*) from items") == len(before) + 50
    db.workers[1].server.start()
    wait_until_in_sync(db)
    assert db.value("select count(*) from items") == len(before) + 50


def test_both_placements_gone_is_a_clear_error_and_others_go_on(db):
    for worker in db.workers[:2]:
        worker.server.kill9()
    both = "select shard_id from panvel.shards where node in ('w1', 'w2') group by 1 having count(*) = 2"
    lost = [shard for (shard,) in db.query(both)]
    assert lost
    keys = {True: [], False: []}
    hash_of = "hashint4extended(i, 0)"
    for i, shard in db.query(
        f"select i, (select shard_id from panvel.shard where {hash_of} between hash_min and hash_max) from generate_series(1, 60) i"
    ):
        keys[shard in lost].append(i)
    assert keys[True] and keys[False]
    for key in keys[False][:3]:
        write_until_done(db, f"update items set n = 77 where id = {key}", 20)
        assert db.value("select n from items where id = %s", [key]) == 77
    for sql in ("select n from items where id = {}", "update items set n = 1 where id = {}"):
        start = time.monotonic()
        with pytest.raises(psycopg.Error) as caught:
            db.execute(sql.format(keys[True][0]))
        assert caught.value.sqlstate in UNREACHED
        assert time.monotonic() - start < 5
    for worker in db.workers[:2]:
        worker.server.start()
    wait_until_in_sync(db)


def test_min_insync_replicas(db, error_of):
    db.workers[0].server.kill9()
    with db.connect() as session:
        session.execute("set panvel.min_insync_replicas = 2")
        for _ in range(2):
            assert error_of(session.execute, "update items set n = 1").sqlstate in UNREACHED
        assert session.execute("select count(*) from items where n = 1").fetchone() == (0,)
        write_until_done(db, "update items set n = 2")  # another session has 1
        error = error_of(session.execute, "update items set n = 3")
        assert error.sqlstate == "55000" and "needs 2" in str(error)
    db.workers[0].server.start()
    wait_until_in_sync(db)
    assert db.value("select count(*) from items where n = 2") == 300


def test_a_transaction_that_wrote_before_the_set_changed_fails(db):
    with db.connect(autocommit=False) as session:
        session.execute("update items set n = 5")
        db.workers[0].server.kill9()
        write_until_done(db, "insert into items values (5000, 'other', 0)", 20)
        with pytest.raises(psycopg.Error) as caught:
            session.execute("update items set n = 6")
            session.commit()
        assert caught.value.sqlstate in UNREACHED
        session.rollback()
    assert db.value("select count(*) from items where n <> 0") == 0
    db.workers[0].server.start()
    wait_until_in_sync(db)
