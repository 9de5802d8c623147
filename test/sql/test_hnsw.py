"""hnsw where one transaction is not enough: vacuum, concurrency, interrupts, damage."""

import os
import random
import threading
import time

import psycopg
import pytest

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
    assert db.value("select pages from hnsw_index_info('items_hnsw')") <= pages + 2


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


@pytest.mark.timeout(180)
def test_many_sessions(db):
    """Inserting, deleting, vacuuming and searching together for a while: no error, no damage."""
    make_table(db, 300)
    seconds = float(os.environ.get("PANVEL_HNSW_SECONDS", "15"))
    end = time.monotonic() + seconds
    errors = []

    def session(work):
        try:
            with db.connect() as connection:
                connection.execute("set enable_seqscan = off")
                while time.monotonic() < end and not errors:
                    work(connection)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    ids = iter(range(10_000, 10_000_000))
    lock = threading.Lock()

    def insert(connection):
        with lock:
            number = next(ids)
        connection.execute("insert into items values (%s, %s)", [number, vector(number)])

    def delete(connection):
        connection.execute(
            "delete from items where id in (select id from items order by random() limit 20)"
        )
        connection.execute("select pg_sleep(0.01)")

    def vacuum(connection):
        connection.execute("vacuum items")

    def search(connection):
        sql = "select embedding <-> %s from items order by embedding <-> %s limit 10"
        query = vector(random.random())
        distances = [row[0] for row in connection.execute(sql, [query, query])]
        assert distances == sorted(distances)

    threads = [
        threading.Thread(target=session, args=[work])
        for work in (insert, insert, insert, delete, vacuum, search, search)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert problems(db) == []
    db.execute("vacuum items")
    assert problems(db) == []


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


def test_damaged_pages_are_errors(make_server):
    """Random bytes in a random page: an error or an answer, never a crash or an endless loop."""
    db = make_server()
    db.execute("create extension vector")
    make_table(db, 400)
    generator = random.Random(5)
    errors = 0
    for number in range(10):
        db.execute("checkpoint")
        path = db.data / db.value("select pg_relation_filepath('items_hnsw')")
        db.stop()
        damage(path, generator)
        db.start()
        errors += errors_of_use(db, number)
        db.execute("reindex index items_hnsw")
        assert problems(db) == []
    assert not db.crashes()
    assert errors > 0


def damage(path, generator):
    pages = path.stat().st_size // 8192
    with open(path, "r+b") as file:
        for _ in range(3):
            file.seek(generator.randrange(pages) * 8192 + generator.randrange(24, 8000))
            file.write(generator.randbytes(generator.randrange(1, 190)))


def errors_of_use(db, number):
    """How many statements failed, each for a reason that names the damage."""
    errors = 0
    with db.connect() as connection:
        connection.execute("set enable_seqscan = off")
        connection.execute("set hnsw.ef_search = 1000")
        connection.execute("set statement_timeout = '30s'")
        for sql in (
            f"select id from items order by embedding <-> '{vector(1)}' limit 400",
            f"insert into items values ({10_000 + number}, '{vector(number)}')",
            f"delete from items where id between {number * 20} and {number * 20 + 10}",
            "vacuum items",
            "select * from hnsw_index_check('items_hnsw')",
        ):
            try:
                connection.execute(sql)
            except psycopg.errors.Error as error:
                assert error.sqlstate in ("XX001", "XX002"), (sql, error)
                errors += 1
    return errors
