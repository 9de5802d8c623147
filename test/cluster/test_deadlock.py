"""Deadlocks over several nodes: found, and one of the transactions ended."""

import threading
import time

import psycopg
import pytest

from panvel_test import wait_until


@pytest.fixture
def db(cluster):
    """Table items with a key on each node: db.keys[0] is on w1, and so on."""
    cluster.execute("create table items (id int primary key, v int default 0)")
    cluster.execute("select panvel.create_distributed_table('items', 'id', shard_count => 6)")
    cluster.execute("insert into items select generate_series(1, 60)")
    cluster.execute("create table here (id int primary key, v int default 0)")
    cluster.execute("insert into here values (1), (2)")
    cluster.keys = []
    for worker in cluster.workers:
        shard = worker.value(
            "select min(nspname) from pg_namespace n join pg_class c on c.relnamespace = n.oid"
            " where relname = 'items' and relkind = 'r'"
        )
        cluster.keys.append(worker.value(f"select min(id) from {shard}.items"))
    return cluster


class Party(threading.Thread):
    """A transaction: executes the first statement at once, the second in the background."""

    def __init__(self, db, first, second):
        super().__init__()
        self.session = db.connect(autocommit=False)
        self.session.execute(first)
        self.second = second
        self.error = None

    def run(self):
        try:
            self.session.execute(self.second)
            self.session.commit()
        except psycopg.Error as error:
            self.error = error
            self.session.rollback()


def run(parties):
    """Lets them run into each other; returns the errors, and how long it took."""
    start = time.monotonic()
    for party in parties:
        party.start()
    for party in parties:
        party.join(30)
        assert not party.is_alive()
    took = time.monotonic() - start
    for party in parties:
        party.session.close()
    return [party.error for party in parties], took


def update(key):
    return f"update items set v = v + 1 where id = {key}"


def one_victim(errors):
    lost = [error for error in errors if error is not None]
    assert [error.sqlstate for error in lost] == ["40P01"]
    return lost[0]


def test_two_parties(db):
    a, b, _ = db.keys
    errors, took = run([Party(db, update(a), update(b)), Party(db, update(b), update(a))])
    error = one_victim(errors)
    assert errors[0] is None  # the one that began last goes
    assert "waits for process" in error.diag.message_detail
    assert 'on node "w1"' in error.diag.message_detail and 'on node "w2"' in error.diag.message_detail
    assert took < 5
    assert db.query(f"select v from items where id in ({a}, {b})") == [(1,), (1,)]


def test_three_parties(db):
    a, b, c = db.keys
    parties = [Party(db, update(a), update(b)), Party(db, update(b), update(c)), Party(db, update(c), update(a))]
    errors, took = run(parties)
    one_victim(errors)
    assert took < 5
    assert db.value(f"select sum(v) from items where id in ({a}, {b}, {c})") == 4


def test_a_local_table_in_the_circle(db):
    a, b, _ = db.keys
    local = "update here set v = v + 1 where id = 1"
    errors, took = run([Party(db, update(a), local), Party(db, local, update(a))])
    one_victim(errors)
    assert took < 5
    parties = [Party(db, update(a), local), Party(db, update(b), update(a)), Party(db, local, update(b))]
    errors, took = run(parties)
    one_victim(errors)
    assert took < 5


def test_a_commit_in_the_circle(db):
    """It waits on its node for a deferred constraint, the other one here for an advisory lock."""
    db.execute("create table later (id int unique deferrable initially deferred)")
    db.execute("select panvel.create_distributed_table('later', 'id')")
    insert, lock = "insert into later values (5)", "select pg_advisory_xact_lock(1)"
    parties = [Party(db, insert, lock), Party(db, f"{lock}; {insert}", "select 1")]
    errors, took = run(parties)
    assert errors[0] is None and errors[1].sqlstate == "40P01"
    assert "on the coordinator" in errors[1].diag.message_detail
    assert took < 5
    assert db.value("select count(*) from later") == 1


