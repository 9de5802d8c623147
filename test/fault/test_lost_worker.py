"""A worker of a replicated table dies, hangs or is cut off under eight clients. Prints how long they were kept waiting."""

import random
import threading
import time

import psycopg
import pytest

from panvel_test import Cluster, wait_until
from panvel_test.distributed import wait_until_settled
from panvel_test.proxy import Proxy

CLIENTS = 8
NODE_TIMEOUT = 2.0
ROWS = 2000
DIMENSIONS = 8
# The bars (coordinator/replication/README.md) are for a machine that does nothing else; `pytest -rP` prints how
# long it was. Here they are wide enough for whatever runs beside, and not for a client that waits without end.
ALLOWANCE = 4
AGAIN = ("08001", "08006", "40001", "57P01", "57P02", "57P03")


@pytest.fixture(scope="module")
def db():
    """Three workers, the third behind a proxy; rows with vectors and an index on them."""
    cluster = Cluster(workers=3, coordinator_conf={"panvel.node_timeout": f"{NODE_TIMEOUT}s"})
    try:
        db = cluster.start().database("lost")
        with Proxy(db.workers[2].server.port) as db.proxy:
            db.execute("select panvel.set_node('w3', '127.0.0.1', %s)", [db.proxy.port])
            db.execute(f"create table items (id int primary key, v int, e vector({DIMENSIONS}))")
            db.execute("select panvel.create_distributed_table('items', 'id', 6, 2)")
            generator = random.Random(1)
            db.vectors = {i: [generator.random() for _ in range(DIMENSIONS)] for i in range(1, ROWS + 1)}
            with db.connect() as session, session.cursor().copy("copy items from stdin") as copy:
                for i, vector in db.vectors.items():
                    copy.write_row((i, i, str(vector)))
            db.execute("create index on items using hnsw (e vector_l2_ops)")
            db.execute("create table written (id bigint primary key, v int)")
            db.execute("select panvel.create_distributed_table('written', 'id', 6, 2)")
            yield db
        crashes = [line for server in cluster.servers for line in server.crashes()]
        assert not crashes, crashes
    finally:
        for server in cluster.servers:
            server.resume()
        cluster.remove()


def wait_until_in_sync(db):
    wait_until(lambda: db.value("select bool_and(active) from panvel.placement"), 60, "all placements in sync")
    wait_until_settled(db, 30)
    for table in ("items", "written"):
        assert all(equal for (equal,) in db.query("select equal from panvel.check_placements(%s)", [table]))


def is_up(db, node):
    return db.value("select status from panvel.nodes where name = %s", [node]) == "up"


def nearest(db, number, count=10):
    query = db.vectors[number]
    distance = lambda i: sum((a - b) ** 2 for a, b in zip(query, db.vectors[i]))  # noqa: E731
    return query, set(sorted(db.vectors, key=distance)[:count])


class Client(threading.Thread):
    def __init__(self, db, number):
        super().__init__()
        self.db, self.number = db, number
        self.session = db.connect()
        self.stopping = threading.Event()
        self.problem = None
        self.done = 0
        self.longest = 0.0
        self.last = time.monotonic()

    def run(self):
        self.last = time.monotonic()
        try:
            while not self.stopping.is_set():
                self.step()
        except Exception as error:  # noqa: BLE001 to be shown by the test
            self.problem = error

    def did_one(self):
        now = time.monotonic()
        self.longest = max(self.longest, now - self.last)
        self.last = now
        self.done += 1


