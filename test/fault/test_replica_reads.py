"""A worker of a replicated table dies under readers: they notice nothing."""

import threading
import time

import pytest

from panvel_test import wait_until

READERS = 4
QUERIES = [
    ("select count(*), sum(v) from items", [], [(2000, 2000 * 2001 // 2)]),
    ("select v from items where id = %s", [77], [(77,)]),
    ("select id from items order by e <-> '[500,0,0]' limit 1", [], [(500,)]),
    ("select id, v from items", [], None),
    ("select a.id from items a join items b on a.id = b.v where a.id <= 3 order by 1", [], [(1,), (2,), (3,)]),
]


@pytest.fixture
def db(make_cluster):
    db = make_cluster(workers=3, coordinator_conf={"panvel.node_timeout": "3s"})
    db.execute("create table items (id int primary key, v int, e vector(3))")
    db.execute("select panvel.create_distributed_table('items', 'id', 6, 2)")
    db.execute("insert into items select i, i, array[i, 0, 0]::vector from generate_series(1, 2000) i")
    return db


class Reader(threading.Thread):
    def __init__(self, db):
        super().__init__()
        self.session = db.connect()
        self.stopping = threading.Event()
        self.problem = None
        self.reads = 0
        self.longest = 0

    def run(self):
        try:
            while not self.stopping.is_set():
                for sql, parameters, expected in QUERIES:
                    start = time.monotonic()
                    rows = self.session.execute(sql, parameters).fetchall()
                    self.longest = max(self.longest, time.monotonic() - start)
                    if expected is None:
                        assert sorted(rows) == [(i, i) for i in range(1, 2001)]
                    else:
                        assert rows == expected, (sql, rows)
                    self.reads += 1
        except Exception as error:  # noqa: BLE001 to be shown by the test
            self.problem = error


def test_readers_notice_nothing(db):
    readers = [Reader(db) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        for worker in db.workers[:2]:
            before = [reader.reads for reader in readers]
            wait_until(lambda: all(r.problem or r.reads > n + 5 for r, n in zip(readers, before)), 60, "reads")
            worker.server.kill9()
            before = [reader.reads for reader in readers]
            wait_until(lambda: all(r.problem or r.reads > n + 5 for r, n in zip(readers, before)), 60, "reads")
            worker.server.start()
            name = worker.server.label
            wait_until(lambda: db.value("select status from panvel.nodes where name = %s", [name]) == "up", 30)
    finally:
        for reader in readers:
            reader.stopping.set()
        for reader in readers:
            reader.join()
    assert [reader.problem for reader in readers if reader.problem] == []
    print("longest read", max(reader.longest for reader in readers))


def test_a_cursor_that_has_given_rows_does_not_repeat_any(db):
    """What was handed out is complete and read once, or the statement fails; here it is small enough."""
    with db.connect(autocommit=False) as session:
        session.execute("declare c cursor for select id from items")
        rows = session.execute("fetch 10 from c").fetchall()
        db.workers[0].server.kill9()
        rows += session.execute("fetch all from c").fetchall()
        assert sorted(rows) == [(i,) for i in range(1, 2001)]


def test_a_write_that_needs_all_placements_fails_and_leaves_nothing(db, error_of):
    db.workers[0].server.kill9()
    with db.connect() as session:
        session.execute("set panvel.min_insync_replicas = 2")
        assert error_of(session.execute, "update items set v = -1").sqlstate in ("08001", "08006")
        assert session.execute("select count(*) from items where v = -1").fetchone() == (0,)
