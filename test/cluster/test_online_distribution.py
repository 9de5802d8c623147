"""create_distributed_table on a table in use: others go on until the switch, and no change is lost."""

import threading

import psycopg
import pytest

from panvel_test import wait_until

WAITS_FOR_TABLE = "select count(*) from pg_locks where relation = 'items'::regclass and not granted and mode = 'AccessExclusiveLock'"


@pytest.fixture
def items(cluster):
    cluster.execute(
        """create table items (id int, part text collate "C", n int not null, twice int generated always as (n * 2) stored, body text,
                               primary key (part, id));
           create index on items (n);
           insert into items (id, part, n, body)
               select i, 'p' || i % 7, 0, case when i % 50 = 0 then repeat(md5(i::text), 300) end from generate_series(1, 3000) i;
           create table twin (like items including generated, unique (part, id))"""
    )
    cluster.execute("insert into twin (id, part, n, body) select id, part, n, body from items")
    return cluster


# What others do to the table and to its twin, in one transaction each; {i}: another number each time.
CHANGES = [
    "update {t} set n = n + 1 where id % 97 = {i} % 97",
    "update {t} set id = id + 100000 where id % 101 = {i} % 101 and id < 100000",
    "delete from {t} where id % 103 = {i} % 103",
    "insert into {t} (id, part, n, body) select 1000000 + 10 * {i} + g, 'new''s', g, repeat('x', 9000) from generate_series(1, 3) g",
    "delete from {t} where part = 'p3' and id % 59 = {i} % 59; insert into {t} (id, part, n) values (7, 'p3', {i}) on conflict (part, id) do update set n = {i}",
]


def change(connection, i):
    for statement in CHANGES[i % len(CHANGES)].split("; "):
        for table in ("items", "twin"):
            connection.execute(statement.format(t=table, i=i))


@pytest.mark.parametrize("distribute", [
    "select panvel.create_distributed_table('items', 'id', 5)",
    "select panvel.create_distributed_table('items', 'part', 3, 2)",
    "select panvel.create_reference_table('items')",
])
def test_changes_meanwhile(items, distribute):
    """A writer that is open when the copy begins holds the switch up, while others come and go."""
    with items.connect(autocommit=False) as early, items.connect(autocommit=False) as rolled_back, items.connect() as other, items.connect() as session:
        for connection in (other, rolled_back):
            connection.execute("set lock_timeout = '100ms'")
        rolled_back.commit()
        change(early, 0)
        change(early, 2)
        failed = []

        def run():
            try:
                session.execute(distribute)
            except Exception as error:  # shown by the assertion below
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        done = 10
        while not items.value(WAITS_FOR_TABLE) and not failed:  # until only `early` is waited for
            try:
                if done % 11 == 0:
                    change(rolled_back, done)
                    rolled_back.rollback()
                else:
                    with other.transaction():
                        change(other, done)
            except psycopg.errors.LockNotAvailable:
                rolled_back.rollback()
                continue  # the switch has come in between
            done += 1
        change(early, 3)
        early.commit()
        thread.join()
        assert not failed and done > 10
        assert items.query("select id, part, n, twice, body from items except all select * from twin") == []
        assert items.query("select id, part, n, twice, body from twin except all select * from items") == []
        assert items.value("select count(*) from items") == items.value("select count(*) from twin")
        change(other, 0)
    if "2)" in distribute:
        assert items.value("select bool_and(equal) from panvel.check_placements('items')")


