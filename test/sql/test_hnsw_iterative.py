"""hnsw.iterative_scan while rows are inserted, deleted and vacuumed."""

import random
import threading

import psycopg
import pytest

DIM = 70  # with codes


def vector(generator, dim):
    return "[" + ",".join(f"{generator.uniform(-1, 1):.3f}" for _ in range(dim)) + "]"


@pytest.mark.parametrize("dim", [6, DIM])
def test_all_rows_once_beside_vacuum(db, dim):
    """Rows with even ids stay; half of them share vectors, in chains that vacuum shortens."""
    generator = random.Random(dim)
    shared = [vector(generator, dim) for _ in range(4)]
    db.execute(f"create table items (id int primary key, embedding vector({dim}))")

    def value(i):
        return generator.choice(shared) if i % 4 < 2 else vector(generator, dim)

    with db.connect() as connection, connection.cursor() as cursor:
        with cursor.copy("copy items from stdin") as copy:
            for i in range(1500):
                copy.write_row((i, value(i)))
    db.execute("create index items_hnsw on items using hnsw (embedding vector_l2_ops)"
               " with (m = 4, ef_construction = 30)")
    stop = threading.Event()
    errors = []

    def session(work):
        try:
            with db.connect() as connection:
                while not stop.is_set():
                    work(connection)
        except Exception as error:
            errors.append(error)
            stop.set()

    def change(connection):
        ids = [generator.randrange(750) * 2 + 1 for _ in range(100)]
        connection.execute("delete from items where id = any(%s)", [ids])
        for i in set(ids):
            if generator.random() < 0.7:
                connection.execute("insert into items values (%s, %s) on conflict do nothing",
                                   [i, value(i)])

    def vacuum(connection):
        connection.execute("vacuum items")

    threads = [threading.Thread(target=session, args=[work]) for work in (change, vacuum)]
    for thread in threads:
        thread.start()
    try:
        with db.connect() as connection:
            connection.execute("set enable_seqscan = off")
            connection.execute("set hnsw.iterative_scan = relaxed_order")
            connection.execute("set hnsw.ef_search = 10")
            for _ in range(12):
                if stop.is_set():
                    break
                # In small steps, so that vacuum comes in between.
                connection.execute("begin")
                connection.execute("declare c no scroll cursor for select id from items"
                                   f" order by embedding <-> '{vector(generator, dim)}'")
                found = []
                while rows := connection.execute("fetch 20 from c").fetchall():
                    found += [row[0] for row in rows]
                connection.execute("commit")
                assert len(found) == len(set(found)), "a row came twice"
                assert {i for i in found if i % 2 == 0} == set(range(0, 1500, 2))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert db.query("select * from hnsw_index_check('items_hnsw')") == []


def fetch_around_vacuum(db, first):
    """What a scan gives of `items`, vacuumed after the first rows of it."""
    with db.connect() as connection:
        connection.execute("set enable_seqscan = off")
        connection.execute("set hnsw.iterative_scan = relaxed_order")
        connection.execute("set hnsw.ef_search = 4")
        connection.execute("begin")
        connection.execute("declare c no scroll cursor for select id from items"
                           " order by embedding <-> (select embedding from items where id = 0)")
        found = connection.execute(f"fetch {first} from c").fetchall()
        db.execute("vacuum items")
        found += connection.execute("fetch all from c").fetchall()
    return sorted(row[0] for row in found)


@pytest.mark.parametrize("first", [4, 50, 300])
@pytest.mark.parametrize("dim", [6, DIM])
def test_vacuum_frees_what_is_next(db, dim, first):
    """Most of what a scan would look at next are dead elements, gone when it goes on."""
    generator = random.Random(dim)
    db.execute(f"create table items (id int primary key, embedding vector({dim}))")
    with db.connect() as connection, connection.cursor() as cursor:
        with cursor.copy("copy items from stdin") as copy:
            for i in range(1000):
                copy.write_row((i, vector(generator, dim)))
    db.execute("create index on items using hnsw (embedding vector_l2_ops)"
               " with (m = 3, ef_construction = 6)")
    db.execute("delete from items where id % 3 > 0")
    assert fetch_around_vacuum(db, first) == list(range(0, 1000, 3))


def test_vacuum_frees_the_next_rows_of_a_vector(db):
    """Ten rows are in the element, ten in each slot of a chain; every other slot is emptied."""
    for first in (1, 11, 21, 31):
        db.execute("drop table if exists items")
        # Wide rows: vacuum leaves alone the page of the table that the cursor is on.
        db.execute("create table items (id int primary key, embedding vector(3), note char(1500))")
        db.execute("insert into items select i, '[1,2,3]', i from generate_series(0, 99) i")
        db.execute("create index on items using hnsw (embedding vector_l2_ops)")
        db.execute("delete from items where id / 10 % 2 = 1")
        assert fetch_around_vacuum(db, first) == [i for i in range(100) if i // 10 % 2 == 0]


def test_iterative_scan_ends_at_once_when_cancelled(db):
    generator = random.Random(1)
    db.execute("create table items (id int, embedding vector(8))")
    with db.connect() as connection, connection.cursor() as cursor:
        with cursor.copy("copy items from stdin") as copy:
            for i in range(20_000):
                copy.write_row((i, vector(generator, 8)))
        connection.execute("create index on items using hnsw (embedding vector_l2_ops)"
                           " with (m = 4, ef_construction = 10)")
        connection.execute("set enable_seqscan = off")
        connection.execute("set hnsw.iterative_scan = strict_order")
        connection.execute("set hnsw.ef_search = 1")
        connection.execute("set statement_timeout = '3ms'")  # looking at all of them takes 20
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select id from items where id < 0"
                               " order by embedding <-> '[0,0,0,0,0,0,0,0]'")
        connection.execute("reset statement_timeout")
        assert len(connection.execute("select id from items where id < 10000 order by embedding <->"
                                      " '[0,0,0,0,0,0,0,0]' limit 5").fetchall()) == 5
