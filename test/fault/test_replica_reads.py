"""A worker of a replicated table dies under readers: they notice nothing."""

import pytest


@pytest.fixture
def db(make_cluster):
    db = make_cluster(workers=3, coordinator_conf={"panvel.node_timeout": "3s"})
    db.execute("create table items (id int primary key, v int, e vector(3))")
    db.execute("select panvel.create_distributed_table('items', 'id', 6, 2)")
    db.execute("insert into items select i, i, array[i, 0, 0]::vector from generate_series(1, 2000) i")
    return db


def test_a_cursor_that_has_given_rows_does_not_repeat_any(db):
    """What was handed out is complete and read once, or the statement fails; here it is small enough."""
    with db.connect(autocommit=False) as session:
        session.execute("declare c cursor for select id from items")
        rows = session.execute("fetch 10 from c").fetchall()
        db.workers[0].server.kill9()
        rows += session.execute("fetch all from c").fetchall()
        assert sorted(rows) == [(i,) for i in range(1, 2001)]


def test_a_write_that_needs_all_placements_fails_and_leaves_nothing(db, error_of):
    db.workers[0].server.kill9()
    with db.connect() as session:
        session.execute("set panvel.min_insync_replicas = 2")
        assert error_of(session.execute, "update items set v = -1").sqlstate in ("08001", "08006")
        assert session.execute("select count(*) from items where v = -1").fetchone() == (0,)
