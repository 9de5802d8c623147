"""panvel.hedge_delay: where a node is slow, a second placement is asked."""

import time

import pytest

from panvel_test import Cluster
from panvel_test.distributed import databases_on, wait_until_settled
from panvel_test.proxy import Proxy

QUERIES = [
    ("select count(*), sum(v) from items", [(900, 900 * 901 // 2)]),
    ("select v from items where id = 77", [(77,)]),
    ("select id from items order by e <-> '[500,0]' limit 1", [(500,)]),
    ("select a.id from items a join items b on a.id = b.v where a.id <= 3 order by 1", [(1,), (2,), (3,)]),
    ("select id, v from items", None),
    ("select id from items order by id offset 897", [(898,), (899,), (900,)]),
    ("select q, (select count(*) from items where v = q) from generate_series(1, 3) q", [(1, 1), (2, 1), (3, 1)]),
]


@pytest.fixture(scope="module")
def db():
    databases = databases_on(Cluster(workers=3, coordinator_conf={"panvel.node_timeout": "5s"}))
    db = next(databases)
    db.execute("create table items (id int primary key, v int, e vector(2))")
    db.execute("select panvel.create_distributed_table('items', 'id', 6, 2)")
    db.execute("insert into items select i, i, array[i, 0]::vector from generate_series(1, 900) i")
    with Proxy(db.workers[0].server.port) as proxy:
        db.proxy = proxy
        db.execute("select panvel.set_node('w1', '127.0.0.1', %s)", [proxy.port])
        wait_until_settled(db)  # what is in doubt would not be read from anyway
        yield db
    databases.close()


def check(session, sql, expected):
    rows = session.execute(sql).fetchall()
    assert sorted(rows) == (expected if expected is not None else [(i, i) for i in range(1, 901)]), sql


def run_all(session):
    """Longest time of a query."""
    longest = 0
    for sql, expected in QUERIES:
        start = time.monotonic()
        check(session, sql, expected)
        longest = max(longest, time.monotonic() - start)
    return longest


def test_a_slow_node_is_not_waited_for(db):
    with db.connect() as session:
        run_all(session)
        db.proxy.delay = 0.2
        slow = run_all(session)
        assert slow > 0.4  # there and back
        session.execute("set panvel.hedge_delay = '30ms'")
        hedged = run_all(session)
        print(f"longest query behind a delay of 200 ms each way: {slow:.2f} s, hedged {hedged:.2f} s")
        assert hedged < slow / 2
        with session.transaction():  # what the transaction has written is seen
            session.execute("update items set v = v + 1000")
            assert session.execute("select count(*) from items where v > 1000").fetchone() == (900,)
            session.execute("update items set v = v - 1000")
        db.proxy.heal()
        run_all(session)


def test_a_hung_node_is_not_waited_for(db):
    with db.connect() as session:
        run_all(session)
        session.execute("set panvel.hedge_delay = '30ms'")
        db.workers[0].server.pause()
        longest = run_all(session)
        print(f"longest query with a hung node, node_timeout 5 s: {longest:.2f} s")
        assert longest < 2
        # Its shards' other placements are slow as well, and still answer.
        db.workers[0].server.resume()
        run_all(session)


def test_all_are_slow(db):
    with db.connect() as session:
        session.execute("set panvel.hedge_delay = '1ms'")
        for _ in range(5):
            run_all(session)
