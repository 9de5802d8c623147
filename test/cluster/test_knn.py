"""k-NN through the coordinator, each shard with an hnsw index."""

import random
import threading

import psycopg
import pytest

from panvel_test import wait_until

DIM = 24
ROWS = 4000
SHARDS = 6


def vector(generator):
    return "[" + ",".join(f"{generator.gauss(0, 1):.4f}" for _ in range(DIM)) + "]"


def fill(connection, table, count, seed):
    generator = random.Random(seed)
    with connection.cursor().copy(f"copy {table} (id, kind, embedding) from stdin") as copy:
        for i in range(count):
            copy.write_row((i, i % 10, vector(generator)))


@pytest.fixture(scope="module")
def knn(shared_cluster):
    """`items` distributed with an hnsw index on every shard, and `plain` with the same rows."""
    database = shared_cluster.database("knn")
    use_indexes(database)
    with database.connect() as connection:
        for table in ("items", "plain"):
            connection.execute(
                f"create table {table} (id int primary key, kind int, embedding vector({DIM}))")
        connection.execute("select panvel.create_distributed_table('items', 'id', %s)", [SHARDS])
        for table in ("items", "plain"):
            fill(connection, table, ROWS, seed=1)
        connection.execute("create index items_knn on items using hnsw (embedding vector_l2_ops)")
        connection.execute("analyze items")
    yield database
    database.drop()


def use_indexes(database):
    """Shards as small as here are scanned faster than their indexes; the tests are about these.

    The setting reaches the workers with each session's others."""
    database.execute(f'alter database "{database.name}" set enable_seqscan = off')


def ids(connection, table, query, limit, where=""):
    rows = connection.execute(
        f"select id from {table} {where} order by embedding <-> %s::vector limit {limit}", [query])
    return [row[0] for row in rows]


def recall(connection, queries, limit=10):
    hits = 0
    for query in queries:
        exact = set(ids(connection, "plain", query, limit))
        hits += len(exact & set(ids(connection, "items", query, limit)))
    return hits / (limit * len(queries))


def queries(count=40):
    generator = random.Random(2)
    return [vector(generator) for _ in range(count)]


def test_recall_at_default_settings(knn):
    with knn.connect() as connection:
        assert recall(connection, queries()) >= 0.95


def test_workers_use_their_indexes(knn):
    """Statistics on the workers tell: every shard's index was scanned, none of its tables."""
    shards = knn.query("select shard_id, node from panvel.shards where relation = 'items'::regclass")
    assert len(shards) == SHARDS

    def scans():
        counts = {}
        for shard, node in shards:
            worker = knn.worker(node)
            counts[shard] = worker.query(
                "select i.idx_scan, t.seq_scan from pg_stat_user_indexes i "
                "join pg_stat_user_tables t using (relid) "
                "where i.schemaname = %s and i.indexrelname = 'items_knn'", [f"panvel_s{shard}"])[0]
        return counts

    before = scans()
    with knn.connect() as connection:
        for query in queries(5):
            ids(connection, "items", query, 10)

    def counted():
        after = scans()
        return all(after[shard][0] >= before[shard][0] + 5 for shard in before) and after

    after = wait_until(counted, 20, "index scans in the workers' statistics")
    assert all(after[shard][1] == before[shard][1] for shard in before)


def test_limit_beyond_ef_search_is_filled_by_all_shards(knn):
    with knn.connect() as connection:
        connection.execute("set hnsw.ef_search = 40")
        assert len(ids(connection, "items", queries(1)[0], 200)) == 200


def test_settings_reach_the_workers(knn):
    """One shard yields at most ef_search elements, so the number of rows shows the setting."""
    key = knn.value("select min(id) from items")

    def rows(connection):
        # A table of one shard would do as well; here the nodes' answers are counted.
        plan = connection.execute(
            "explain (analyze, timing off) select id from items "
            "order by embedding <-> %s::vector limit 1000", [queries(1)[0]]).fetchall()
        return sum(int(line.split("rows=")[1].split()[0]) for (line,) in plan if "Node w" in line)

    assert key == 0
    with knn.connect(autocommit=False) as connection:
        connection.execute("set hnsw.ef_search = 10")
        assert rows(connection) == 10 * SHARDS
        connection.commit()
        assert rows(connection) == 10 * SHARDS
        connection.execute("set local hnsw.ef_search = 20")
        assert rows(connection) == 20 * SHARDS
        connection.rollback()
        assert rows(connection) == 10 * SHARDS
        connection.execute("reset hnsw.ef_search")
        assert rows(connection) == 40 * SHARDS
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            connection.execute("set hnsw.ef_search = 100000")


