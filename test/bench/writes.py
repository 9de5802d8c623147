"""Loading through the coordinator beside loading one plain table of one server; and joins that the shards do by themselves.

    python3 test/bench/writes.py [--rounds 5] [--scale 1.0] [--only copy|insert|joins|memory]

Servers of its own, fsync on, 8 shards on 2 workers, no index. Each round measures direct and through the coordinator one
after the other; printed are medians, and the least and largest ratio of a round. Bars: README.md.
"""

import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from panvel_test import Cluster, postgres  # noqa: E402

NARROW = "id bigint, n int, label text"


def narrow_row(number):
    return number, number % 1000, f"the label of row {number}"


def vector_row(dimensions):
    values = [f"{random.random():.6g}" for _ in range(4 * dimensions)]

    def row(number):
        first = number % (3 * dimensions)
        return number, "[" + ",".join(values[first : first + dimensions]) + "]"

    return row


# name: columns, what makes a row, rows of a COPY, INSERTs of 1,000 rows
SHAPES = {
    "narrow": (NARROW, narrow_row, 1_000_000, 100),
    "128 dimensions": ("id bigint, e vector(128)", vector_row(128), 60_000, 20),
    "784 dimensions": ("id bigint, e vector(784)", vector_row(784), 12_000, 5),
}


