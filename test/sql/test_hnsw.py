"""hnsw where one transaction is not enough: vacuum, concurrency, interrupts, damage."""

import random
import threading
import time

import psycopg
import pytest

from hnsw_workload import OPERATORS
from panvel_test import wait_until

DIM = 64


def vector(seed):
    generator = random.Random(seed)
    return "[" + ",".join(f"{generator.random():.6f}" for _ in range(DIM)) + "]"


def make_table(db, rows, options=""):
    db.execute(f"create table items (id int primary key, embedding vector({DIM}))")
    with db.connect() as connection, connection.cursor() as cursor:
        with cursor.copy("copy items from stdin") as copy:
            for i in range(rows):
                copy.write_row((i, vector(i)))
    db.execute(f"create index items_hnsw on items using hnsw (embedding vector_l2_ops) {options}")


def problems(db):
    return db.query("select * from hnsw_index_check('items_hnsw')")


def recall(db, queries=20, k=10):
    found = 0
    with db.connect() as connection:
        for i in range(queries):
            query = vector(-1 - i)
            answers = []
            for index in ("on", "off"):
                connection.execute(f"set enable_indexscan = {index}")
                connection.execute(f"set enable_seqscan = {'off' if index == 'on' else 'on'}")
                sql = f"select id from items order by embedding <-> %s limit {k}"
                answers.append({row[0] for row in connection.execute(sql, [query])})
            found += len(answers[0] & answers[1])
    return found / (queries * k)


def test_vacuum_repairs_and_reuses(db):
    make_table(db, 2000)
    fresh = recall(db)
    pages = db.value("select pages from hnsw_index_info('items_hnsw')")
    for _ in range(2):
        deleted = db.query("delete from items where id % 2 = 0 returning id")
        db.execute("vacuum items")
        info = db.query("select elements, dead_elements, rows from hnsw_index_info('items_hnsw')")
        assert info == [(1000, 0, 1000)]
        assert problems(db) == []
        assert recall(db) >= fresh - 0.03
        with db.connect() as connection, connection.cursor() as cursor:
            with cursor.copy("copy items from stdin") as copy:
                for (i,) in deleted:
                    copy.write_row((i, vector(i)))
        assert problems(db) == []
        assert recall(db) >= fresh - 0.03
    # Levels are random, so the pages of lists above level 0 are not the same number.
    assert db.value("select pages from hnsw_index_info('items_hnsw')") <= pages * 1.05 + 2


def test_vacuum_of_everything(db):
    make_table(db, 300)
    db.execute("delete from items")
    db.execute("vacuum items")
    info = "select levels, elements, dead_elements from hnsw_index_info('items_hnsw')"
    assert db.query(info) == [(0, 0, 0)]
    db.execute(f"insert into items values (1, '{vector(1)}'), (2, '{vector(2)}')")
    assert problems(db) == []
    with db.connect() as connection:
        connection.execute("set enable_seqscan = off")
        rows = connection.execute("select id from items order by embedding <-> %s", [vector(2)])
        assert rows.fetchall() == [(2,), (1,)]


def test_vacuum_of_duplicates(db):
    make_table(db, 0)
    db.execute(f"insert into items select i, '{vector(7)}' from generate_series(1, 200) i")
    db.execute("delete from items where id <= 150 and id % 7 <> 0")
    db.execute("vacuum items")
    assert problems(db) == []
    left = db.value("select count(*) from items")
    assert db.query("select elements, rows from hnsw_index_info('items_hnsw')") == [(1, left)]
    db.execute("delete from items")
    db.execute("vacuum items")
    assert db.query("select elements, rows from hnsw_index_info('items_hnsw')") == [(0, 0)]


def test_scans_of_several_indexes_in_turn(db):
    """What a session remembers of the last query vector is used for that one only."""
    generator = random.Random(5)
    kinds = {"l2": ("vector", "vector_l2_ops", "<->", DIM), "cosine": ("vector", "vector_cosine_ops", "<=>", DIM),
             "halves": ("halfvec", "halfvec_l2_ops", "<->", DIM), "more": ("vector", "vector_l2_ops", "<->", DIM + 6),
             "twin": ("vector", "vector_l2_ops", "<->", DIM)}

    def random_vector(dim):
        return "[" + ",".join(f"{generator.uniform(-1, 1):.3f}" for _ in range(dim)) + "]"

    for name, (form, opclass, _, dim) in kinds.items():
        db.execute(f"create table {name} (id int, embedding {form}({dim}))")
        with db.connect() as connection, connection.cursor() as cursor:
            with cursor.copy(f"copy {name} from stdin") as copy:
                for i in range(300):
                    copy.write_row((i, random_vector(dim)))
        db.execute(f"create index on {name} using hnsw (embedding {opclass})")
    queries = [random_vector(DIM) for _ in range(3)]
    # The same numbers but for the last, the same bytes in part.
    queries += [queries[0][:-2] + "9]", queries[0]]

    def ask(connection, name, query):
        form, _, operator, dim = kinds[name]
        query = query if dim == DIM else query[:-1] + ",0" * (dim - DIM) + "]"
        return connection.execute(f"select id, embedding {operator} '{query}'::{form} from {name}"
                                  f" order by embedding {operator} '{query}'::{form} limit 10").fetchall()

    expected = {}
    for name in kinds:
        for query in queries:
            with db.connect() as connection:
                connection.execute("set enable_seqscan = off; set hnsw.ef_search = 10")
                expected[name, query] = ask(connection, name, query)
    with db.connect() as connection:
        connection.execute("set enable_seqscan = off; set hnsw.ef_search = 10")
        for _ in range(150):
            name, query = generator.choice(list(expected))
            assert ask(connection, name, query) == expected[name, query], name
        # Two scans of one statement, in turn.
        with connection.transaction():
            for cursor, query in zip("ab", queries):
                connection.execute(f"declare {cursor} cursor for select id from l2 order by embedding <-> '{query}' limit 10")
            rows = {cursor: [] for cursor in "ab"}
            for _ in range(10):
                for cursor in "ab":
                    rows[cursor] += connection.execute(f"fetch 1 from {cursor}").fetchall()
        for cursor, query in zip("ab", queries):
            assert rows[cursor] == [(id_,) for id_, _ in expected["l2", query]]


