"""32 clients with mixed work: connections bounded, memory flat, nothing stuck."""

import random
import threading
import time

import psycopg
import pytest

from panvel_test import wait_until
from panvel_test.distributed import SESSIONS, SOAK_SECONDS, anonymous_memory, nothing_left

CLIENTS = 32
KEYS = 2000


def prepare(db):
    db.execute("create table items (id bigint primary key, n int, embedding vector(8))")
    db.execute("select panvel.create_distributed_table('items', 'id', shard_count => 6)")
    db.execute(
        "insert into items select i, 0, array_fill(random()::real, '{8}')::vector"
        f" from generate_series(1, {KEYS}) i"
    )


class Client(threading.Thread):
    def __init__(self, db, number):
        super().__init__()
        self.session = db.connect()
        self.random = random.Random(number)
        self.next_id = 1_000_000 * (number + 1)
        self.done = 0
        self.errors = []
        self.stopping = threading.Event()

    def key(self):
        return self.random.randrange(1, KEYS + 1)

    def work(self):
        execute = self.session.execute
        kind = self.random.randrange(8)
        if kind == 0:
            execute("select n from items where id = %s", [self.key()])
        elif kind == 1:
            vector = str([self.random.random() for _ in range(8)])
            execute("select id from items order by embedding <-> %s limit 5", [vector])
        elif kind == 2:
            self.next_id += 2
            execute(
                "insert into items (id, n) values (%s, 1), (%s, 1)", [self.next_id, self.next_id + 1]
            )
        elif kind == 3:
            a, b = sorted((self.key(), self.key()))
            with self.session.transaction():
                execute("update items set n = n + 1 where id = %s", [a])
                execute("update items set n = n - 1 where id = %s", [b])
        elif kind == 4:
            with self.session.transaction():
                execute("select count(*) from items where id < 100")
                try:
                    with self.session.transaction():
                        execute("insert into items (id) values (1)")
                except psycopg.errors.UniqueViolation:
                    pass
                execute("update items set n = n where id = %s", [self.key()])
        elif kind == 5:
            execute("delete from items where id = %s", [self.next_id])
        elif kind == 6:
            execute("select count(*), sum(n) from items")
        else:
            with self.session.transaction():
                execute("declare c cursor for select * from items")
                execute("fetch 10 from c")

    def run(self):
        while not self.stopping.is_set():
            try:
                self.work()
                self.done += 1
            except psycopg.Error as error:
                self.errors.append(error)
        self.session.close()


def run(db, seconds):
    prepare(db)
    clients = [Client(db, number) for number in range(CLIENTS)]
    pids = [client.session.info.backend_pid for client in clients]
    start = time.monotonic()
    memory = []
    for client in clients:
        client.start()
    try:
        while time.monotonic() < start + seconds or len(memory) < 12:
            time.sleep(seconds / 30)
            memory.append(anonymous_memory(pids))
            assert all(worker.value(SESSIONS) <= CLIENTS + 2 for worker in db.workers)
            oldest = "select coalesce(max(extract(epoch from clock_timestamp() - since)), 0) from panvel.activity"
            assert db.value(oldest) < 30
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()
    errors = [error for client in clients for error in client.errors if error.sqlstate != "40P01"]
    assert errors == []
    assert all(client.done > 0 for client in clients)
    third = len(memory) // 3
    early, late = max(memory[third : 2 * third]), max(memory[-third:])
    print(f"{sum(client.done for client in clients)} pieces of work, {early >> 20} MB, then {late >> 20} MB")
    assert late < early * 1.25 + (8 << 20)
    wait_until(lambda: nothing_left(db), 15)
    for worker in db.workers:
        wait_until(lambda: worker.value(SESSIONS) == 0, 5)
    assert db.value("select sum(n) from items where id <= %s", [KEYS]) == 0


def test_for_a_moment(cluster):
    run(cluster, 15)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS + 600)
def test_for_long(cluster):
    run(cluster, SOAK_SECONDS)
