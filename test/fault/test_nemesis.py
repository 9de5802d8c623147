"""Concurrent clients under a random nemesis, and afterwards the checker of their history.

PANVEL_SEED repeats a run's choices. One seed of a minute always; as soak ten of three minutes, or PANVEL_NEMESIS_SEEDS.
The disks' WAL is never full: PostgreSQL then stops, which is what `kill` does.
"""

import os
import random
import signal
import threading
import time

import psycopg
import pytest

from panvel_test import Cluster, wait_until
from panvel_test.distributed import chosen_seed, wait_until_settled
from panvel_test.full_disk import FullDisk
from panvel_test.history import FAILED, OK, UNKNOWN, History, Read, Write
from panvel_test.proxy import Proxy
from panvel_test.server import state_of

KEYS = 60
WRITERS = 3
READERS = 2
DIMENSIONS = 8
SEEDS = int(os.environ.get("PANVEL_NEMESIS_SEEDS", "10"))  # of three minutes, as soak
NEAREST = 5
CRASH_POINTS = ["before_prepare", "between_prepares", "after_prepare", "after_record", "after_local_commit", "between_commit_prepared"]

VECTORS = [[random.Random(key).random() for _ in range(DIMENSIONS)] for key in range(KEYS)]
INITIAL = "insert into items values (%s, 0, %s::vector, '')"


def squared_distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b))


@pytest.fixture
def db():
    """Three workers, each behind a proxy and with a disk that can be full, and a row for every key."""
    # A few rows are deleted and inserted again many times a second: without VACUUM, what is dead fills ef_search.
    cluster = Cluster(workers=3, fsync=True, conf={"autovacuum_naptime": "1s"}, coordinator_conf={"panvel.node_timeout": "2s"})
    disks = [FullDisk(worker) for worker in cluster.workers]
    proxies = []
    try:
        db = cluster.start().database("nemesis")
        db.disks, db.proxies = disks, proxies
        for worker in db.workers:
            proxies.append(Proxy(worker.server.port).__enter__())
            db.execute("select panvel.set_node(%s, '127.0.0.1', %s)", [worker.server.label, proxies[-1].port])
        # `pad` has tables grow, so that a full disk is noticed.
        db.execute(f"create table items (id int primary key, v bigint, e vector({DIMENSIONS}), pad text)")
        db.execute("select panvel.create_distributed_table('items', 'id', 6, 2)")
        db.execute("create index items_e on items using hnsw (e vector_l2_ops)")
        begin_anew(db)
        yield db
        crashes = [line for server in cluster.servers for line in server.crashes()]
        assert not crashes, crashes
    finally:
        for proxy in proxies:
            proxy.__exit__()
        for server in cluster.servers:
            server.remove()


def begin_anew(db):
    db.execute("delete from items")
    with db.connect() as session, session.cursor() as cursor:
        cursor.executemany(INITIAL, [(key, str(VECTORS[key])) for key in range(KEYS)])


class Client(threading.Thread):
    def __init__(self, db, history, number, seed):
        super().__init__()
        self.db, self.history, self.number = db, history, number
        self.random = random.Random(seed * 100 + number)
        self.stopping = threading.Event()
        self.problem = None
        self.done = 0
        self.errors = {}
        self.crash_point = None  # where its next transaction is to stop
        self.armed = False
        self.pid = None

    def run(self):
        session = None
        while not self.stopping.is_set() and self.problem is None:
            try:
                session = session or self.db.connect()
                self.pid = session.info.backend_pid
                self.choose_crash_point(session)
                self.step(session)
                self.done += 1
            except psycopg.Error as error:
                self.errors[error.sqlstate] = self.errors.get(error.sqlstate, 0) + 1
                if error.sqlstate == "XX000" and "crash point" not in str(error):
                    self.problem = error  # an internal error is not what a fault looks like
                if session is None or session.closed:
                    session = None
                time.sleep(0.02)
            except Exception as error:  # noqa: BLE001 to be shown by the test
                self.problem = error

    def choose_crash_point(self, session):
        """Once: a session stops only once, and others are to come by."""
        chosen, self.crash_point = self.crash_point, None
        if chosen is not None or self.armed:
            self.armed = chosen is not None
            session.execute("select set_config('panvel.crash_point', %s, false)", [chosen or ""])


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
                            "insert into items values (%s, %s, %s::vector, %s) "
                            "on conflict (id) do update set v = excluded.v, pad = excluded.pad",
                            [key, value, str(VECTORS[key]), self.pad()],
                        )
                    elif session.execute("update items set v = %s where id = %s", [value, key]).rowcount == 0:
                        session.execute("insert into items values (%s, %s, %s::vector, %s)", [key, value, str(VECTORS[key]), self.pad()])
            write.outcome = OK
        except psycopg.Error as error:
            if error.sqlstate == "08007" or session.closed:
                write.outcome = UNKNOWN
            raise
        finally:
            write.end = time.monotonic()
            self.history.writes.append(write)


    def pad(self):
        return "".join(self.random.choices("abcdefgh", k=self.random.choice([10, 1500])))