class Reader(Client):
    """Every read must succeed and be complete."""

    found = 0
    wanted = 0

    def step(self):
        number = 1 + (self.number * 7919 + self.done) % ROWS
        kind = self.done % 4
        if kind == 0:
            assert self.session.execute("select count(*), sum(v) from items").fetchone() == (ROWS, ROWS * (ROWS + 1) // 2)
        elif kind == 1:
            assert self.session.execute("select v from items where id = %s", [number]).fetchone() == (number,)
        elif kind == 2:
            assert len(self.session.execute("select id, v from items").fetchall()) == ROWS
        else:
            query, expected = self.db.nearest[self.done // 4 % len(self.db.nearest)]
            rows = self.session.execute("select id from items order by e <-> %s::vector limit 10", [str(query)]).fetchall()
            assert len(rows) == 10
            self.found += len(expected & {row for (row,) in rows})
            self.wanted += 10
        self.did_one()


class Writer(Client):
    """Single rows, again after an error that says that nothing was written."""

    def __init__(self, db, number):
        super().__init__(db, number)
        self.acknowledged = set()
        self.key = time.monotonic_ns() // 1000 * 100 + number * 10**7

    def step(self):
        self.key += 1
        try:
            self.session.execute("insert into written values (%s, 0)", [self.key])
            self.acknowledged.add(self.key)
            self.did_one()
        except psycopg.Error as error:
            if error.sqlstate not in AGAIN:
                raise


def under(db, kind, harm, heal):
    """Eight clients of the kind work; `harm()`, then `heal()` once all have gone on. Returns them."""
    clients = [kind(db, number) for number in range(CLIENTS)]

    def all_go_on(count):
        before = [client.done for client in clients]
        wait_until(
            lambda: any(c.problem for c in clients) or all(c.done >= n + count for c, n in zip(clients, before)),
            60, f"{count} more of each client")

    for client in clients:
        client.start()
    try:
        all_go_on(12)
        for client in clients:
            client.longest = 0
        harm()
        all_go_on(12)
        heal()
        all_go_on(12)
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()
    assert [client.problem for client in clients if client.problem] == []
    return clients


def report(what, clients):
    longest = max(client.longest for client in clients)
    print(f"{what}: longest stall of {CLIENTS} clients {longest:.2f} s, {sum(c.done for c in clients)} done")
    return longest


def check_readers(db, what, harm, heal):
    db.nearest = [nearest(db, number) for number in range(1, ROWS, ROWS // 10)]
    before = under(db, Reader, lambda: None, lambda: None) if not hasattr(db, "recall") else None
    if before:
        db.recall = sum(c.found for c in before) / sum(c.wanted for c in before)
    clients = under(db, Reader, harm, heal)
    recall = sum(c.found for c in clients) / sum(c.wanted for c in clients)
    print(f"{what}: recall {recall:.4f}, before {db.recall:.4f}")
    assert abs(recall - db.recall) < 0.02
    return report(f"{what}, readers", clients)


def check_writers(db, what, harm, heal):
    clients = under(db, Writer, harm, heal)
    wait_until_in_sync(db)
    rows = {key for (key,) in db.query("select id from written")}
    lost = set().union(*(client.acknowledged for client in clients)) - rows
    print(f"{what}: acknowledged writes {sum(len(c.acknowledged) for c in clients)}, lost {len(lost)}")
    assert not lost
    return report(f"{what}, writers", clients)


def start_again(db, number):
    server = db.workers[number].server
    server.start()
    wait_until(lambda: is_up(db, server.label), 30, "worker up")


def go_on_again(db, number):
    server = db.workers[number].server
    wait_until(lambda: not is_up(db, server.label), 30, "worker found to hang")
    server.resume()
    wait_until(lambda: is_up(db, server.label), 30, "worker up")


def test_killed_under_readers(db):
    assert check_readers(db, "kill -9", db.workers[0].server.kill9, lambda: start_again(db, 0)) < 2 * ALLOWANCE


def test_killed_under_writers(db):
    assert check_writers(db, "kill -9", db.workers[1].server.kill9, lambda: start_again(db, 1)) < 3 * ALLOWANCE


def test_hung_under_readers(db):
    assert check_readers(db, "SIGSTOP", db.workers[2].server.pause, lambda: go_on_again(db, 2)) < 2 * ALLOWANCE + NODE_TIMEOUT


def test_hung_under_writers(db):
    assert check_writers(db, "SIGSTOP", db.workers[0].server.pause, lambda: go_on_again(db, 0)) < 3 * ALLOWANCE + NODE_TIMEOUT


def cut_off(db, seconds):
    """No connection gets through, old or new; half of the time silently."""

    def harm():
        db.proxy.refuse = True
        db.proxy.cut()

    def heal():
        time.sleep(seconds / 2)
        db.proxy.refuse, db.proxy.swallow = False, True
        time.sleep(seconds / 2)
        db.proxy.heal()

    longest = check_writers(db, f"cut off for {seconds} s", harm, heal)
    assert longest < 3 * ALLOWANCE + NODE_TIMEOUT
    assert db.value("select count(*) from panvel.jobs where state <> 'done'") == 0


def test_cut_off_and_back(db):
    cut_off(db, 3)


@pytest.mark.soak
def test_cut_off_for_a_minute_and_back(db):
    cut_off(db, 60)
