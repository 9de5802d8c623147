"""SELECT ... FOR UPDATE and FOR SHARE: the shards lock the rows they send."""

import threading

import psycopg
import pytest

from panvel_test import wait_until


@pytest.fixture
def jobs(cluster):
    cluster.execute("create table jobs (id int primary key, state text default 'new', n int default 0, e vector(2))")
    cluster.execute("select panvel.create_distributed_table('jobs', 'id', 5)")
    cluster.execute("insert into jobs select i, 'new', i % 10, format('[%s,1]', i)::vector from generate_series(1, 60) i")
    return cluster


def blocked(database):
    """Number of sessions that wait for a lock on some worker."""
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    return sum(worker.value(waiting) for worker in database.workers)


def free_rows(connection, condition="true"):
    """Ids that nobody has locked."""
    with connection.transaction(force_rollback=True):
        return sorted(row[0] for row in connection.execute(
            f"select id from jobs where {condition} for update skip locked"))


@pytest.mark.parametrize("sql, rows", [
    ("select * from jobs where id = 7 for update", {7}),
    ("select id from jobs where n = 3 for no key update", {3, 13, 23, 33, 43, 53}),
    ("select id from jobs where id < 4 order by id for update", {1, 2, 3}),
    ("select j.n from jobs j where id in (5, 6) order by e <-> '[5,1]' for update of j", {5, 6}),
    ("with c as (select id from jobs where id < 3 for update) select count(*) from c", {1, 2}),
    ("select * from (select id from jobs where id = 9 for update) s", {9}),
    ("select * from newest where n = 4 for update", {4, 14, 24, 34, 44, 54}),
    ("select id from jobs where false for update", set()),
    ("select id from jobs where id = (select max(id) from jobs) for update", {60}),
])
def test_rows_are_locked_until_the_end(jobs, sql, rows):
    jobs.execute("create view newest as select * from jobs where state = 'new'")
    with jobs.connect() as locker, jobs.connect() as other:
        locker.execute("begin")
        found = locker.execute(sql).fetchall()
        assert len(found) == (1 if "count" in sql else len(rows))
        assert set(range(1, 61)) - set(free_rows(other)) == rows
        locker.execute("commit")
        assert len(free_rows(other)) == 60


def test_shared_locks(jobs, error_of):
    with jobs.connect() as first, jobs.connect() as second:
        first.execute("begin")
        assert first.execute("select id from jobs where id = 8 for share").fetchall() == [(8,)]
        with second.transaction():
            assert second.execute("select id from jobs where id = 8 for share nowait").fetchall() == [(8,)]
            assert second.execute("select id from jobs where id = 8 for key share nowait").fetchall() == [(8,)]
        error = error_of(second.execute, "select id from jobs where id = 8 for update nowait")
        assert error.sqlstate == "55P03", error
        assert "could not obtain lock" in str(error)


def test_a_waiter_sees_the_row_as_it_was_committed(jobs):
    with jobs.connect() as first, jobs.connect() as second:
        first.execute("begin")
        first.execute("select n from jobs where id = 11 for update")
        first.execute("update jobs set n = 100 where id = 11")
        seen = []
        waiter = threading.Thread(
            target=lambda: seen.extend(second.execute("select n from jobs where id = 11 and n > 0 for update").fetchall()))
        waiter.start()
        wait_until(lambda: blocked(jobs) > 0, 60)
        first.execute("commit")
        waiter.join()
        assert seen == [(100,)]


def test_savepoints_and_lock_timeout(jobs, error_of):
    with jobs.connect() as first, jobs.connect() as second:
        first.execute("begin; savepoint s")
        first.execute("select from jobs where id = 20 for update")
        assert 20 not in free_rows(second)
        first.execute("rollback to s")
        wait_until(lambda: 20 in free_rows(second), 60)  # the nodes are told without waiting
        first.execute("select from jobs where id = 21 for update")
        second.execute("set lock_timeout = '50ms'")
        assert error_of(second.execute, "select from jobs where id = 21 for update").sqlstate in ("55P03", "57014")
        assert second.execute("select count(*) from jobs").fetchone() == (60,)


def test_a_queue(jobs):
    """Four workers take jobs with SKIP LOCKED; every job is done once."""
    taken, errors = [], []

    def work():
        try:
            with jobs.connect() as connection:
                while True:
                    with connection.transaction():
                        job = connection.execute(
                            "select id from jobs where state = 'new' limit 1 for update skip locked").fetchone()
                        if job is not None:
                            connection.execute("update jobs set state = 'done' where id = %s", [job[0]])
                            taken.append(job[0])
                    if job is None:
                        return
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(taken) == list(range(1, 61))


def test_a_limit_without_order_locks_no_more_rows_than_it_returns(jobs):
    with jobs.connect() as first, jobs.connect() as second:
        for limit in (0, 1, 17, 60, 100):
            with first.transaction():
                rows = {row[0] for row in first.execute(f"select id from jobs limit {limit} for update").fetchall()}
                assert len(rows) == min(limit, 60)
                assert set(free_rows(second)) == set(range(1, 61)) - rows
        with first.transaction():
            first.execute("prepare p(int) as select id from jobs limit $1 offset 2 for update")
            assert len(first.execute("execute p(3)").fetchall()) == 3
            assert len(free_rows(second)) == 55


def test_a_queue_taken_by_update(jobs):
    with jobs.connect() as connection:
        row = connection.execute(
            "update jobs set state = 'taken' where id in (select id from jobs where state = 'new' order by id limit 1 "
            "for update skip locked) returning id").fetchall()
        assert row == [(1,)]


