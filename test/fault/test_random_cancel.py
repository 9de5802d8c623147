"""Ctrl-C and statement_timeout at random moments: the session goes on, nothing is left, nothing by half."""

import random
import threading

import psycopg
import pytest

from panvel_test import wait_until
from panvel_test.distributed import SESSIONS, chosen_seed, nothing_left

BATCH = 9


def prepare(db):
    db.execute("create table items (id bigint primary key, batch int, v text)")
    db.execute("select panvel.create_distributed_table('items', 'id', shard_count => 6)")


class Victim:
    def __init__(self, db, seed):
        self.db = db
        self.random = random.Random(seed)
        self.session = db.connect()
        self.batch = 0
        self.written, self.unknown = set(), set()
        self.canceled = 0

    def batch_sql(self):
        rows = ", ".join(f"({self.batch * BATCH + i}, {self.batch}, 'x')" for i in range(BATCH))
        return f"insert into items values {rows}"

    def statements(self):
        """One of several kinds of work; only those with the batch write."""
        insert = self.batch_sql()
        return self.random.choice(
            [
                (True, [insert]),
                (True, ["begin", insert, f"update items set v = 'y' where batch = {self.batch}", "commit"]),
                (True, ["begin", "savepoint a", "insert into items values (-1, -1, '')", "rollback to a", insert, "commit"]),
                (False, ["select count(*), max(v) from items"]),
                (False, ["begin", "declare c cursor for select * from items", "fetch 3 from c", "rollback"]),
                (False, ["begin", "update items set v = v || 'z'", "rollback"]),
                (False, ["select count(*) from items a join items b using (batch)"]),
            ]
        )

    def step(self):
        self.batch += 1
        writes, statements = self.statements()
        delay = self.random.uniform(0, 0.01)
        by_timeout = self.random.random() < 0.5
        if by_timeout:
            self.session.execute(f"set statement_timeout = '{max(1, int(delay * 1000))}ms'")
        timer = threading.Timer(delay, self.session.cancel)
        if not by_timeout:
            timer.start()
        error = None
        try:
            for statement in statements:
                self.session.execute(statement)
        except psycopg.Error as caught:
            error = caught
        timer.cancel()
        if not by_timeout:
            timer.join()
        self.recover()
        if error is None:
            self.written.update([self.batch] if writes else [])
            return
        assert error.sqlstate in ("57014", "08007"), error
        self.canceled += 1
        if error.sqlstate == "08007":
            self.unknown.add(self.batch)

    def recover(self):
        """A cancel may arrive late: that it ends the next statement is how cancel is."""
        while True:
            try:
                self.session.execute("rollback")
                self.session.execute("reset statement_timeout")
                assert self.session.execute("select 1 + count(*) from items where id = -5").fetchone() == (1,)
                return
            except psycopg.errors.QueryCanceled:
                pass


def check(victim):
    db = victim.db
    counts = dict(db.query("select batch, count(*) from items group by batch"))
    assert set(counts.values()) <= {BATCH}, counts
    assert victim.written <= counts.keys()
    assert counts.keys() <= victim.written | victim.unknown
    wait_until(lambda: nothing_left(db), 15)
    assert all(worker.value(SESSIONS) <= 1 for worker in db.workers)
    victim.session.close()
    for worker in db.workers:
        wait_until(lambda: worker.value(SESSIONS) == 0, 5)


def run(db, count):
    """Until so many have been interrupted."""
    prepare(db)
    victim = Victim(db, chosen_seed())
    while victim.canceled < count:
        victim.step()
    print(f"{victim.canceled} of {victim.batch} canceled, {len(victim.unknown)} unknown")
    check(victim)


def test_thirty_times(cluster):
    run(cluster, 30)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_times(cluster):
    run(cluster, 1000)
