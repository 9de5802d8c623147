"""Servers killed in the middle of writes: what was acknowledged is there, nothing is there by half."""

import os
import random
import signal
import threading
import time

import psycopg
import pytest

from panvel_test import Server, wait_until
from panvel_test.distributed import wait_until_stopped

DIMENSIONS = 16
SOAK_SECONDS = int(os.environ.get("PANVEL_SOAK_SECONDS", "600"))


def vector(generator):
    return "[" + ",".join(f"{generator.random():.4f}" for _ in range(DIMENSIONS)) + "]"


def create_items(db):
    db.execute(f"create table items (id bigint primary key, embedding vector({DIMENSIONS}))")
    db.execute("select panvel.create_distributed_table('items', 'id', shard_count => 4)")
    db.execute("create index on items using hnsw (embedding vector_l2_ops)")


class Writer(threading.Thread):
    """Inserts batches until told to stop; a batch of 5 rows usually spans several nodes."""

    def __init__(self, db, number):
        super().__init__()
        self.db = db
        self.random = random.Random(number)
        self.next_id = number * 1_000_000
        self.acknowledged = []  # lists of ids
        self.unknown = []
        self.failed = []
        self.broken = None  # what ended the thread, if not stopping
        self.stopping = threading.Event()

    def run(self):
        try:
            self.insert()
        except BaseException as error:
            self.broken = error

    def insert(self):
        connection = None
        while not self.stopping.is_set():
            ids = list(range(self.next_id, self.next_id + 5))
            self.next_id += 5
            rows = ", ".join(f"({i}, '{vector(self.random)}')" for i in ids)
            try:
                connection = connection or self.db.connect()
                connection.execute(f"insert into items values {rows}")
                self.acknowledged.append(ids)
            except psycopg.Error as error:
                (self.unknown if error.sqlstate == "08007" else self.failed).append(ids)
                if connection and connection.closed:
                    connection = None


def check_rows(db, writers):
    """Every acknowledged batch is whole, every failed one absent, every unknown one whole or absent."""
    there = {row[0] for row in db.query("select id from items")}
    for writer in writers:
        for batch in writer.acknowledged:
            assert there.issuperset(batch), f"acknowledged but lost: {set(batch) - there}"
        for batch in writer.failed:
            assert there.isdisjoint(batch), f"failed but there: {set(batch) & there}"
        for batch in writer.unknown:
            assert len(there & set(batch)) in (0, len(batch)), f"by half: {there & set(batch)}"
    return there


def wait_for_node(db):
    """Until every node answers and nothing is in doubt."""

    def settled():
        try:
            answers = db.query("select ok from panvel.run_on_nodes('select 1')")
            db.query("select panvel.recover_transactions()")
            doubts = db.value("select count(*) from panvel.transactions")
        except psycopg.Error:
            return False
        return all(ok for (ok,) in answers) and doubts == 0

    wait_until(settled, 60)


def kill_during_inserts(db, choose, rounds):
    """Three writers, while for each of `rounds` a server is killed and started: choose() kills it."""
    create_items(db)
    writers = [Writer(db, number) for number in (1, 2, 3)]
    for writer in writers:
        writer.start()
    try:
        for _ in rounds:
            before = sum(len(writer.acknowledged) for writer in writers)
            wait_until(
                lambda: sum(len(w.acknowledged) for w in writers) > before + 30, 60, "progress"
            )
            choose().start()
    finally:
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join()
    assert not any(writer.broken for writer in writers), [writer.broken for writer in writers]
    wait_for_node(db)
    # A connection that broke tells nothing about its last statement.
    for writer in writers:
        writer.unknown += writer.failed
        writer.failed = []
    check_rows(db, writers)


@pytest.mark.parametrize("kill", [Server.kill9, Server.kill_postmaster])
def test_coordinator_killed_during_inserts(make_cluster, kill):
    db = make_cluster(workers=2, fsync=True)

    def choose():
        kill(db.server)
        return db.server

    kill_during_inserts(db, choose, range(3))


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS + 600)
def test_random_servers_killed_during_inserts(make_cluster):
    db = make_cluster(workers=3, fsync=True)
    generator = random.Random()
    end = time.monotonic() + SOAK_SECONDS

    def choose():
        server = generator.choice(db.cluster.servers)
        generator.choice([Server.kill9, Server.kill_postmaster])(server)
        return server

    kill_during_inserts(db, choose, iter(lambda: time.monotonic() < end, False))


def check_worker_index(worker):
    """On the worker itself, shard by shard: the index finds every row of the shard's heap."""
    shards = worker.query(
        "select format('%I.%I', nspname, relname) from pg_class "
        "join pg_namespace n on n.oid = relnamespace where relname = 'items' and relkind = 'r'"
    )
    assert shards
    generator = random.Random(11)
    for (shard,) in shards:
        for _ in range(5):
            sql = f"select id from {shard} order by embedding <-> '{vector(generator)}' limit 10"
            with worker.connect() as connection:
                connection.execute("set hnsw.ef_search = 1000")
                connection.execute("set enable_seqscan = off")
                plan = connection.execute("explain " + sql).fetchall()
                assert any("Index Scan" in line for (line,) in plan)
                indexed = connection.execute(sql).fetchall()
                connection.execute("set enable_seqscan = on")
                connection.execute("set enable_indexscan = off")
                exact = connection.execute(sql).fetchall()
            assert len(set(indexed) & set(exact)) >= 0.9 * len(exact)
        rows = worker.value(f"select count(*) from {shard}")
        if rows <= 1000:
            with worker.connect() as connection:
                connection.execute("set hnsw.ef_search = 1000")
                connection.execute("set enable_seqscan = off")
                found = connection.execute(
                    f"select id from {shard} order by embedding <-> '{vector(generator)}'"
                ).fetchall()
            assert len(found) == rows


def test_standby_of_a_worker(make_cluster):
    """A streaming standby of a worker holds the same rows and answers from the same index."""
    db = make_cluster(workers=2, fsync=True)
    create_items(db)
    primary = db.workers[0].server
    standby = primary.standby("standby")
    try:
        writer = Writer(db, 1)
        writer.start()
        wait_until(lambda: len(writer.acknowledged) > 100, 60, "progress")
        writer.stopping.set()
        writer.join()
        db.execute("delete from items where id % 7 = 0")
        db.execute("vacuum items")
        standby.wait_replayed(primary)
        replica = type(db.workers[0])(standby, db.name)
        check_worker_index(replica)
        count = "select count(*) from pg_class where relname = 'items' and relkind = 'r'"
        assert replica.value(count) == db.workers[0].value(count)
        # The primary is lost with a transaction in doubt; its standby takes its place, and has it.
        session = db.connect()
        session.execute("set panvel.crash_point = 'after_local_commit:stop'")
        updater = threading.Thread(target=session.execute, args=["update items set embedding = embedding where id % 7 = 1"])
        updater.start()
        wait_until_stopped(session.info.backend_pid)
        standby.wait_replayed(primary)
        primary.kill9()
        os.kill(session.info.backend_pid, signal.SIGCONT)
        updater.join(60)
        standby.execute("select pg_promote()")
        wait_until(lambda: not standby.value("select pg_is_in_recovery()"), 60, "promotion")
        db.execute("select panvel.set_node('w1', '127.0.0.1', %s)", [standby.port])
        writer.acknowledged = [[i for i in batch if i % 7] for batch in writer.acknowledged]
        check_rows(db, [writer])
    finally:
        standby.remove()
