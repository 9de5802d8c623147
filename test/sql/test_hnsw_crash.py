"""hnsw after power loss, and on a streaming standby."""

import contextlib
import os
import random
import re
import signal
import threading

import psycopg
import pytest

from hnsw_workload import (
    LAYOUTS, Writers, ids_by_index, ids_by_table, make_tables, method_of, pause_for_a_while,
    problems, search, use_index, value,
)
from panvel_test import postgres, wait_until
from panvel_test.server import children_of

CONF = {
    "wal_consistency_checking": "generic",
    "shared_buffers": "32MB",
    "maintenance_work_mem": "16MB",
    "checkpoint_timeout": "30s",
    "max_wal_size": "64MB",
}
SOAK_CRASHES = int(os.environ.get("PANVEL_SOAK_CRASHES", "200"))
SEED = os.environ.get("PANVEL_SEED", str(random.getrandbits(32)))


def works_of(writers):
    return [writers.insert, writers.insert, writers.copy, writers.delete, writers.update,
            writers.vacuum, writers.build]


def crash_repeatedly(make_server, rounds, seed, layouts=LAYOUTS):
    """Every process of the server killed at random moments, also of the recovery."""
    generator = random.Random(seed)
    server = make_server(fsync=True, conf=CONF)
    make_tables(server, layouts, rows=20)
    writers = Writers(server, layouts)
    for number in range(rounds):
        before = writers.number
        # Builds take locks that stop the others, so they are not there every time.
        writers.start(works_of(writers)[: generator.choice([6, 6, 7])], f"{seed} {number}")
        wait_until(lambda: writers.number > before + 20 or writers.errors, 60)
        pause_for_a_while(generator, 3)
        server.kill9()
        writers.join()
        if generator.random() < 0.2:
            kill_recovery(server, generator)
        server.start()
        writers.check()
    server.execute("vacuum")
    writers.check()
    return writers


