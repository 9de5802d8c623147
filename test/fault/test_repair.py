"""Lost placements are built anew on other nodes; journals that grow too long; panvel.jobs."""

import threading
import time

import psycopg
import pytest

from panvel_test import wait_until
from panvel_test.distributed import wait_until_settled

AGAIN = ("08001", "08006", "40001", "57P01", "57P02")
UNSYNCED = "select count(*) from panvel.placement where not active"


def in_sync(db, seconds=60):
    wait_until(lambda: db.value(UNSYNCED) == 0, seconds, "all placements in sync")


def write_until_done(db, sql):
    deadline = time.monotonic() + 15
    while True:
        try:
            return db.execute(sql)
        except psycopg.Error as error:
            assert error.sqlstate in AGAIN and time.monotonic() < deadline, error


class Clients:
    """Two that write and two that read while something happens; what goes wrong is in `problems`."""

    def __init__(self, db):
        self.db, self.stopping, self.problems = db, threading.Event(), []
        self.acknowledged, self.reads = set(), 0
        self.threads = [threading.Thread(target=self.write, args=[n]) for n in (1, 2)]
        self.threads += [threading.Thread(target=self.read) for _ in range(2)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def write(self, number):
        session = self.db.connect()
        key = 1_000_000 * number
        while not self.stopping.is_set():
            key += 1
            try:
                session.execute("insert into items values (%s, 1, array[%s, 1]::vector)", [key, key % 7])
                session.execute("insert into parts values (%s, 1)", [key])
                self.acknowledged.add(key)
                session.execute("update items set n = n + 1 where id = %s", [key])
            except psycopg.Error as error:
                if error.sqlstate not in AGAIN:
                    self.problems.append(error)
                    return

    def read(self):
        session = self.db.connect()
        try:
            while not self.stopping.is_set():
                assert session.execute("select count(*) from items where id <= 2000").fetchone() == (2000,)
                assert len(session.execute("select id from items order by e <-> '[3,1]' limit 5").fetchall()) == 5
                self.reads += 1
        except Exception as error:  # noqa: BLE001 to be shown by the test
            self.problems.append(error)


def test_repair_while_reads_and_writes_go_on(make_cluster, error_of):
    db = make_cluster(workers=4, coordinator_conf={"panvel.node_timeout": "2s"})
    db.execute("create table kinds (id int primary key)")
    db.execute("select panvel.create_reference_table('kinds')")
    db.execute("create table items (id int primary key, n int, e vector(2))")
    db.execute("select panvel.create_distributed_table('items', 'id', 8, 2)")
    db.execute("create table parts (id int primary key, n int check (n > 0))")
    db.execute("select panvel.create_distributed_table('parts', 'id', colocate_with => 'items')")
    db.execute("alter table parts add foreign key (id) references items")
    db.execute("insert into items select i, 0, array[i % 7, i]::vector from generate_series(1, 2000) i")
    db.execute("insert into parts select i, 1 from generate_series(1, 2000) i")
    db.execute("create index on items using hnsw (e vector_l2_ops)")
    for server in (db, *db.workers):
        server.execute("create role reader")
    db.execute("grant select on items to reader")
    assert db.value("select panvel.repair()") == 0

    lost = db.worker("w1")
    had = db.value("select count(*) from panvel.shards where node = 'w1' and relation = 'items'::regclass")
    assert had == 4
    with Clients(db) as clients:
        wait_until(lambda: len(clients.acknowledged) > 20 and clients.reads > 5 or clients.problems, 60)
        lost.server.kill9()
        wait_until(lambda: db.value("select status from panvel.nodes where name = 'w1'") == "down", 20)
        with db.connect(autocommit=False) as session:
            assert error_of(session.execute, "select panvel.repair()").sqlstate == "25001"
        assert db.value("select panvel.repair()") == had
        assert db.value("select panvel.repair()") == 0
        in_sync(db)
        before = len(clients.acknowledged)
        wait_until(lambda: len(clients.acknowledged) > before + 20 or clients.problems, 60)
    assert clients.problems == []
    wait_until_settled_but(db, lost)
    jobs = db.query("select kind, state, done, total, error, node from panvel.jobs where kind = 'repair'")
    assert len(jobs) == had and {job[1] for job in jobs} == {"done"}
    assert all(done == total > 0 and error is None and node != "w1" for _, _, done, total, error, node in jobs)
    nodes = db.query("select node, count(*) from panvel.shards where relation = 'items'::regclass group by 1 order by 1")
    assert [node for node, _ in nodes] == ["w2", "w3", "w4"] and sum(count for _, count in nodes) == 16
    for table in ("items", "parts"):
        assert all(equal for (equal,) in db.query("select equal from panvel.check_placements(%s)", [table]))
    assert clients.acknowledged <= {key for (key,) in db.query("select id from items")}
    # The new placements are tables like the others: indexes, constraints, rights.
    db.execute("create index on items (n)")
    definitions = set()
    for shard, node in db.query("select shard_id, node from panvel.shards where relation = 'items'::regclass"):
        definitions.add(tuple(db.worker(node).query(
            "select replace(pg_get_indexdef(indexrelid), %s, ''), relacl::text from pg_index join pg_class on oid = indrelid"
            " where indrelid = %s::regclass order by 1", [f"panvel_s{shard}.", f"panvel_s{shard}.items"])))
    assert len(definitions) == 1 and len(next(iter(definitions))) == 3
    assert error_of(db.execute, "insert into parts values (1, 0)").sqlstate == "23514"
    # What comes back with the lost node is dropped; the node is as good as new, and may go.
    lost.server.start()
    wait_until(lambda: db.value("select count(*) from panvel.leftover") == 0, 30, "leftovers dropped")
    kinds = db.value("select distinct shard_id from panvel.shards where relation = 'kinds'::regclass")
    assert lost.query("select nspname from pg_namespace where nspname ~ '^panvel_s'") == [(f"panvel_s{kinds}",)]
    wait_until_settled(db, 30)
    db.execute("select panvel.remove_node('w1')")


def wait_until_settled_but(db, lost):
    """All nodes that are up have nothing prepared any more."""
    prepared = "select count(*) from pg_prepared_xacts"
    others = [worker for worker in db.workers if worker is not lost]
    wait_until(lambda: all(worker.value(prepared) == 0 for worker in others), 30, "nothing prepared")


def test_no_node_to_repair_on(make_cluster):
    """And a journal that grows too long while the node is away: all rows are copied when it is back."""
    db = make_cluster(workers=2, coordinator_conf={"panvel.node_timeout": "2s", "panvel.journal_limit": 100})
    db.execute("create table items (id int primary key, n int)")
    db.execute("select panvel.create_distributed_table('items', 'id', 2, 2)")
    db.execute("insert into items select i, 0 from generate_series(1, 1000) i")
    shards = [shard for (shard,) in db.query("select shard_id from panvel.shard")]
    lost, left = db.worker("w1"), db.worker("w2")

    def journaled():
        return sum(left.value(f"select count(*) from panvel_s{shard}.panvel_journal") for shard in shards)

    lost.server.kill9()
    write_until_done(db, "update items set n = 1 where id <= 20")
    assert journaled() == 20
    with db.connect() as session:
        notices = []
        session.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        assert session.execute("select panvel.repair()").fetchone() == (0,)
        assert notices == ["2 lost placements cannot be replaced: no further node is up"]
        session.execute("update items set n = 2")
        kept = "select count(*) from panvel.placement where journaled and not active"
        wait_until(lambda: db.value(kept) == 0, 30, "journals given up")
        assert {state for (state,) in db.query("select state from panvel.shards where node = 'w1'")} == {"copying"}
        assert db.query("select distinct kind, state, error from panvel.jobs where kind <> 'distribute'") == [("catch-up", "waiting", "the node is down")]
        session.execute("update items set n = 3")  # nothing is noted any more
        assert journaled() == 0
    lost.server.start()
    in_sync(db)
    wait_until_settled(db, 30)
    assert all(equal for (equal,) in db.query("select equal from panvel.check_placements('items')"))
    assert db.query("select kind, state, error, sum(done)::int from panvel.jobs where kind <> 'distribute' group by 1, 2, 3") == [("catch-up", "done", None, 1000)]
    assert journaled() == 0


def foreign_key_cluster(make_cluster, action):
    db = make_cluster(workers=2, coordinator_conf={"panvel.node_timeout": "2s"})
    db.execute("create table items (id int primary key, n int, code int not null, unique (id, code))")
    db.execute("create table parts (id int primary key, code int)")
    db.execute("select panvel.create_distributed_table('items', 'id', 1, 2)")
    db.execute("select panvel.create_distributed_table('parts', 'id', colocate_with => 'items')")
    db.execute(f"alter table parts add foreign key (id, code) references items (id, code) {action}")
    db.execute("insert into items select i, 0, 0 from generate_series(1, 100) i")
    db.execute("insert into parts select i, 0 from generate_series(1, 50) i")
    return db


@pytest.mark.parametrize("action, unknown", [("", set()), ("on update cascade", {"code"}),
                                             ("on delete cascade", {"delete"}), ("on delete set null (code)", {"delete"})])
def test_only_what_foreign_keys_carry_on_is_copied_anew(make_cluster, action, unknown):
    """Of the other writes to a table that is referred to, the journal has the keys."""
    db = foreign_key_cluster(make_cluster, action)
    db.worker("w1").server.kill9()
    write_until_done(db, "insert into items values (101, 0, 0)")
    shard = db.value("select shard_id from panvel.shard")
    journal = f"panvel_s{shard}.panvel_journal"
    writes = {
        "insert": "insert into items values (102, 0, 0) on conflict (id) do update set n = 1",
        "n": "update items set n = 1 where id <= 3",
        "code": "update items set code = 0 where id <= 3",
        "delete": "delete from items where id > 60",
        "merge": "merge into items i using (values (1)) v(x) on i.id = v.x when matched then update set n = i.n + 1",
    }
    for name, write in writes.items():
        db.worker("w2").execute(f"delete from {journal}")
        db.execute(write)
        missing = db.worker("w2").value(f"select count(*) from {journal} where key = '{{}}'")
        assert missing == (name in unknown), name
        assert db.worker("w2").value(f"select count(*) from {journal} where key <> '{{}}'") > 0


def test_writes_without_keys_never_stop(make_cluster):
    """Each asks for all rows to be copied anew, and comes before the copy is made."""
    db = foreign_key_cluster(make_cluster, "on delete cascade")
    stopping, problems, deleted = threading.Event(), [], [0]

    def write(number):
        session = db.connect()
        key = number * 1_000_000
        while not stopping.is_set():
            key += 1
            try:
                session.execute("insert into items values (%s, 1, 2)", [key])
                session.execute("insert into parts values (%s, 2)", [key])
                session.execute("delete from items where id = %s", [key])
                deleted[0] += 1
            except psycopg.Error as error:
                if error.sqlstate not in AGAIN:
                    problems.append(error)
                    return

    writers = [threading.Thread(target=write, args=[n]) for n in (1, 2, 3)]
    for writer in writers:
        writer.start()
    try:
        lost = db.worker("w1")
        lost.server.kill9()
        wait_until(lambda: db.value(UNSYNCED) == 1, 30, "taken out")
        before = deleted[0]
        wait_until(lambda: deleted[0] > before + 10 or problems, 30, "writes go on")
        lost.server.start()
        in_sync(db, 40)
        before = deleted[0]
        wait_until(lambda: deleted[0] > before + 10 or problems, 30, "writes go on")
    finally:
        stopping.set()
        for writer in writers:
            writer.join()
    assert problems == []
    wait_until_settled(db, 30)
    for table in ("items", "parts"):
        assert all(equal for (equal,) in db.query("select equal from panvel.check_placements(%s)", [table]))