def cpu_seconds(server):
    """CPU time of all the server's processes so far, of those that have ended as well."""
    ticks = 0
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(directory.name) == server.process.pid:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == server.process.pid:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, arguments):
        random.seed(1)
        self.arguments = arguments
        self.cluster = Cluster(workers=2, fsync=True, conf={"shared_buffers": "256MB", "max_wal_size": "8GB"}).start()
        self.db = self.cluster.database("bench")
        self.direct = self.db.workers[0]
        self.directory = pathlib.Path(postgres.base_directory())

    def scaled(self, count):
        return max(1, int(count * self.arguments.scale))

    def tables(self, columns):
        for database in (self.direct, self.db):
            database.execute(f"drop table if exists t; create table t ({columns})")
        self.db.execute("select panvel.create_distributed_table('t', 'id', 8)")

    def compare(self, name, bar, work, amount):
        """`work`: seconds that it takes on a database; `amount`: of rows."""
        seconds = {self.db: [], self.direct: []}
        cpu = {"coordinator": [], "workers": [], "direct": []}
        for turn in range(self.arguments.rounds + 1):
            for database in (self.direct, self.db):
                database.execute("truncate t")
                for server in (self.db, *self.db.workers):
                    server.execute("checkpoint")
                before = [cpu_seconds(server.server) for server in (self.db, *self.db.workers)]
                took = work(database)
                coordinator, *workers = (
                    cpu_seconds(server.server) - time for server, time in zip((self.db, *self.db.workers), before))
                if turn == 0:  # warms up
                    continue
                seconds[database].append(took)
                if database is self.direct:
                    cpu["direct"].append(sum(workers))
                else:
                    cpu["coordinator"].append(coordinator)
                    cpu["workers"].append(sum(workers))
        ratios = [direct / through for direct, through in zip(seconds[self.direct], seconds[self.db])]
        rates = [amount / statistics.median(seconds[database]) for database in (self.db, self.direct)]
        print(f"{name:36} {rates[0]:10,.0f} {rates[1]:10,.0f} {statistics.median(ratios):7.2f}"
              f" ({min(ratios):.2f} to {max(ratios):.2f})  bar {bar}  CPU, us a row: "
              + ", ".join(f"{name} {1e6 * statistics.median(times) / amount:.2f}" for name, times in cpu.items()), flush=True)

    # ---------------------------------------------------------------- COPY
    def psql(self, database, sql, stdin=None, stdout=None):
        command = [postgres.bindir() / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(database.server.port),
                   "-U", "postgres", "-d", database.name, "-c", sql]
        started = time.perf_counter()
        subprocess.run(command, stdin=stdin, stdout=stdout, check=True)
        return time.perf_counter() - started

    def files(self, row, count):
        """The rows as text, and as binary."""
        text, binary = self.directory / "rows.txt", self.directory / "rows.bin"
        with text.open("w") as out:
            out.writelines("\t".join(map(str, row(number))) + "\n" for number in range(count))
        with text.open() as rows:
            self.psql(self.direct, "copy t from stdin", rows)
        with binary.open("w") as out:
            self.psql(self.direct, "copy t to stdout (format binary)", stdout=out)
        return text, binary

    def copy(self):
        for shape, (columns, row, count, _) in SHAPES.items():
            count = self.scaled(count)
            self.tables(columns)
            for path, format_name in zip(self.files(row, count), ("text", "binary")):
                def load(database):
                    with path.open() as rows:
                        return self.psql(database, f"copy t from stdin (format {format_name})", rows)

                self.compare(f"COPY, {format_name}, {shape}", 0.7, load, count)

    # ---------------------------------------------------------------- INSERT
    def insert(self):
        for shape, (columns, row, _, count) in SHAPES.items():
            count = self.scaled(count)
            self.tables(columns)
            statements = []
            for number in range(count):
                rows = (repr(row(1000 * number + i)) for i in range(1000))
                statements.append(f"insert into t values {','.join(rows)}".encode())

            def insert(database):
                with database.connect() as connection:
                    connection.execute("insert into t select * from t limit 0")  # connections to the workers
                    started = time.perf_counter()
                    for statement in statements:
                        result = connection.pgconn.exec_(statement)
                        assert result.command_tuples == 1000, result.error_message
                    return time.perf_counter() - started

            self.compare(f"INSERT of 1,000 rows, {shape}", 0.5, insert, 1000 * count)

    # ---------------------------------------------------------------- joins
    def joins(self):
        """A volatile condition has the coordinator fetch the rows and write them back."""
        count = self.scaled(100_000)
        self.db.execute("drop table if exists a, b, c")
        for table in ("a", "b", "c"):
            self.db.execute(f"create table {table} (id bigint primary key, n int)")
            colocate = "null" if table == "a" else "'a'"
            self.db.execute(f"select panvel.create_distributed_table('{table}', 'id', 8, colocate_with => {colocate})")
        self.db.execute(f"insert into a select g, 0 from generate_series(1, {count}) g; insert into b select * from a; analyze a, b")
        for name, sql in {
            "UPDATE ... FROM": "update a set n = a.n + b.n + 1 from b where b.id = a.id",
            "DELETE ... USING": "delete from a using b where b.id = a.id",
            "INSERT ... SELECT": "insert into c select a.id, b.n from a join b on b.id = a.id where true",
        }.items():
            seconds = {"": [], " and random() < 2": []}
            for _ in range(self.arguments.rounds):
                for condition, taken in seconds.items():
                    with self.db.connect(autocommit=False) as connection:
                        connection.execute("select count(*) from a")
                        started = time.perf_counter()
                        assert connection.execute(sql + condition).rowcount == count
                        taken.append(time.perf_counter() - started)
                        connection.rollback()
            by_shards, by_rows = map(statistics.median, seconds.values())
            print(f"{name}, {count:,} rows: {by_shards:.2f} s on the shards, {by_rows:.2f} s by rows: {by_rows / by_shards:.1f} x",
                  flush=True)

    # ---------------------------------------------------------------- memory
    def memory(self):
        """The backend's peak after a COPY, and after one of four times the rows."""
        self.tables(NARROW)
        with self.db.connect() as connection:
            for count in (self.scaled(500_000), self.scaled(2_000_000)):
                with connection.cursor().copy("copy t from stdin") as copy:
                    for number in range(count):
                        copy.write("\t".join(map(str, narrow_row(number))) + "\n")
                status = pathlib.Path(f"/proc/{connection.info.backend_pid}/status").read_text()
                peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
                print(f"COPY of {count:,} rows: peak of the backend {int(peak) / 1024:.1f} MB", flush=True)

    def run(self):
        print(f"{'rows a second':36} {'coordin.':>10} {'direct':>10} {'ratio':>7}")
        for part in ("copy", "insert", "joins", "memory"):
            if self.arguments.only in (None, part):
                getattr(self, part)()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", choices=["copy", "insert", "joins", "memory"])
    bench = Bench(parser.parse_args())
    try:
        bench.run()
    finally:
        bench.cluster.remove()


if __name__ == "__main__":
    main()
