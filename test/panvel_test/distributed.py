"""What fault tests ask of a distributed database: is everything settled, is anything left?"""

import os
import pathlib
import random

import psycopg

from .postgres import wait_until

def databases_on(cluster):
    """Fresh databases on the cluster, one for each test that asks with next(): whatever an earlier test has left
    paused or killed runs again. Removes the cluster when it is closed; a server must not have crashed until then."""
    try:
        cluster.start()
        for number in range(1, 1000):
            for server in cluster.servers:
                if server.is_running():
                    server.resume()
                else:
                    server.gone()
                    server.start()
            yield cluster.database(f"fault{number}")
    finally:
        crashes = [line for server in cluster.servers for line in server.crashes()]
        cluster.remove()
        assert not crashes, crashes


SOAK_SECONDS = int(os.environ.get("PANVEL_SOAK_SECONDS", "600"))

PREPARED = "select count(*) from pg_prepared_xacts where database = current_database()"
# Sessions of a coordinator's backends that are not idle; the monitor's and a canceller's are others.
OPEN = (
    "select count(*) from pg_stat_activity where datname = current_database()"
    " and application_name ~ '^panvel [0-9a-f]+ [0-9]+ [0-9]+$' and state <> 'idle'"
)
SESSIONS = OPEN.replace(" and state <> 'idle'", "")


def chosen_seed():
    """For a test of random work: PANVEL_SEED, or a new one; printed, so that a failure shows it."""
    seed = int(os.environ.get("PANVEL_SEED") or random.randrange(1 << 31))
    print(f"PANVEL_SEED={seed}")
    return seed


def nothing_left(db):
    """Nothing prepared, no remote transaction or statement, no commit record."""
    try:
        return (
            all(worker.value(PREPARED) == 0 and worker.value(OPEN) == 0 for worker in db.workers)
            and db.value("select count(*) from panvel.commit_record") == 0
        )
    except psycopg.OperationalError:
        return False


def wait_until_settled(db, seconds=10):
    """Background recovery has this long, from when all servers answer."""

    def answer():
        try:
            return all(ok for (ok,) in db.query("select ok from panvel.run_on_nodes('select 1')"))
        except psycopg.OperationalError:
            return False

    wait_until(answer, 60, "answers of all servers")
    wait_until(lambda: nothing_left(db), seconds, "resolution of what was in doubt")
    assert db.query("select * from panvel.transactions") == []


def wait_until_stopped(pid):
    """The process has stopped itself (crash point `:stop`)."""
    stat = pathlib.Path(f"/proc/{pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", 30, "stop of the backend")


def anonymous_memory(pids):
    """Bytes of memory of their own that the processes have; those that have ended count nothing."""
    total = 0
    for pid in pids:
        try:
            for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) * 1024
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total
