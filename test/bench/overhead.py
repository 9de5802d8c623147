"""What the coordinator costs: statements through it beside the same ones on a worker itself.

    python3 test/bench/overhead.py [--seconds 5] [--rounds 5] [--clients 1]

Servers of its own, fsync on. Each round measures direct and through the coordinator one after the
other; printed are medians, and the least and largest ratio of a round. Bars: README.md.
"""

import argparse
import pathlib
import re
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from panvel_test import Cluster, postgres  # noqa: E402

ROWS = 10000


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.cluster = Cluster(workers=2, fsync=True).start()
        self.db = self.cluster.database("bench")
        self.db.execute("create table items (id bigint primary key, v text)")
        self.db.execute("select panvel.create_distributed_table('items', 'id', shard_count => 2)")
        fill = f"insert into items select i, 'row ' || i from generate_series(1, {ROWS}) i"
        self.db.execute(fill)
        self.direct = self.db.workers[0]
        self.direct.execute("create table items (id bigint primary key, v text)")
        self.direct.execute(fill)
        for database in [self.db, *self.db.workers]:
            database.execute("vacuum analyze")
        self.next_key = 10 * ROWS
        self.keys = []  # of rows on the first and the second worker
        for worker in self.db.workers:
            (schema,) = worker.query("select nspname from pg_namespace where nspname like 'panvel%'")[0]
            self.keys.append([key for (key,) in worker.query(f"select id from {schema}.items limit 500")])

    def rate(self, database, script):
        """Transactions a second of pgbench."""
        path = postgres.base_directory() / "script.sql"
        path.write_text(script)
        options = ["-n", "-M", "prepared", "-T", self.arguments.seconds, "-c", self.arguments.clients]
        server = ["-h", "127.0.0.1", "-p", database.server.port, "-U", "postgres", database.name]
        command = [postgres.bindir() / "pgbench", *options, "-f", path, *server]
        done = postgres.run(command)
        return float(re.search(r"tps = ([0-9.]+)", done.stdout).group(1))

    def compare(self, name, bar, slow, fast):
        """`slow` and `fast`: pairs of a database and a function that makes a script."""
        ratios, rates = [], {"slow": [], "fast": []}
        for _ in range(self.arguments.rounds):
            for label, (database, script) in (("fast", fast), ("slow", slow)):
                rates[label].append(self.rate(database, script()))
            ratios.append(rates["slow"][-1] / rates["fast"][-1])
        medians = [statistics.median(rates[label]) for label in ("slow", "fast")]
        print(
            f"{name:42} {medians[0]:9.0f} {medians[1]:9.0f} {statistics.median(ratios):7.2f}"
            f" ({min(ratios):.2f} to {max(ratios):.2f})  bar {bar}",
            flush=True,
        )

    def select(self):
        return f"\\set id random(1, {ROWS})\nselect v from items where id = :id;\n"

    def insert(self):
        """Random keys, so that a run does not meet those of another."""
        return "\\set id random(100000, 9000000000000)\ninsert into items values (:id, 'a row') on conflict do nothing;\n"

    def two_updates(self, first, second):
        script = "begin;\n"
        a, b = self.keys[first][0], self.keys[second][1]
        script += f"update items set v = 'x' where id = {a};\nupdate items set v = 'y' where id = {b};\n"
        return script + "commit;\n"

    def run(self):
        print(f"{'':42} {'coordin.':>9} {'other':>9} {'ratio':>7}")
        self.compare("select by key / direct", 0.4, (self.db, self.select), (self.direct, self.select))
        self.compare("insert of a row / direct", 0.4, (self.db, self.insert), (self.direct, self.insert))
        self.compare(
            "transaction over two nodes / over one",
            0.3,
            (self.db, lambda: self.two_updates(0, 1)),
            (self.db, lambda: self.two_updates(0, 0)),
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=1)
    bench = Bench(parser.parse_args())
    try:
        bench.run()
    finally:
        bench.cluster.remove()


if __name__ == "__main__":
    main()
