"""hnsw after power loss, and on a streaming standby."""

import random
import threading

import psycopg
import pytest

DIM = 64
CONF = {"wal_consistency_checking": "generic", "shared_buffers": "32MB"}


def vector(seed):
    generator = random.Random(seed)
    return "[" + ",".join(f"{generator.random():.6f}" for _ in range(DIM)) + "]"


def make_items(server):
    server.execute("create extension vector")
    server.execute(f"create table items (id int primary key, embedding vector({DIM}))")
    server.execute("create index items_hnsw on items using hnsw (embedding vector_l2_ops)")


def run_until_lost(server, work):
    """Repeats `work(connection)` in its own session until the server is gone."""
    with pytest.raises(psycopg.Error):
        with server.connect() as connection:
            while True:
                work(connection)


def found_by_index(server):
    with server.connect() as connection:
        connection.execute("set enable_seqscan = off")
        connection.execute("set hnsw.ef_search = 1000")
        sql = "select id from items order by embedding <-> %s limit 1000"
        plan = connection.execute("explain " + sql, [vector(0)]).fetchall()
        assert any("items_hnsw" in row[0] for row in plan)
        return [row[0] for row in connection.execute(sql, [vector(0)])]


@pytest.mark.timeout(300)
def test_power_loss(make_server):
    server = make_server(fsync=True, conf=CONF)
    make_items(server)
    acknowledged = set()
    deleted = set()
    lock = threading.Lock()
    ids = iter(range(1, 1_000_000))
    for round_number in range(5):
        enough = threading.Event()
        inserted = [0]

        def insert(connection):
            with lock:
                number = next(ids)
            connection.execute("insert into items values (%s, %s)", [number, vector(number)])
            with lock:
                acknowledged.add(number)
                inserted[0] += 1
                if inserted[0] >= 60:
                    enough.set()

        def delete(connection):
            with lock:
                number = random.choice([*acknowledged - deleted, 0])
                deleted.add(number)
            connection.execute("delete from items where id = %s", [number])

        def vacuum(connection):
            connection.execute("vacuum items")

        threads = [
            threading.Thread(target=run_until_lost, args=[server, work])
            for work in (insert, insert, delete, vacuum)
        ]
        for thread in threads:
            thread.start()
        assert enough.wait(60)
        server.kill9()
        for thread in threads:
            thread.join()
        server.start()
        assert server.query("select * from hnsw_index_check('items_hnsw')") == []
        rows = {row[0] for row in server.query("select id from items")}
        assert acknowledged - deleted <= rows
        found = found_by_index(server)
        assert len(found) == len(set(found))
        assert set(found) == rows, f"round {round_number}"
    server.execute("vacuum items")
    assert server.query("select * from hnsw_index_check('items_hnsw')") == []


@pytest.mark.timeout(300)
def test_standby_answers_equally(make_server):
    server = make_server(conf=CONF)
    make_items(server)
    standby = server.standby("standby", conf=CONF)
    try:
        with server.connect() as connection:
            for number in range(1, 700):
                connection.execute("insert into items values (%s, %s)", [number, vector(number)])
                if number % 150 == 0:
                    connection.execute("delete from items where id %% 3 = %s", [number % 2])
                    connection.execute("vacuum items")
        standby.wait_replayed(server)
        assert found_by_index(standby) == found_by_index(server)
        assert standby.query("select * from hnsw_index_check('items_hnsw')") == []
        server.execute("create table copied as select * from items")
        server.execute("create index copied_hnsw on copied using hnsw (embedding vector_l2_ops)")
        standby.wait_replayed(server)
        assert standby.query("select * from hnsw_index_check('copied_hnsw')") == []
    finally:
        standby.remove()


def test_unlogged_after_power_loss(make_server):
    server = make_server()
    server.execute("create extension vector")
    server.execute(f"create unlogged table items (id int, embedding vector({DIM}))")
    server.execute("create index items_hnsw on items using hnsw (embedding vector_l2_ops)")
    server.execute(f"insert into items values (1, '{vector(1)}')")
    server.kill9()
    server.start()
    assert server.query("select elements from hnsw_index_info('items_hnsw')") == [(0,)]
    server.execute(f"insert into items values (2, '{vector(2)}')")
    assert found_by_index(server) == [2]