def test_interrupted_build_leaves_nothing(db):
    db.execute("create table items (id int, embedding vector(200))")
    db.execute(
        "insert into items select g, array_agg(random()) from generate_series(1, 20000) g,"
        " generate_series(1, 200) group by g"
    )
    with db.connect() as connection:
        pid = connection.info.backend_pid
        failed = []

        def build():
            try:
                connection.execute("set max_parallel_maintenance_workers = 2")
                connection.execute("set maintenance_work_mem = '512MB'")
                connection.execute(
                    "create index items_hnsw on items using hnsw (embedding vector_l2_ops)"
                    " with (ef_construction = 1000)"
                )
            except psycopg.errors.QueryCanceled as error:
                failed.append(error)

        thread = threading.Thread(target=build)
        thread.start()
        wait_until(
            lambda: db.query(
                "select 1 from pg_stat_progress_create_index"
                " where phase = 'building index: building graph'"
            )
        )
        begin = time.monotonic()
        db.execute("select pg_cancel_backend(%s)", [pid])
        thread.join()
        assert failed and time.monotonic() - begin < 3
        assert connection.execute("select count(*) from pg_class where relname = 'items_hnsw'"
                                  ).fetchone() == (0,)
        threads = int(open(f"/proc/{pid}/status").read().split("Threads:")[1].split()[0])
        assert threads == 1


# Each layout of pages, and how many rows make some dozens of them.
DAMAGED = [
    ("vector(64)", "vector_l2_ops", "m = 16", 300),
    ("vector(1100)", "vector_cosine_ops", "m = 8", 40),
    ("vector(2500)", "vector_l1_ops", "m = 8", 40),
    ("vector(12)", "vector_l1_ops", "m = 4", 400),
]


def damaged_repeatedly(make_server, rounds, seed):
    """Random bytes in random pages: an error or an answer, never a crash or an endless loop."""
    generator = random.Random(seed)
    db = make_server(conf={"autovacuum": "off"})
    db.execute("create extension vector")
    errors = 0
    for number in range(rounds):
        kind, opclass, options, rows = DAMAGED[number % len(DAMAGED)]
        dim = kind[7:-1]
        db.execute(
            f"drop table if exists items; create table items (id int, embedding {kind});"
            "insert into items select i, (select array_agg(case when i % 7 = 0 then g % 13 else"
            " hashint4extended(g, i) % 1000 end::float4) from"
            f" generate_series(1, {dim}) g)::vector from generate_series(1, {rows}) i;"
            f"create index items_hnsw on items using hnsw (embedding {opclass})"
            f" with ({options}, ef_construction = 32);"
            "delete from items where id % 5 = 0")
        db.execute("checkpoint")
        path = db.data / db.value("select pg_relation_filepath('items_hnsw')")
        db.stop()
        damage(path, generator)
        db.start()
        errors += errors_of_use(db, number, OPERATORS[opclass])
        db.execute("reindex index items_hnsw")
        assert problems(db) == []
    assert not db.crashes()
    assert errors > 0


def test_damaged_pages_are_errors(make_server):
    damaged_repeatedly(make_server, 12, random.getrandbits(32))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_damaged_pages_are_errors(make_server):
    damaged_repeatedly(make_server, 300, random.getrandbits(32))


def damage(path, generator):
    pages = path.stat().st_size // 8192
    with open(path, "r+b") as file:
        for _ in range(generator.choice([1, 3, 10])):
            page = 0 if generator.random() < 0.1 else generator.randrange(pages)
            file.seek(page * 8192 + generator.choice([generator.randrange(24, 200),
                                                      generator.randrange(24, 8000),
                                                      generator.randrange(8160, 8190)]))
            file.write(generator.randbytes(generator.choice([1, 2, 8, generator.randrange(1, 190)]))
                       [: 8192 - file.tell() % 8192])


def errors_of_use(db, number, operator):
    """How many statements failed, each for a reason that names the damage."""
    errors = 0
    with db.connect() as connection:
        connection.execute("set enable_seqscan = off")
        connection.execute("set statement_timeout = '60s'")
        some = "(select embedding from items where id = 8)"
        for sql in (
            "set hnsw.ef_search = 400",
            f"select id from items order by embedding {operator} {some} limit 400",
            "set hnsw.iterative_scan = relaxed_order",
            f"select id from items where id % 3 = 0 order by embedding {operator} {some} limit 300",
            "insert into items select id + 10000, embedding from items where id % 11 = 1",
            f"insert into items select 20000, {some}",
            f"delete from items where id between {number % 50} and {number % 50 + 20}",
            "vacuum items",
            "select * from hnsw_index_info('items_hnsw')",
            "select * from hnsw_index_check('items_hnsw')",
            f"select id from items order by embedding {operator} {some} limit 400",
        ):
            try:
                connection.execute(sql)
            except psycopg.errors.Error as error:
                assert error.sqlstate in ("XX001", "XX002"), (sql, error)
                errors += 1
    return errors