def kill_recovery(server, generator):
    """Starts the server and kills it before it is ready, or soon after."""
    starter = threading.Thread(target=start_or_fail, args=[server])
    starter.start()
    process = wait_until(lambda: server.process or not starter.is_alive(), 60)
    pause_for_a_while(generator, 0.3)
    process.send_signal(signal.SIGSTOP)
    for pid in [*children_of(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    starter.join()
    process.wait()
    server.gone()


def start_or_fail(server):
    with contextlib.suppress(RuntimeError):
        server.start()


@pytest.mark.timeout(300)
def test_power_loss(make_server):
    crash_repeatedly(make_server, 5, SEED)


@pytest.mark.soak
@pytest.mark.timeout(60 * SOAK_CRASHES + 300)
def test_power_loss_again_and_again(make_server):
    for first in range(0, SOAK_CRASHES, 50):
        rounds = min(50, SOAK_CRASHES - first)
        crash_repeatedly(make_server, rounds, f"{SEED} {first}")


def read_standby(standby, seed, ended, errors, layouts):
    """A reader on the standby: cancelled by recovery at most, never a wrong answer."""
    generator = random.Random(seed)
    while not ended.is_set() and not errors:
        try:
            with standby.connect() as connection:
                use_index(connection, wide=generator.random() < 0.5)
                while not ended.is_set():
                    read_once(connection, generator, layouts)
        except (psycopg.errors.SerializationFailure, psycopg.OperationalError):
            pass  # a conflict with recovery, or the standby is down: asked again
        except Exception as error:  # noqa: BLE001
            errors.append(error)


def read_once(connection, generator, layouts):
    layout = generator.choice(layouts)
    sql = search(layout, generator.randrange(1, 2000), generator.choice([10, 100, 1000]))
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        rows = {row[0] for row in connection.execute(f"select id + 0 from {layout[0]}")}
        found = connection.execute(sql).fetchall()
    ids = [row[0] for row in found]
    assert len(ids) == len(set(ids)), (layout, ids)
    assert set(ids) <= rows, (layout, set(ids) - rows)
    # One list of an ivfflat index may well be empty.
    assert len(ids) > 0 or not rows or method_of(layout[0]) == "ivfflat", layout


def follow(make_server, rounds, seed, layouts=LAYOUTS):
    """A standby replays and answers while the primary is written to; both are killed."""
    generator = random.Random(seed)
    server = make_server(fsync=True, conf=CONF)
    make_tables(server, layouts, rows=20)
    server.execute("select pg_create_physical_replication_slot('standby', true)")
    standby = server.standby("standby", conf={**CONF, "max_standby_streaming_delay": "1s",
                                              "primary_slot_name": "standby"})
    try:
        writers = Writers(server, layouts)
        ended, errors = threading.Event(), []
        readers = [threading.Thread(target=read_standby,
                                    args=[standby, f"{seed} {i}", ended, errors, layouts])
                   for i in range(2)]
        for reader in readers:
            reader.start()
        try:
            for number in range(rounds):
                follow_once(server, standby, writers, generator, f"{seed} {number}")
                assert errors == []
        finally:
            ended.set()
            for reader in readers:
                reader.join()
        assert errors == []
    except BaseException:
        print(f"log of {standby.label}:", standby.log_text())  # it is gone when the test reports
        raise
    finally:
        standby.remove()


def follow_once(server, standby, writers, generator, seed):
    before = writers.number
    writers.start(works_of(writers)[: generator.choice([6, 6, 7])], seed)
    wait_until(lambda: writers.number > before + 20 or writers.errors, 60)
    pause_for_a_while(generator, 3)
    lost = generator.choice(["nobody", "standby", "primary"])
    if lost == "standby":
        standby.kill9()
        standby.start()
    if lost == "primary":
        server.kill9()
        writers.join()
        server.start()
    else:
        writers.stop()
    writers.check()
    standby.wait_replayed(server)
    assert problems(standby, writers.layouts) == []
    for layout in writers.layouts:
        rows = ids_by_table(standby, layout)
        assert rows == ids_by_table(server, layout)
        assert set(ids_by_index(standby, layout)) == rows, layout


@pytest.mark.timeout(300)
def test_standby_answers_while_it_replays(make_server):
    follow(make_server, 3, SEED)


@pytest.mark.soak
@pytest.mark.timeout(60 * SOAK_CRASHES + 300)
def test_standby_again_and_again(make_server):
    for first in range(0, SOAK_CRASHES, 50):
        follow(make_server, min(50, SOAK_CRASHES - first), f"{SEED} {first}")


def page_kinds(server, index):
    """Of each page the kind in its tail."""
    path = server.data / server.value("select pg_relation_filepath(%s)", [index])
    server.execute("checkpoint")
    pages = path.read_bytes()
    return [int.from_bytes(pages[end - 12 : end - 10], "little")
            for end in range(8192, len(pages) + 1, 8192)]


def blocks_of_records(server, index, start, end):
    """Of each generic WAL record that changed pages of the index, their blocks in its order."""
    file = server.value("select pg_relation_filenode(%s)", [index])
    files = server.query("select pg_walfile_name(%s), pg_walfile_name(%s)", [start, end])[0]
    text = postgres.run([postgres.bindir() / "pg_waldump", "-p", server.data / "pg_wal", "-r",
                         "Generic", "-s", start, "-e", end, *files])
    records = [[int(block) for block in re.findall(rf"rel \d+/\d+/{file} blk (\d+)", line)]
               for line in text.stdout.splitlines()]
    return [blocks for blocks in records if blocks]


def test_recovery_locks_pages_in_the_order_of_readers(make_server):
    """Recovery locks a record's pages one after another, in the record's order. A reader on a
    standby that has an element locked and waits for its next page must not meet it half-way."""
    meta, element, side = 0x4D, 0, 3
    server = make_server(conf={"autovacuum": "off", "full_page_writes": "off",
                               "wal_keep_size": "1GB"})
    make_tables(server)
    start = server.value("select pg_current_wal_insert_lsn()")
    for layout in LAYOUTS:
        server.execute(f"insert into {layout[0]} select i, {value(layout, 'i')}"
                       " from generate_series(1, 300) i")
        server.execute(f"delete from {layout[0]} where id > 100 or id % 5 = 0")
        server.execute(f"vacuum {layout[0]}")
    end = server.value("select pg_current_wal_insert_lsn()")
    seen = set()
    for name, *_ in LAYOUTS:
        kinds = page_kinds(server, f"{name}_hnsw")
        for blocks in blocks_of_records(server, f"{name}_hnsw", start, end):
            seen.add(tuple(kinds[block] for block in blocks))
    assert {(meta, element), (element, side)} <= seen
    for kinds in seen:
        ranks = [{meta: 0, element: 1}.get(kind, 2) for kind in kinds]
        assert ranks == sorted(ranks), kinds


@pytest.mark.parametrize("logged", [False, True])
def test_unlogged_after_power_loss(make_server, logged):
    server = make_server()
    layout = ("items", 64, "vector_l2_ops", "m = 8")
    make_tables(server, [layout])
    server.execute("alter table items set unlogged")
    server.execute("insert into items select i, vec(i, 64) from generate_series(1, 300) i")
    assert len(ids_by_index(server, layout)) == 300
    if logged:
        server.execute("alter table items set logged")
        assert problems(server, [layout]) == []
    server.kill9()
    server.start()
    elements = server.value("select elements from hnsw_index_info('items_hnsw')")
    assert elements == (300 if logged else 0)
    server.execute("insert into items select i, vec(i, 64) from generate_series(1001, 1050) i")
    assert problems(server, [layout]) == []
    assert set(ids_by_index(server, layout)) == ids_by_table(server, layout)
    assert len(ids_by_table(server, layout)) == elements + 50
