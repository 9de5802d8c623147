"""hnsw with elements that span pages and have codes, on more pages than shared_buffers holds."""

import random
import threading

import pytest

CONF = {"wal_consistency_checking": "generic", "shared_buffers": "1MB"}
ROWS = 240


def vector(seed, dim):
    """Of few degrees of freedom, so that nearest neighbours are well defined."""
    generator = random.Random(seed)
    weights = [generator.random() for _ in range(4)]
    return "[" + ",".join(f"{weights[i % 4] * (1 + i % 7):.4f}" for i in range(dim)) + "]"


def answers(server, dim, use_index):
    found = []
    with server.connect() as connection:
        if use_index:
            connection.execute("set enable_seqscan = off")
        else:
            connection.execute("set enable_indexscan = off")
        for seed in range(-10, 0):
            sql = "select id from items order by embedding <-> %s limit 10"
            found.append({row[0] for row in connection.execute(sql, [vector(seed, dim)])})
    return found


def recall(server, dim):
    pairs = zip(answers(server, dim, True), answers(server, dim, False))
    return sum(len(found & exact) for found, exact in pairs) / 100


@pytest.mark.parametrize("dim, codes", [(1536, 1), (4096, 1), (4200, 0)])
def test_large_vectors_survive_a_crash_and_are_replayed(make_server, dim, codes):
    server = make_server(fsync=True, conf=CONF)
    server.execute("create extension vector")
    server.execute(f"create table items (id int primary key, embedding vector({dim}))")
    server.execute(
        "create index items_hnsw on items using hnsw (embedding vector_l2_ops) with (m = 8, ef_construction = 40)"
    )
    assert server.value("select code_bits from hnsw_index_info('items_hnsw')") == codes
    standby = server.standby("standby", conf=CONF)
    failures = []

    def change(numbers):
        try:
            with server.connect() as connection:
                for number in numbers:
                    connection.execute(
                        "insert into items values (%s, %s)", [number, vector(number, dim)]
                    )
                    if number % 5 == 0:
                        connection.execute("delete from items where id = %s", [number - 2])
        except Exception as error:  # noqa: BLE001: reported by the main thread
            failures.append(error)

    try:
        threads = [
            threading.Thread(target=change, args=[range(first, ROWS, 2)]) for first in range(2)
        ]
        for thread in threads:
            thread.start()
        for _ in range(3):
            server.execute("vacuum items")
        for thread in threads:
            thread.join()
        assert failures == []
        server.execute("vacuum items")
        assert server.query("select * from hnsw_index_check('items_hnsw')") == []
        assert recall(server, dim) >= 0.95
        standby.wait_replayed(server)
        assert standby.query("select * from hnsw_index_check('items_hnsw')") == []
        assert answers(standby, dim, True) == answers(server, dim, True)
        server.kill9()
        server.start()
        assert server.query("select * from hnsw_index_check('items_hnsw')") == []
        assert recall(server, dim) >= 0.95
    finally:
        standby.remove()
