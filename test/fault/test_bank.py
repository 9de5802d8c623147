"""Transfers between accounts on different nodes while servers are killed: no money is lost or made."""

import random
import threading
import time

import psycopg
import pytest

from panvel_test import Server, wait_until
from panvel_test.distributed import chosen_seed, wait_until_settled

ACCOUNTS = 60
BALANCE = 1000
CLIENTS = 8


def open_bank(db):
    db.execute("create table account (id int primary key, balance bigint not null)")
    db.execute("create table ledger (id bigint primary key, payer int, payee int, amount int)")
    for table in ("account", "ledger"):
        db.execute(f"select panvel.create_distributed_table('{table}', 'id', shard_count => 6)")
    db.execute(f"insert into account select i, {BALANCE} from generate_series(1, {ACCOUNTS}) i")


class Client(threading.Thread):
    """Transfers until told to stop. Each leaves a line in the ledger, which is on a third node or so."""

    def __init__(self, db, number):
        super().__init__()
        self.db = db
        self.random = random.Random(number)
        self.next_id = number * 10_000_000
        self.acknowledged = set()
        self.unknown = set()
        self.failed = {}
        self.stopping = threading.Event()

    def transfer(self, connection, number):
        payer, payee = self.random.sample(range(1, ACCOUNTS + 1), 2)
        if self.random.random() < 0.9:  # the others run into deadlocks
            payer, payee = sorted((payer, payee))
        amount = self.random.randrange(-20, 20)
        change = "update account set balance = balance + %s where id = %s"
        with connection.transaction():
            connection.execute(change, [-amount, payer])
            connection.execute(change, [amount, payee])
            connection.execute("insert into ledger values (%s, %s, %s, %s)", [number, payer, payee, amount])

    def run(self):
        connection = None
        while not self.stopping.is_set():
            self.next_id += 1
            number = self.next_id
            try:
                connection = connection or self.db.connect()
                self.transfer(connection, number)
                self.acknowledged.add(number)
            except psycopg.Error as error:
                # A connection to the coordinator that breaks tells nothing about its transaction.
                if error.sqlstate == "08007" or connection is None or connection.closed:
                    self.unknown.add(number)
                else:
                    self.failed[number] = error
                if connection is not None and connection.closed:
                    connection = None
                    time.sleep(0.05)


def audit(db, clients):
    """At a quiet point: the sum, the ledger against the balances, the ledger against the clients."""
    wait_until_settled(db)
    assert db.value("select sum(balance) from account") == ACCOUNTS * BALANCE
    ledger = {row[0]: row[1:] for row in db.query("select id, payer, payee, amount from ledger")}
    balances = dict.fromkeys(range(1, ACCOUNTS + 1), BALANCE)
    for payer, payee, amount in ledger.values():
        balances[payer] -= amount
        balances[payee] += amount
    assert dict(db.query("select id, balance from account")) == balances
    for client in clients:
        lost = client.acknowledged - ledger.keys()
        assert not lost, f"acknowledged, but not there: {lost}"
        ghosts = client.failed.keys() & ledger.keys()
        assert not ghosts, {number: client.failed[number] for number in ghosts}
    return len(ledger)


def play_round(db, seconds):
    """Clients for so long, with a server killed every few seconds; then an audit."""
    generator = random.Random(chosen_seed())
    clients = [Client(db, number) for number in generator.sample(range(1, 100_000), CLIENTS)]
    servers = db.cluster.servers
    end = time.monotonic() + seconds
    kills = 0
    for client in clients:
        client.start()
    try:
        while time.monotonic() < end:
            before = sum(len(client.acknowledged) for client in clients)
            wait_until(
                lambda: sum(len(client.acknowledged) for client in clients) > before + 20, 60, "transfers"
            )
            server = generator.choice(servers)
            generator.choice([Server.kill9, Server.kill_postmaster])(server)
            time.sleep(generator.random())
            server.start()
            kills += 1
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()
    transfers = audit(db, clients)
    failed = [error.sqlstate for client in clients for error in client.failed.values()]
    unknown = sum(len(client.unknown) for client in clients)
    print(f"{transfers} in the ledger, {kills} kills, {len(failed)} failed, {unknown} unknown")
    assert kills > 0
    return transfers


def make_bank(make_cluster):
    db = make_cluster(workers=3, fsync=True)
    open_bank(db)
    return db


def test_a_round(make_cluster):
    play_round(make_bank(make_cluster), 20)


@pytest.mark.soak
@pytest.mark.timeout(2 * 3600)
def test_ten_rounds(make_cluster):
    db = make_bank(make_cluster)
    for _ in range(10):
        play_round(db, 180)
