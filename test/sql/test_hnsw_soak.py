"""Sessions of all kinds together for long: no error, no deadlock, no growth."""

import os
import pathlib
import random
import re
import time

import pytest

from hnsw_workload import LAYOUTS, Writers, make_tables, problems, search, use_index
from panvel_test import wait_until

SOAK_SECONDS = int(os.environ.get("PANVEL_SOAK_SECONDS", "600"))


def own_memory(pid):
    """kB that the process shares with nobody."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+)", text, re.M).group(1))


class Sessions(Writers):
    """Writers and searchers, with the memory that their backends use."""

    def __init__(self, server):
        super().__init__(server, rows=200)
        self.pids = {}
        self.done = 0

    def run(self, work, seed):
        generator = random.Random(seed)
        try:
            with self.server.connect() as connection:
                self.pids[f"{work.__name__} {seed}"] = connection.info.backend_pid
                while not self.stopping.is_set():
                    work(connection, generator)
                    self.done += 1
        except Exception as error:  # noqa: BLE001
            self.errors.append(error)

    def look(self, connection, generator):
        layout = generator.choice(self.layouts)
        use_index(connection, wide=generator.random() < 0.3)
        found = connection.execute(
            search(layout, generator.randrange(1, 5000), generator.choice([5, 50, 500]))).fetchall()
        assert len({row[0] for row in found}) == len(found)
        connection.execute("reset all")

    def memory(self):
        return {name: own_memory(pid) for name, pid in self.pids.items()}


def sizes(server):
    return {layout[0]: server.value("select pg_relation_size(%s::regclass)",
                                    [f"{layout[0]}_hnsw"]) for layout in LAYOUTS}


def live_together(make_server, seconds):
    """Memory is compared with that of a fifth of the time, sizes with those of three fifths: until
    vacuum has come round, every index grows."""
    server = make_server(conf={"shared_buffers": "64MB", "deadlock_timeout": "200ms"})
    make_tables(server, rows=200)
    sessions = Sessions(server)
    work = [sessions.insert, sessions.insert, sessions.copy, sessions.update, sessions.delete,
            sessions.vacuum, sessions.look, sessions.look]
    begin = time.monotonic()
    sessions.start(work, random.getrandbits(32))
    looked = []
    try:
        for part in range(1, 6):
            wait_until(lambda end=begin + seconds * part / 5:
                       sessions.errors or time.monotonic() > end, seconds + 60)
            assert not sessions.errors, sessions.errors
            looked.append((sessions.memory(), sizes(server)))
    finally:
        sessions.stop()
    assert problems(server) == []
    (early, _), (late, late_sizes) = looked[0], looked[-1]
    early_sizes = looked[2][1]
    for name, memory in late.items():
        assert memory < early[name] * 1.5 + 8 * 1024, (name, [m[name] for m, _ in looked])
    for name, size in late_sizes.items():
        assert size < early_sizes[name] * 2 + 4 * 1024 * 1024, (name, [s[name] for _, s in looked])
    assert sessions.done > seconds
    server.execute("vacuum")
    sessions.check()


def test_lists_of_few_places(make_server):
    """With m = 2, lists are easily full of kept links: vacuum must not add to them for ever."""
    server = make_server()
    layout = ("narrow", 24, "vector_l1_ops", "m = 2, ef_construction = 8")
    make_tables(server, [layout], rows=100)
    writers = Writers(server, [layout], rows=150)
    writers.start([writers.insert, writers.copy, writers.delete, writers.delete, writers.vacuum], 1)
    wait_until(lambda: writers.number > 3000 or writers.errors, 60)
    writers.stop()
    writers.check()
    server.execute("vacuum narrow")
    dead = server.value("select dead_elements from hnsw_index_info('narrow_hnsw')")
    assert dead <= server.value("select count(*) from narrow")


def test_sessions_of_all_kinds(make_server):
    live_together(make_server, 15)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS + 600)
def test_sessions_of_all_kinds_for_long(make_server):
    live_together(make_server, SOAK_SECONDS)
