"""k-NN through the coordinator, each shard with an ivfflat index: plans, settings, answers."""

import random

import pytest

DIM, ROWS, SHARDS, LISTS = 70, 3000, 4, 8


def vector(generator):
    return "[" + ",".join(f"{generator.gauss(0, 1):.3f}" for _ in range(DIM)) + "]"


@pytest.fixture(scope="module")
def knn(shared_cluster):
    """`items` distributed, with an ivfflat index on every shard."""
    database = shared_cluster.database("ivfflat")
    # Shards as small as here are scanned faster than their indexes.
    database.execute(f'alter database "{database.name}" set enable_seqscan = off')
    generator = random.Random(5)
    with database.connect() as connection:
        connection.execute(f"create table items (id int primary key, embedding vector({DIM}))")
        connection.execute("select panvel.create_distributed_table('items', 'id', %s)", [SHARDS])
        with connection.cursor().copy("copy items from stdin") as copy:
            for i in range(ROWS):
                copy.write_row((i, vector(generator)))
        connection.execute("create index items_knn on items using ivfflat (embedding)"
                           f" with (lists = {LISTS})")
        connection.execute("analyze items")
    yield database
    database.drop()


def nearest(connection, query, limit):
    sql = f"select id from items order by embedding <-> %s::vector limit {limit}"
    return [row[0] for row in connection.execute(sql, [query])]


def exact(database, query, limit):
    """From the shards' tables, without their indexes."""
    found = []
    for worker in database.workers:
        with worker.connect() as connection:
            connection.execute("set enable_indexscan = off; set enable_seqscan = on")
            schemas = [row[0] for row in connection.execute(
                "select nspname from pg_namespace where nspname ~ '^panvel_s'"
                " and to_regclass(nspname || '.items') is not null")]
            for schema in schemas:
                found += connection.execute(
                    f"select embedding <-> %s::vector d, id from {schema}.items order by d"
                    f" limit {limit}", [query]).fetchall()
    return [row[1] for row in sorted(found)[:limit]]


def test_all_lists_give_the_exact_answer(knn):
    generator = random.Random(6)
    with knn.connect() as connection:
        connection.execute(f"set ivfflat.probes = {LISTS}")
        for _ in range(5):
            query = vector(generator)
            assert nearest(connection, query, 20) == exact(knn, query, 20)


def test_settings_reach_the_workers(knn):
    """One list of each shard, or all of them."""
    query = vector(random.Random(7))
    with knn.connect(autocommit=False) as connection:
        few = len(nearest(connection, query, ROWS))
        assert 0 < few < ROWS / 2
        connection.execute("set local ivfflat.iterative_scan = relaxed_order")
        assert len(nearest(connection, query, ROWS)) == ROWS
        connection.execute("set local ivfflat.max_probes = 1")
        assert len(nearest(connection, query, ROWS)) == few
        connection.execute(f"set local ivfflat.probes = {LISTS}")
        assert len(nearest(connection, query, ROWS)) == ROWS
        connection.rollback()
        assert len(nearest(connection, query, ROWS)) == few


def test_shards_scan_their_indexes_in_order(knn):
    before = scans(knn)
    with knn.connect() as connection:
        plan = "\n".join(row[0] for row in connection.execute(
            "explain select id from items order by embedding <-> %s::vector limit 10",
            [vector(random.Random(8))]))
        assert "Sort" not in plan and "Merge Key" in plan, plan
        assert "Vector Index Scan" in worker_plan(knn)
        nearest(connection, vector(random.Random(8)), 10)
    assert before.keys() == scans(knn).keys() and len(before) == SHARDS


def scans(database):
    return {(number, schema): lists
            for number, worker in enumerate(database.workers)
            for schema, lists in worker.query(
                "select schemaname, (ivfflat_index_info(indexrelid)).lists"
                " from pg_stat_user_indexes where indexrelname = 'items_knn'")}


def worker_plan(database):
    """What a worker makes of the statement that it is sent."""
    worker = database.workers[0]
    with worker.connect() as connection:
        connection.execute("set enable_seqscan = off")
        schema = connection.execute(
            "select schemaname from pg_stat_user_indexes where indexrelname = 'items_knn'"
        ).fetchone()[0]
        return "\n".join(row[0] for row in connection.execute(
            f"explain select id, embedding <-> '{vector(random.Random(9))}' from {schema}.items"
            f" order by embedding <-> '{vector(random.Random(9))}' limit 10"))


def test_rows_come_and_go(knn):
    with knn.connect() as connection:
        connection.execute(f"set ivfflat.probes = {LISTS}")
        query = vector(random.Random(10))
        connection.execute("insert into items values (100000, %s)", [query])
        assert nearest(connection, query, 1) == [100000]
        connection.execute("delete from items where id = 100000")
        assert nearest(connection, query, 1) != [100000]
        connection.execute("vacuum items")
        connection.execute("reindex index items_knn")
        assert nearest(connection, query, 10) == exact(knn, query, 10)


def test_no_notice_of_little_data_but_for_shards(knn):
    """The table on the coordinator has no rows of its own; that is not worth a word."""
    notices = []
    with knn.connect() as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        connection.execute("create index items_second on items using ivfflat"
                           " (embedding vector_cosine_ops) with (lists = 4)")
        connection.execute("drop index items_second")
    assert notices == []