def test_a_prepare_in_the_circle(db):
    """As above, by a transaction that wrote on two nodes."""
    db.execute("create table later (id int unique deferrable initially deferred)")
    db.execute("select panvel.create_distributed_table('later', 'id')")
    insert, lock = "insert into later values (5)", "select pg_advisory_xact_lock(1)"
    both = "; ".join([lock, insert, update(db.keys[0]), update(db.keys[1])])
    errors, took = run([Party(db, insert, lock), Party(db, both, "select 1")])
    assert errors[0] is None and errors[1].sqlstate == "40P01"
    assert took < 5
    assert db.query("select max(v) from items") == [(0,)]


def test_a_party_that_waits_here_and_on_a_node(db):
    """An INSERT has sent rows, and waits here for the next ones: it would not notice to be a victim."""
    db.execute("create table later (id int primary key)")
    db.execute("select panvel.create_distributed_table('later', 'id', colocate_with => 'items')")
    a, b, c = db.keys
    insert = (
        "insert into later select i from generate_series(1, 20000) i"
        " where i <> 19000 or pg_advisory_xact_lock(1)::text = ''"
    )
    first = Party(db, f"insert into later values ({a})", update(b))
    second = Party(db, "select pg_advisory_xact_lock(1)", update(c))
    third = Party(db, f"{update(b)}; {update(c)}; select count(*) from items", insert)  # is connected to all
    errors, took = run([third, first, second])
    # The second must go before the third looks at its nodes again, and finds itself the victim.
    assert [error and error.sqlstate for error in errors] == ["40P01", None, "40P01"]
    assert took < 10
    assert db.query("select id from later") == [(a,)]


def test_one_node_finds_its_own(db):
    """Two rows of one node: that server's deadlock detector, with its error as it is."""
    keys = db.workers[0].value(
        "select array_agg(id) from (select id from %s.items limit 2) x"
        % db.workers[0].value(
            "select min(nspname) from pg_namespace n join pg_class c on c.relnamespace = n.oid"
            " where relname = 'items' and relkind = 'r'"
        )
    )
    a, b = keys
    errors, _ = run([Party(db, update(a), update(b)), Party(db, update(b), update(a))])
    error = one_victim(errors)
    assert 'on node "w1"' in error.diag.context


def test_roles_of_one_transaction(db):
    """A function of another role has a connection of its own, which would wait for its caller's, or not see its writes."""
    a, _, _ = db.keys
    role = f"other_{db.name}"
    for server in db.cluster.servers:
        server.execute(f"create role {role} login superuser")
    try:
        db.execute(
            "create function touch(int) returns void language sql security definer as "
            "$$ update items set v = v + 1 where id = $1 $$"
        )
        db.execute(f"alter function touch(int) owner to {role}")
        with db.connect(autocommit=False) as session:
            session.execute(update(a))
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="has written there"):
                session.execute("select touch(%s)", [a])
    finally:
        db.execute("drop function touch(int)")
        for server in db.cluster.servers:
            server.execute(f"drop role {role}")


def test_no_victims_without_a_circle(db):
    """Many sessions that wait in line for the same rows, for longer than deadlock_timeout."""
    a, b, c = db.keys
    failed = []

    def work():
        with db.connect(autocommit=False) as session:
            session.execute("set deadlock_timeout = '10ms'")
            for _ in range(3):
                try:
                    for key in (a, b, c):
                        session.execute(update(key))
                    session.execute("select pg_sleep(0.05)")
                    session.commit()
                except psycopg.Error as error:
                    failed.append(error)
                    session.rollback()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert db.value(f"select sum(v) from items where id in ({a}, {b}, {c})") == 72


def test_nothing_is_left(db):
    with db.connect() as session:
        session.execute("select count(*) from items")
        assert session.execute("select * from panvel.activity").fetchall() == []
    wait_until(lambda: db.value("select count(*) from panvel.activity") == 0)