def test_cursors_lock_what_they_return(jobs):
    with jobs.connect() as first, jobs.connect() as second:
        first.execute("begin; declare c cursor for select id from jobs where id < 6 order by id for update")
        assert first.execute("fetch 10 from c").fetchall() == [(i,) for i in range(1, 6)]
        assert free_rows(second, "id < 7") == [6]


def test_a_reference_table(jobs):
    jobs.execute("create table r (id int primary key, n int); insert into r select i, 0 from generate_series(1, 5) i")
    jobs.execute("select panvel.create_reference_table('r')")
    with jobs.connect() as first, jobs.connect() as second:
        first.execute("begin; select * from r where id = 2 for update")
        assert len(second.execute("select id from r for update skip locked").fetchall()) == 4
        assert second.execute("update r set n = 1 where id = 3").rowcount == 1
        first.execute("update r set n = 2 where id = 2; commit")
        assert second.execute("select sum(n) from r").fetchone() == (3,)


def test_explain_shows_the_lock(jobs):
    plan = "\n".join(row[0] for row in jobs.query("explain (analyze, verbose) select id from jobs where n = 3 for update"))
    assert "FOR UPDATE OF t" in plan and "LockRows" not in plan and "Shards: 5 of 5" in plan, plan


@pytest.mark.parametrize("sql", [
    "select * from jobs j join other o on o.id = j.id for update",
    "select * from jobs j join other o on o.id = j.id for update of j",
    "select * from jobs j, jobs k where j.id = k.id for share",
    "select * from jobs where random() < 2 for update",
    "select * from jobs j where id in (select id from other) for update",
    "select * from other, lateral (select * from jobs where n = other.id and random() < 2 for update) s",
])
def test_refusals(jobs, error_of, sql):
    jobs.execute("create table other (id int primary key); insert into other values (1), (2)")
    with jobs.connect() as connection:
        error = error_of(connection.execute, sql)
        assert error.sqlstate == "0A000" and "FOR UPDATE/SHARE" in str(error) and error.diag.message_hint
        assert connection.execute("select count(*) from jobs j join other o on o.id = j.id").fetchone() == (2,)


def test_a_local_table_may_be_locked_beside_a_distributed_one(jobs):
    jobs.execute("create table other (id int primary key); insert into other values (1), (2)")
    rows = jobs.query("select o.id from jobs j join other o on o.id = j.id order by 1 for update of o")
    assert rows == [(1,), (2,)]


def test_read_only_and_rights(jobs, error_of):
    with jobs.connect() as connection:
        connection.execute("begin read only")
        assert error_of(connection.execute, "select * from jobs for update").sqlstate == "25006"


IDLE = ("from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
        "and state = 'idle in transaction'")


def rows_of(jobs, node):
    """Ids of rows on a node."""
    shards = jobs.query("select shard_id from panvel.shards where relation = 'jobs'::regclass and node = %s", [node])
    return [id for (shard,) in shards for (id,) in jobs.worker(node).query(f"select id from panvel_s{shard}.jobs")]


def lock_and_lose(jobs, session):
    """Locks a row on w1 in a transaction, whose session there is then ended."""
    session.execute("begin")
    session.execute("select from jobs where id = %s for update", [rows_of(jobs, "w1")[0]])
    worker = jobs.worker("w1")
    assert worker.value(f"select count(pg_terminate_backend(pid)) {IDLE}") == 1
    wait_until(lambda: worker.value(f"select count(*) {IDLE}") == 0, 20)


def test_statement_after_lost_locks_fails(jobs):
    with jobs.connect() as session:
        lock_and_lose(jobs, session)
        for _ in range(2):  # the first finds out
            with pytest.raises(psycopg.Error) as error:
                session.execute("update jobs set n = 99 where id = %s", [rows_of(jobs, "w1")[0]])
        assert error.value.sqlstate in ("08006", "25P02")
        session.execute("rollback")
        session.execute("update jobs set n = n + 1 where id = 1")
    assert jobs.value("select count(*) from jobs where n = 99") == 0


def test_commit_elsewhere_after_lost_locks_fails(jobs):
    there = rows_of(jobs, "w2")[0]
    with jobs.connect() as session:
        lock_and_lose(jobs, session)
        session.execute("update jobs set n = 99 where id = %s", [there])
        with pytest.raises(psycopg.OperationalError) as error:
            session.execute("commit")
        assert error.value.sqlstate == "08006"
        assert "had locked rows there" in error.value.diag.message_detail
    assert jobs.value("select count(*) from jobs where n = 99") == 0


def test_locks_given_up_with_a_savepoint_may_be_lost(jobs):
    with jobs.connect() as session:
        session.execute("begin; savepoint s")
        session.execute("select from jobs where id = %s for update", [rows_of(jobs, "w1")[0]])
        session.execute("rollback to s")
        worker = jobs.worker("w1")
        wait_until(lambda: worker.value(f"select count(*) {IDLE}") == 1, 20)
        assert worker.value(f"select count(pg_terminate_backend(pid)) {IDLE}") == 1
        wait_until(lambda: worker.value(f"select count(*) {IDLE}") == 0, 20)
        session.execute("update jobs set n = 98 where id = %s", [rows_of(jobs, "w2")[0]])
        session.execute("commit")
    assert jobs.value("select count(*) from jobs where n = 98") == 1