def test_exact_when_ef_search_covers_the_shards(knn):
    """ef_search at least a shard's rows: the same answers as a plain scan, with filters too."""
    shards = knn.query("select shard_id, node from panvel.shards where relation = 'items'::regclass")
    largest = max(knn.worker(node).value(f"select count(*) from panvel_s{shard}.items")
                  for shard, node in shards)
    assert largest < 1000, "choose more shards"
    with knn.connect() as connection:
        connection.execute("set hnsw.ef_search = 1000")
        for query in queries(10):
            for where in ("", "where kind = 3", "where kind < 5 and mod(id, 2) = 0"):
                assert (ids(connection, "items", query, 10, where)
                        == ids(connection, "plain", query, 10, where))


class Inserter(threading.Thread):
    """Inserts rows one by one until told to stop; remembers what it was told of each."""

    def __init__(self, database, first, step):
        super().__init__()
        self.database = database
        self.next_id = first
        self.step = step
        self.generator = random.Random(first)
        self.ended = threading.Event()
        self.acknowledged = {}
        self.failed = set()
        self.unknown = set()

    def run(self):
        connection = None
        while not self.ended.is_set():
            key, value = self.next_id, vector(self.generator)
            self.next_id += self.step
            try:
                if connection is None or connection.closed:
                    connection = self.database.connect()
                connection.execute("insert into items values (%s, 0, %s)", [key, value])
                self.acknowledged[key] = value
            except psycopg.Error as error:
                outcome = self.unknown if error.sqlstate == "08007" else self.failed
                outcome.add(key)


@pytest.mark.timeout(240)
def test_worker_killed_during_inserts(make_cluster):
    """After kill -9 and restart every acknowledged row is found through the index, nothing that was
    refused is there, and a streaming standby of the worker answers as the worker does."""
    database = make_cluster(workers=2, fsync=True)
    use_indexes(database)
    with database.connect() as connection:
        connection.execute(f"create table items (id int primary key, kind int, embedding vector({DIM}))")
        connection.execute("select panvel.create_distributed_table('items', 'id', 4)")
        connection.execute("create index items_knn on items using hnsw (embedding vector_l2_ops)")
        fill(connection, "items", 500, seed=3)
    victim = database.worker("w1").server
    standby = victim.standby("w1-standby", {"hot_standby": "on"})
    try:
        inserters = [Inserter(database, 1000 + i, 3) for i in range(3)]
        for inserter in inserters:
            inserter.start()
        try:
            for _ in range(3):
                wanted = sum(len(inserter.acknowledged) for inserter in inserters) + 150
                wait_until(lambda: sum(len(i.acknowledged) for i in inserters) >= wanted, 60)
                victim.kill9()
                wait_until(lambda: any(inserter.failed for inserter in inserters), 30)
                victim.start()
        finally:
            for inserter in inserters:
                inserter.ended.set()
            for inserter in inserters:
                inserter.join()
        database.query("select panvel.recover_transactions()")
        assert database.query("select * from panvel.transactions") == []

        acknowledged = {}
        for inserter in inserters:
            acknowledged.update(inserter.acknowledged)
        refused = set().union(*(inserter.failed for inserter in inserters))
        with database.connect() as connection:
            present = {row[0] for row in connection.execute("select id from items where id >= 1000")}
            assert not acknowledged.keys() - present
            assert not refused & present
            connection.execute("set hnsw.ef_search = 1000")
            missing = [key for key, value in acknowledged.items()
                       if ids(connection, "items", value, 1) != [key]]
            assert not missing
        same_answers_on_the_standby(database, victim, standby, list(acknowledged.values())[:20])
    finally:
        standby.remove()


def same_answers_on_the_standby(database, primary, standby, samples):
    standby.wait_replayed(primary)
    shards = database.query("select shard_id from panvel.shards where node = 'w1'")
    replica = type(database.workers[0])(standby, database.name)
    for (shard,) in shards:
        for sample in samples:
            sql = (f"select id from panvel_s{shard}.items "
                   f"order by embedding <-> '{sample}' limit 10")
            assert replica.query(sql) == database.worker("w1").query(sql)
