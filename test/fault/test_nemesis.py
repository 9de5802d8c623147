"""Concurrent clients under a random nemesis, and afterwards the checker of their history.

PANVEL_SEED repeats a run's choices. One seed in a short form always; ten of three minutes as soak.
"""

import random
import threading
import time

import psycopg
import pytest

from panvel_test import wait_until
from panvel_test.distributed import chosen_seed, wait_until_settled
from panvel_test.history import FAILED, OK, UNKNOWN, History, Read, Write
from panvel_test.proxy import Proxy

KEYS = 60
WRITERS = 3
READERS = 2


@pytest.fixture
def db(make_cluster):
    """Three workers, each behind a proxy, and a replicated table with a row for every key."""
    db = make_cluster(workers=3, fsync=True, coordinator_conf={"panvel.node_timeout": "2s"})
    db.proxies = []
    for worker in db.workers:
        proxy = Proxy(worker.server.port).__enter__()
        db.proxies.append(proxy)
        db.execute("select panvel.set_node(%s, '127.0.0.1', %s)", [worker.server.label, proxy.port])
    db.execute("create table items (id int primary key, v bigint, e vector(2))")
    db.execute("select panvel.create_distributed_table('items', 'id', 6, 2)")
    db.execute(f"insert into items select i, 0, array[i, 1]::vector from generate_series(0, {KEYS - 1}) i")
    yield db
    for proxy in db.proxies:
        proxy.__exit__()


class Client(threading.Thread):
    def __init__(self, db, history, number, seed):
        super().__init__()
        self.db, self.history, self.number = db, history, number
        self.random = random.Random(seed * 100 + number)
        self.stopping = threading.Event()
        self.problem = None
        self.done = 0
        self.errors = {}

    def run(self):
        session = None
        while not self.stopping.is_set() and self.problem is None:
            try:
                session = session or self.db.connect()
                self.step(session)
                self.done += 1
            except psycopg.Error as error:
                self.errors[error.sqlstate] = self.errors.get(error.sqlstate, 0) + 1
                if session is None or session.closed:
                    session = None
                time.sleep(0.02)
            except Exception as error:  # noqa: BLE001 to be shown by the test
                self.problem = error


class Writer(Client):
    """Has the keys for itself that are its number modulo WRITERS."""

    def step(self, session):
        keys = self.random.sample(range(self.number, KEYS, WRITERS), self.random.choice([1, 1, 2]))
        kind = self.random.choice(["update", "upsert", "upsert", "delete"])
        value = None if kind == "delete" else time.monotonic_ns()
        write = Write(dict.fromkeys(keys, value), time.monotonic(), 0, FAILED)
        try:
            with session.transaction():
                for key in keys:
                    if kind == "delete":
                        session.execute("delete from items where id = %s", [key])
                    elif kind == "upsert":
                        session.execute(
                            "insert into items values (%s, %s, array[%s, 1]::vector) "
                            "on conflict (id) do update set v = excluded.v",
                            [key, value, key],
                        )
                    elif session.execute("update items set v = %s where id = %s", [value, key]).rowcount == 0:
                        session.execute("insert into items values (%s, %s)", [key, value])
            write.outcome = OK
        except psycopg.Error as error:
            if error.sqlstate == "08007" or session.closed:
                write.outcome = UNKNOWN
            raise
        finally:
            write.end = time.monotonic()
            self.history.writes.append(write)


class Reader(Client):
    def step(self, session):
        start = time.monotonic()
        kind = self.random.choice(["scan", "point", "knn"])
        if kind == "scan":
            rows = dict(session.execute("select id, v from items").fetchall())
            values = {key: rows.get(key) for key in range(KEYS)}
        elif kind == "point":
            key = self.random.randrange(KEYS)
            values = {key: None, **dict(session.execute("select id, v from items where id = %s", [key]).fetchall())}
        else:
            values = dict(session.execute("select id, v from items order by e <-> '[30,1]' limit 5").fetchall())
        self.history.reads.append(Read(values, start, time.monotonic()))


def harm(db, generator):
    """One fault, for a while, on one worker. Returns its name."""
    index = generator.randrange(len(db.workers))
    server, proxy = db.workers[index].server, db.proxies[index]
    kind = generator.choice(["kill", "hang", "cut", "refuse", "swallow", "delay", "throttle", "cut in a message"])
    seconds = generator.uniform(0.5, 4)
    if kind == "kill":
        server.kill9()
        time.sleep(seconds)
        server.start()
    elif kind == "hang":
        server.pause()
        time.sleep(seconds)
        server.resume()
    else:
        proxy.delay = 0.05 if kind == "delay" else 0
        proxy.rate = 20_000 if kind == "throttle" else None
        proxy.swallow = kind == "swallow"
        proxy.refuse = kind == "refuse"
        if kind == "cut in a message":
            proxy.cut_after(generator.randrange(1, 5000))
        if kind in ("cut", "refuse"):
            proxy.cut()
        time.sleep(seconds)
        proxy.heal()
    return f"{kind} {server.label} {seconds:.1f} s"


def all_in_sync(db):
    return db.value("select bool_and(active) from panvel.placement")


def placements_of(db):
    found = {}
    for shard_id, node in db.query("select shard_id, node from panvel.shards where state = 'active' order by role desc"):
        rows = db.worker(node).query(f"select id, v from panvel_s{shard_id}.items")
        found.setdefault(shard_id, []).append(dict(rows))
    return found


def play(db, seed, seconds):
    generator = random.Random(seed)
    history = History(dict.fromkeys(range(KEYS), 0))
    clients = [Writer(db, history, number, seed) for number in range(WRITERS)]
    clients += [Reader(db, history, WRITERS + number, seed) for number in range(READERS)]
    for client in clients:
        client.start()
    faults = []
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and not any(client.problem for client in clients):
            faults.append(harm(db, generator))
            time.sleep(generator.uniform(0, 3))
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()
    print(f"seed {seed}: {faults}")
    print([(type(c).__name__, c.done, c.errors) for c in clients])
    assert [client.problem for client in clients if client.problem] == []
    wait_until_settled(db, 60)
    wait_until(lambda: all_in_sync(db), 90, "all placements in sync")
    final = dict(db.query("select id, v from items"))
    assert history.problems(final, placements_of(db)) == []
    assert all(equal for (equal,) in db.query("select equal from panvel.check_placements('items')"))
    assert all(client.done > 0 for client in clients)


@pytest.mark.timeout(400)
def test_one_seed(db):
    play(db, chosen_seed(), 25)


@pytest.mark.soak
@pytest.mark.timeout(2 * 3600)
def test_ten_seeds(db):
    first = chosen_seed()
    for seed in range(first, first + 10):  # each from the same rows
        db.execute("delete from items")
        db.execute(f"insert into items select i, 0, array[i, 1]::vector from generate_series(0, {KEYS - 1}) i")
        play(db, seed, 180)