def test_readers_and_writers_go_on(items):
    """The copy waits for a lock on a shard's schema on a node: meanwhile others read and write the table."""
    with items.workers[0].connect(autocommit=False) as blocker, items.connect() as session:
        blocker.execute("lock table pg_namespace in share mode")  # shards cannot be created
        thread = threading.Thread(target=session.execute, args=["select panvel.create_distributed_table('items', 'id', 2)"])
        thread.start()
        held = "select count(*) from pg_locks where relation = 'items'::regclass and granted and mode = 'ShareUpdateExclusiveLock'"
        wait_until(lambda: items.value(held) == 1, 60)
        items.execute("update items set n = 5 where id = 5; update twin set n = 5 where id = 5")
        assert items.value("select count(*) from items where n = 5") == 1
        blocker.rollback()
        thread.join()
    assert items.query("select * from items where n = 5") == items.query("select * from twin where n = 5")
    assert items.value("select count(*) from items") == 3000


def test_job(items):
    """panvel.jobs says how far it is; the job ends with the transaction, as it does."""
    jobs = "select kind, relation::text, state, done = total, finished is null, shard_id from panvel.jobs order by job_id"
    pages = items.value("select pg_relation_size('items') / current_setting('block_size')::int")
    with items.connect() as session:
        with items.connect(autocommit=False) as writer:
            writer.execute("update items set n = 1 where id = 1")

            def run():
                with pytest.raises(psycopg.errors.QueryCanceled):
                    session.execute("select panvel.create_distributed_table('items', 'id', 2)")

            thread = threading.Thread(target=run)
            thread.start()
            wait_until(lambda: items.value(WAITS_FOR_TABLE), 60)
            assert items.query(jobs) == [("distribute", "items", "running", True, True, None)]
            assert items.value("select total from panvel.jobs") == pages > 1
            session.cancel()
            thread.join()
        assert items.query(jobs) == [("distribute", "items", "canceled", True, False, None)]
        with session.transaction():
            session.execute("savepoint s; select panvel.create_distributed_table('items', 'id', 2); rollback to s")
            session.execute("savepoint s; select panvel.create_distributed_table('items', 'id', 2); release s")
            assert [state for _, _, state, *_ in items.query(jobs)] == ["canceled", "canceled", "running"]
        assert [state for _, _, state, *_ in items.query(jobs)] == ["canceled", "canceled", "done"]


def test_without_a_key_writers_wait(cluster, error_of):
    cluster.execute("create table t (id int); insert into t select generate_series(1, 100)")
    with cluster.connect(autocommit=False) as writer, cluster.connect() as session:
        writer.execute("insert into t values (101)")
        session.execute("set lock_timeout = '50ms'")
        assert error_of(session.execute, "select panvel.create_distributed_table('t', 'id', 2)").sqlstate == "55P03"
        writer.commit()
        session.execute("select panvel.create_distributed_table('t', 'id', 2)")
    assert cluster.value("select count(*) from t") == 101


FOREIGN_KEY = """
    create table parents (id int primary key); create table children (id int, parent int references parents on delete cascade, primary key (parent, id));
    insert into parents select generate_series(1, 20); insert into children select i, i % 20 + 1 from generate_series(1, 60) i
"""


def test_two_tables_with_a_foreign_key(cluster, error_of):
    """Distributed in one transaction they keep it; one alone is refused, at once or at the commit."""
    cluster.execute(FOREIGN_KEY)
    distribute = "select panvel.create_distributed_table('parents', 'id', 3)"
    error = error_of(cluster.execute, distribute)
    assert error.sqlstate == "0A000" and "in one transaction" in error.diag.message_hint
    with cluster.connect(autocommit=False) as connection:
        connection.execute(distribute)
        assert error_of(lambda _: connection.commit(), "commit").sqlstate == "0A000"
        connection.execute("savepoint s")
        connection.execute(distribute)
        connection.execute("rollback to s")
        connection.execute("insert into parents values (100)")
        connection.commit()
        connection.execute(distribute)
        connection.execute("select panvel.create_distributed_table('children', 'parent', colocate_with => 'parents')")
        connection.commit()
    assert error_of(cluster.execute, "insert into children values (1, 1000)").sqlstate == "23503"
    cluster.execute("delete from parents where id <= 5")
    assert cluster.value("select count(*) from children") == 45
