"""hnsw builds that are ended early, get no memory or no disk, and what they leave: nothing."""

import os
import pathlib
import random
import re
import resource
import subprocess
import threading
import time

import psycopg
import pytest

from hnsw_workload import Writers, ids_by_index, ids_by_table, make_tables, problems
from panvel_test import postgres, wait_until

SOAK_SECONDS = int(os.environ.get("PANVEL_SOAK_SECONDS", "600"))
LAYOUT = ("small", 64, "vector_l2_ops", "m = 6, ef_construction = 20")
# Random vectors of 200 dimensions: a build of some seconds whose graph takes about 20 MB.
ITEMS = """
create table items (id int, embedding vector(200));
insert into items select g, array_agg(random()) from generate_series(1, {rows}) g,
    generate_series(1, 200) group by g;
"""
BUILD = "create index items_hnsw on items using hnsw (embedding vector_l2_ops)"


def status(pid, field):
    """A field of /proc/PID/status in its own unit (kB for memory)."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+)", text, re.M).group(1))


def stray_files(db):
    """Files in the database's directory that belong to no relation."""
    directory = db.server.data / "base" / str(
        db.value("select oid from pg_database where datname = current_database()"))
    known = {row[0] for row in db.query(
        "select pg_relation_filenode(oid)::text from pg_class"
        " where pg_relation_filenode(oid) is not null")}
    names = {path.name for path in directory.iterdir()}
    return {name for name in names
            if re.fullmatch(r"\d+([._].*)?", name) and re.split("[._]", name)[0] not in known}


def limit_memory(pid, limit):
    """Limits the address space of a process of the server, as that process's user."""
    command = ["prlimit", f"--pid={pid}", f"--as={limit if limit >= 0 else 'unlimited'}:"]
    done = subprocess.run(postgres.as_server_user(command), stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise PermissionError(done.stderr)


def indexes(db):
    return db.query("select relname from pg_class where relname like 'items_hnsw%'")


def build_and_end(db, connection, end, generator, longest):
    """Builds in a thread; calls `end` at a random moment of it. The error, if one came."""
    pid = connection.info.backend_pid
    errors = []

    def build():
        try:
            connection.execute(BUILD + " with (ef_construction = 400)")
        except psycopg.Error as error:
            errors.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    wait_until(lambda: db.query("select 1 from pg_stat_progress_create_index where pid = %s",
                                [pid]) or not thread.is_alive())
    time.sleep(generator.random() * longest)  # a random moment is what is wanted
    begin = time.monotonic()
    db.execute(f"select {end}(%s)", [pid])
    thread.join()
    assert time.monotonic() - begin < 5
    return errors


def end_builds(db, rounds, seed):
    generator = random.Random(seed)
    db.execute(ITEMS.format(rows=6000))
    connection = db.connect()
    connection.execute("set max_parallel_maintenance_workers = 2")
    memory = None
    ended = 0
    for _ in range(rounds):
        end = generator.choice(["pg_cancel_backend", "pg_terminate_backend"])
        pid = connection.info.backend_pid
        errors = build_and_end(db, connection, end, generator, 2)
        if errors:
            ended += 1
            assert errors[0].sqlstate in ("57014", "57P01", None), errors
        if connection.closed or connection.broken:
            wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists())
            connection = db.connect()
            connection.execute("set max_parallel_maintenance_workers = 2")
            memory = None
        elif errors:
            assert status(pid, "Threads") == 1
            now = status(pid, "RssAnon")
            assert memory is None or now < memory + 16 * 1024
            memory = memory or now
        if errors:
            assert indexes(db) == []
        db.execute("drop index if exists items_hnsw")
        db.execute("checkpoint")  # dropped files go with it
        assert stray_files(db) == set()
    connection.close()
    assert ended > 0


def test_builds_ended_at_random_moments(db):
    end_builds(db, 5, random.getrandbits(32))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_builds_ended_at_many_moments(db):
    end_builds(db, 100, random.getrandbits(32))


def test_build_without_memory(make_server):
    """An address space limit in the midst of collecting and of building: 53200, nothing left."""
    db = make_server()
    db.execute("create extension vector")
    db.execute(ITEMS.format(rows=15000))
    for megabytes in (2, 8, 16, 24):
        with db.connect() as connection:
            pid = connection.info.backend_pid
            connection.execute("set max_parallel_maintenance_workers = 0")
            connection.execute("select embedding <-> embedding from items limit 1")
            limit = status(pid, "VmSize") * 1024 + megabytes * 1024 * 1024
            try:
                limit_memory(pid, limit)
            except PermissionError as error:
                pytest.skip(f"not allowed to limit another process's memory: {error}")
            with pytest.raises(psycopg.errors.OutOfMemory):
                connection.execute(BUILD)
            assert status(pid, "Threads") == 1
            assert indexes(db) == []
            limit_memory(pid, resource.RLIM_INFINITY)
            assert connection.execute("select count(*) from items").fetchone() == (15000,)
        db.execute("checkpoint")
        assert stray_files(db) == set()


@pytest.fixture
def small_disk(tmp_path_factory):
    """A file system of 8 MB for the server's user, or a skip."""
    directory = postgres.base_directory() / f"disk-{random.getrandbits(32):08x}"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", directory],
                             stderr=subprocess.PIPE, text=True)
    if mounted.returncode != 0:
        directory.rmdir()
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    directory.chmod(0o777)
    place = directory / "space"
    postgres.run(["mkdir", place])
    yield place
    subprocess.run(["umount", "-l", directory], check=True)
    directory.rmdir()


