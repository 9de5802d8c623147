"""ivfflat after power loss, and on a streaming standby: as hnsw in test_hnsw_crash.py."""

import contextlib
import os
import threading

import psycopg
import pytest

from hnsw_workload import IVF_LAYOUTS, ids_by_index, ids_by_table, make_tables, problems
from test_hnsw_crash import CONF, SEED, crash_repeatedly, follow

SOAK_CRASHES = int(os.environ.get("PANVEL_SOAK_CRASHES", "200"))


@pytest.mark.timeout(300)
def test_power_loss(make_server):
    crash_repeatedly(make_server, 4, SEED, IVF_LAYOUTS)


@pytest.mark.timeout(300)
def test_standby_answers_while_it_replays(make_server):
    follow(make_server, 2, SEED, IVF_LAYOUTS)


@pytest.mark.soak
@pytest.mark.timeout(60 * SOAK_CRASHES + 300)
def test_power_loss_again_and_again(make_server):
    for first in range(0, SOAK_CRASHES, 50):
        crash_repeatedly(make_server, min(50, SOAK_CRASHES - first), f"{SEED} {first}",
                         IVF_LAYOUTS)


@pytest.mark.soak
@pytest.mark.timeout(60 * SOAK_CRASHES + 300)
def test_standby_again_and_again(make_server):
    for first in range(0, SOAK_CRASHES, 50):
        follow(make_server, min(50, SOAK_CRASHES - first), f"{SEED} {first}", IVF_LAYOUTS)


@pytest.mark.timeout(300)
def test_check_on_a_standby_that_replays(make_server):
    """The check reads vectors under their group's lock; recovery locks both in the same order."""
    server = make_server(conf={"autovacuum": "off"})
    layout = ("ivf_items", 64, "vector_l2_ops", "lists = 1")
    make_tables(server, [layout], rows=200)
    standby = server.standby("standby")
    checks, ended = [], threading.Event()

    def check():
        with contextlib.suppress(psycopg.OperationalError), standby.connect() as connection:
            while not ended.is_set():
                checks.append(connection.execute(
                    "select * from ivfflat_index_check('ivf_items_ivfflat')").fetchall())

    reader = threading.Thread(target=check)
    reader.start()
    try:
        for first in range(1, 2000, 100):
            server.execute("insert into ivf_items select i, vec(i, 64)"
                           f" from generate_series({first}, {first + 99}) i")
        standby.wait_replayed(server)
    finally:
        ended.set()
        reader.join(20)
        standby.remove()
        reader.join()
    assert checks and not any(checks)


def test_unlogged_after_power_loss(make_server):
    server = make_server()
    layout = ("ivf_items", 64, "vector_l2_ops", "lists = 4")
    make_tables(server, [layout])
    server.execute("alter table ivf_items set unlogged")
    server.execute("insert into ivf_items select i, vec(i, 64) from generate_series(1, 300) i")
    assert len(ids_by_index(server, layout)) == 300
    server.kill9()
    server.start()
    info = "select rows, lists from ivfflat_index_info('ivf_items_ivfflat')"
    assert server.query(info) == [(0, 1)]
    server.execute("insert into ivf_items select i, vec(i, 64) from generate_series(1001, 1050) i")
    assert problems(server, [layout]) == []
    assert set(ids_by_index(server, layout)) == ids_by_table(server, layout)


def test_pages_of_a_lost_extension_are_used_again(make_server):
    """What a crash leaves of an extension is a page of zeros that no list has."""
    server = make_server(conf={**CONF, "autovacuum": "off"})
    layout = ("ivf_items", 64, "vector_l2_ops", "lists = 2")
    make_tables(server, [layout], rows=100)
    server.execute("checkpoint")
    path = server.data / server.value("select pg_relation_filepath('ivf_items_ivfflat')")
    server.stop()
    with open(path, "ab") as file:
        file.write(bytes(5 * 8192))
    server.start()
    pages = "select pages from ivfflat_index_info('ivf_items_ivfflat')"
    before = server.value(pages)
    server.execute("delete from ivf_items where id = -1")
    server.execute("vacuum ivf_items")
    server.execute("insert into ivf_items select i, vec(i, 64) from generate_series(1, 60) i")
    assert server.value(pages) == before
    assert problems(server, [layout]) == []
    assert set(ids_by_index(server, layout)) == ids_by_table(server, layout)
