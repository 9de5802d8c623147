"""panvel.activity, and what it is made of: the sessions of the backends on nodes."""

import threading

import pytest

from panvel_test import wait_until


@pytest.fixture
def db(cluster):
    cluster.execute("create table items (id int primary key, v int default 0)")
    cluster.execute("select panvel.create_distributed_table('items', 'id', shard_count => 6)")
    cluster.execute("insert into items select generate_series(1, 60)")
    return cluster


ACTIVITY = "select pid, node, shard_id, query, state, since from panvel.activity"
# Not that of background recovery, which may be passing by.
OPEN = f"{ACTIVITY} where state = 'idle in transaction'"


def background(session, sql):
    thread = threading.Thread(target=session.execute, args=[sql])
    thread.start()
    return thread


def test_a_statement_under_way(db):
    with db.connect() as waiter, db.connect(autocommit=False) as blocker:
        blocker.execute("update items set v = 1 where id = 7")
        rows = db.query(OPEN)
        assert [(row[0], row[4]) for row in rows] == [(blocker.info.backend_pid, "idle in transaction")]
        thread = background(waiter, "update items set v = 2 where id = 7")
        pid = waiter.info.backend_pid
        rows = wait_until(lambda: db.query(ACTIVITY + f" where pid = {pid} and state = 'active'"))
        ((_, node, shard_id, query, _, since),) = rows
        blocker.commit()
        thread.join()
        shard = db.query(
            "select node, shard_id from panvel.shards where relation = 'items'::regclass and shard_id = %s",
            [shard_id],
        )
        assert shard == [(node, shard_id)]
        assert query.startswith("UPDATE ") and f"panvel_s{shard_id}.items" in query
        assert since <= db.value("select clock_timestamp()")
        wait_until(lambda: db.query(ACTIVITY) == [])


def test_several_shards_have_no_shard_id(db):
    with db.connect(autocommit=False) as session:
        session.execute("declare c cursor for select * from items")
        session.execute("fetch 1 from c")
        rows = db.query(ACTIVITY)
        assert {row[1] for row in rows} == {"w1", "w2", "w3"}
        assert {row[2] for row in rows} == {None}


def test_a_long_query_is_cut_between_characters(db):
    name = "é" * 31
    db.execute(f'create table wide ("{name}" int primary key, v int)')
    db.execute(f"select panvel.create_distributed_table('wide', '{name}')")
    with db.connect(autocommit=False) as session:
        session.execute(f'update wide set v = "{name}" + "{name}" * "{name}" - "{name}"')
        queries = {query for (query,) in db.query("select query from panvel.activity")}
        assert queries and all(len(query.encode()) <= 255 for query in queries)


def test_rights(db):
    role = f"guest_{db.name}"
    for server in db.cluster.servers:
        server.execute(f"create role {role} login")
    try:
        db.execute(f"grant select on items to {role}")
        with db.connect(autocommit=False) as session, db.connect(user=role) as guest:
            session.execute("update items set v = 1 where id = 7")
            assert len(db.query(OPEN)) == 1
            assert guest.execute(ACTIVITY).fetchall() == []
            guest.execute("begin")
            guest.execute("declare c cursor for select * from items")
            guest.execute("fetch 1 from c")
            own = {row[0] for row in guest.execute(ACTIVITY).fetchall()}
            assert own == {guest.info.backend_pid}
            guest.execute("rollback")
            db.execute(f"grant pg_read_all_stats to {role}")
            assert len(guest.execute(OPEN).fetchall()) == 1
    finally:
        db.execute(f"drop owned by {role}")
        for worker in db.workers:
            worker.execute(f"drop owned by {role}")
        for server in db.cluster.servers:
            server.execute(f"drop role {role}")