def disk_used(place):
    found = os.statvfs(place)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def test_full_disk(make_server, small_disk):
    db = make_server()
    db.execute("create extension vector")
    db.execute(f"create tablespace small location '{small_disk}'")
    db.execute(ITEMS.format(rows=8000))
    before = disk_used(small_disk)
    for setting in ("64MB", "1MB"):  # built in memory, and by inserts
        with db.connect() as connection:
            connection.execute(f"set maintenance_work_mem = '{setting}'")
            with pytest.raises(psycopg.errors.DiskFull):
                connection.execute(BUILD + " with (m = 4, ef_construction = 16) tablespace small")
        assert indexes(db) == []
        db.execute("checkpoint")
        wait_until(lambda: disk_used(small_disk) <= before + 65536, 30, "an empty disk")
    # Inserts that find the disk full fail; what is there stays whole, and there is room later.
    db.execute("create table items2 (id int, embedding vector(200))")
    db.execute("create index items2_hnsw on items2 using hnsw (embedding vector_l2_ops)"
               " with (m = 4, ef_construction = 16) tablespace small")
    with pytest.raises(psycopg.errors.DiskFull):
        db.execute("do $$ begin for i in 0 .. 7 loop insert into items2 select * from items"
                   " where id % 8 = i; commit; end loop; end $$")
    assert db.query("select * from hnsw_index_check('items2_hnsw')") == []
    rows = db.value("select count(*) from items2")
    db.execute("delete from items2; vacuum items2" if rows == 0 else "delete from items2")
    db.execute("vacuum items2")
    db.execute("insert into items2 select * from items limit 100")
    assert db.query("select * from hnsw_index_check('items2_hnsw')") == []
    assert not db.crashes()


def test_memory_stays_within_maintenance_work_mem(db):
    """Above it there is a NOTICE and a slower build; the memory used is about what is allowed."""
    db.execute(ITEMS.format(rows=6000))
    for megabytes, noticed in ((4, True), (64, False)):
        with db.connect() as connection:
            pid = connection.info.backend_pid
            notices = []
            connection.add_notice_handler(lambda n: notices.append(n.message_primary))
            connection.execute(f"set maintenance_work_mem = '{megabytes}MB'")
            connection.execute("select embedding <-> embedding from items")
            before = status(pid, "RssAnon")
            peak = [before]
            ended = threading.Event()

            def watch():
                while not ended.wait(0.005):
                    peak[0] = max(peak[0], status(pid, "RssAnon"))

            watcher = threading.Thread(target=watch)
            watcher.start()
            connection.execute(BUILD + " with (m = 8, ef_construction = 32)")
            ended.set()
            watcher.join()
            assert any("maintenance_work_mem" in n for n in notices) == noticed, notices
            assert peak[0] - before < (megabytes * 1.25 + 6) * 1024, (megabytes, peak[0] - before)
        assert db.query("select * from hnsw_index_check('items_hnsw')") == []
        db.execute("drop index items_hnsw")


def test_builds_beside_writers(make_server):
    """CREATE INDEX and REINDEX, CONCURRENTLY too, while rows come, change and go."""
    server = make_server()
    make_tables(server, [LAYOUT], rows=300)
    writers = Writers(server, [LAYOUT], rows=600)
    writers.start([writers.insert, writers.copy, writers.update, writers.delete, writers.vacuum], 1)
    try:
        with server.connect() as connection:
            create = "create index {} {} on small using hnsw (embedding vector_l2_ops)"
            connection.execute(create.format("concurrently", "small_a"))
            connection.execute("reindex index concurrently small_hnsw")
            connection.execute(create.format("", "small_b"))
            connection.execute("reindex index small_a")
            connection.execute("reindex table concurrently small")
    finally:
        writers.stop()
    assert problems(server, [LAYOUT]) == []
    rows = ids_by_table(server, LAYOUT)
    for kept in ("small_a", "small_b", "small_hnsw"):
        with server.connect() as connection:
            connection.execute("begin")
            for other in {"small_a", "small_b", "small_hnsw"} - {kept}:
                connection.execute(f"drop index {other}")
            connection.execute("set local enable_seqscan = off; set local enable_sort = off;"
                               "set local hnsw.ef_search = 1000;"
                               "set local hnsw.iterative_scan = relaxed_order")
            sql = "select id from small order by embedding <-> vec(0, 64)"
            assert kept in str(connection.execute("explain " + sql).fetchall())
            assert {row[0] for row in connection.execute(sql)} == rows
            connection.execute("rollback")
    assert set(ids_by_index(server, LAYOUT)) == rows


def test_progress(db):
    """Phases come in their order, and the counts grow to their totals."""
    db.execute(ITEMS.format(rows=8000))
    seen = []
    with db.connect() as connection:
        thread = threading.Thread(
            target=connection.execute, args=[BUILD + " with (ef_construction = 200)"])
        thread.start()
        with db.connect() as watcher:
            while thread.is_alive():
                seen += watcher.execute(
                    "select phase, tuples_done, tuples_total from pg_stat_progress_create_index"
                ).fetchall()
        thread.join()
    phases = list(dict.fromkeys(phase for phase, _, _ in seen))
    expected = ["initializing", "building index: initializing",
                "building index: loading tuples", "building index: building graph",
                "building index: connecting graph", "building index: writing pages"]
    assert "building index: building graph" in phases, phases
    known = [phase for phase in phases if phase in expected]
    assert known == sorted(known, key=expected.index), phases
    graph = [(done, total) for phase, done, total in seen
             if phase == "building index: building graph"]
    assert all(0 <= done <= 8000 for done, _ in graph)
    assert [done for done, _ in graph] == sorted(done for done, _ in graph)
    assert graph[-1][1] == 8000 and graph[-1][0] > 0