class Reader(Client):
    def step(self, session):
        start = time.monotonic()
        distance = None
        kind = self.random.choice(["scan", "point", "knn"])
        if kind == "scan":
            rows = dict(session.execute("select id, v from items").fetchall())
            values = {key: rows.get(key) for key in range(KEYS)}
        elif kind == "point":
            key = self.random.randrange(KEYS)
            values = {key: None, **dict(session.execute("select id, v from items where id = %s", [key]).fetchall())}
        else:
            query = [self.random.random() for _ in range(DIMENSIONS)]
            values = dict(session.execute(f"select id, v from items order by e <-> %s::vector limit {NEAREST}", [str(query)]).fetchall())
            distance = lambda key: squared_distance(VECTORS[key], query)  # noqa: E731
        self.history.reads.append(Read(values, start, time.monotonic(), distance))


def harm(db, generator, clients):
    """One fault, for a while, on one worker or in the middle of a commit. Returns its name."""
    kind = generator.choice(
        ["kill", "hang", "cut", "refuse", "swallow", "delay", "throttle", "cut in a message", "full disk", "crash point", "crash point"]
    )
    index = generator.randrange(len(db.workers))
    seconds = generator.uniform(0.5, 4)
    if kind == "crash point":
        return stop_in_a_commit(db, generator, clients, index, seconds)
    server, proxy = db.workers[index].server, db.proxies[index]
    if kind == "kill":
        kill_for(server, seconds)
    elif kind == "hang":
        server.pause()
        time.sleep(seconds)
        server.resume()
    elif kind == "full disk":
        db.disks[index].fill()
        time.sleep(seconds)
        db.disks[index].empty()
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


def kill_for(server, seconds):
    server.kill9()
    time.sleep(seconds)
    server.start()


def stop_in_a_commit(db, generator, clients, index, seconds):
    """A writer's backend fails, dies (and with it all of the coordinator) or stops there, then perhaps a worker dies as well."""
    writer = clients[generator.randrange(WRITERS)]
    point = generator.choice(CRASH_POINTS)
    how = generator.choice(["error", "kill", "stop", "stop and kill"])
    if how == "error" and point in ("after_local_commit", "between_commit_prepared"):
        how = "kill"  # what is committed cannot fail
    writer.crash_point = f"{point}:{how.split()[0]}"
    if how.startswith("stop"):
        end = time.monotonic() + 3
        while time.monotonic() < end and state_of(writer.pid) != "T":
            time.sleep(0.01)
        if how == "stop and kill":
            kill_for(db.workers[index].server, seconds)
        else:
            time.sleep(seconds)
        try:
            os.kill(writer.pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
    else:
        time.sleep(seconds)
    return f"{point}: {how} {db.workers[index].server.label} {seconds:.1f} s"


def all_in_sync(db):
    return db.value("select bool_and(active) from panvel.placement")


def placements_of(db):
    found = {}
    for shard_id, node in db.query("select shard_id, node from panvel.shards where state = 'active' order by role desc"):
        rows = db.worker(node).query(f"select id, v from panvel_s{shard_id}.items")
        found.setdefault(shard_id, []).append(dict(rows))
    return found


def unclean_indexes(db):
    """What hnsw_index_check says of every placement's index."""
    found = []
    for shard_id, node in db.query("select shard_id, node from panvel.shards"):
        problems = db.worker(node).query("select * from hnsw_index_check(%s)", [f"panvel_s{shard_id}.items_e"])
        found += [(shard_id, node, problem) for problem in problems]
    return found


def final_recall(db, final):
    """Of 20 queries at the end, against all rows."""
    found = wanted = 0
    for seed in range(20):
        query = [random.Random(1000 + seed).random() for _ in range(DIMENSIONS)]
        nearest = sorted(final, key=lambda key: squared_distance(VECTORS[key], query))[:NEAREST]
        rows = db.query(f"select id from items order by e <-> %s::vector limit {NEAREST}", [str(query)])
        wanted += len(nearest)
        found += len(set(nearest) & {key for (key,) in rows})
    return found / wanted


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
            faults.append(harm(db, generator, clients))
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
    assert unclean_indexes(db) == []
    db.execute("vacuum items")
    recall = history.recall(), final_recall(db, final)
    print(f"recall under the nemesis {recall[0]:.4f}, at the end {recall[1]:.4f}")
    assert min(recall) > 0.99
    assert all(client.done > 0 for client in clients)


@pytest.mark.timeout(400)
def test_one_seed(db):
    play(db, chosen_seed(), 60)


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_many_seeds(db):
    first = chosen_seed()
    for seed in range(first, first + SEEDS):
        begin_anew(db)  # each from the same rows
        play(db, seed, 180)
