"""ivfflat after power loss, and on a streaming standby: as hnsw in test_hnsw_crash.py."""

import os

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
