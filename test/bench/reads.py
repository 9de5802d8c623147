"""k-NN through the coordinator: beside a plain server, its CPU time, 32 shards beside 4, and LATERAL.

    python3 test/bench/reads.py                                 10,000 images of this repository
    python3 test/bench/reads.py --data DIRECTORY                all 60,000 of MNIST, where its IDX files are
    python3 test/bench/reads.py --part lateral --rounds 5       speed, perf, lateral; more than once for several

Servers of its own on this machine: one coordinator with two workers, one plain server with the same rows
in one table. L2, hnsw with its defaults, 4 and 32 shards, LIMIT 10, settings of run.py. All is measured in turn,
round by round; printed are medians. README.md says what is compared.
"""

import argparse
import collections
import gzip
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from bench_results import NEIGHBOURS, Row, speed_at  # noqa: E402
from bench_report import bar_text, markdown_table, number  # noqa: E402
from panvel_test import Cluster, Server, postgres  # noqa: E402
from run import server_settings  # noqa: E402

PARTS = ("speed", "perf", "lateral")
SHARDS = (4, 32)
PLAIN = "plain"
EMPTY = "no rows"
NEAREST = "select id from {0} order by embedding <-> {1} limit 10"
LATERAL = "select q.id, n.id from queries q, lateral (" + NEAREST.format("{0} i", "q.embedding") + ") n"


def arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", default=str(HERE / "data"))
    add("--limit", type=int, help="at most so many vectors in the index")
    add("--rounds", type=int, default=3)
    add("--queries", type=int, default=1000)
    add("--efs", default="10,12,16,20,28,40", help="values of ef_search, with commas")
    add("--recall", type=float, default=0.99, help="where speeds are compared, or the lowest that all have")
    add("--nodes", choices=("tcp", "socket"), default="tcp", help="how the coordinator reaches its workers: 127.0.0.1, or "
        "the Unix socket, as clients reach both servers here")
    add("--part", action="append", choices=PARTS)
    return parser.parse_args(words)


# ---------------------------------------------------------------------- data


def images(directory, name, limit=None):
    """The images of an IDX file, each as vector's text."""
    path = pathlib.Path(directory) / f"{name}-images-idx3-ubyte.gz"
    data = gzip.decompress(path.read_bytes())[16:]
    found = range(0, len(data), 784)[:limit]
    return ["[" + ",".join(map(str, data[i : i + 784])) + "]" for i in found]


def data_set(options):
    """(vectors, queries): as hnsw_compare takes them, test images asked of the training images."""
    if (pathlib.Path(options.data) / "train-images-idx3-ubyte.gz").exists():
        return images(options.data, "train", options.limit), images(options.data, "t10k", options.queries)
    every = images(options.data, "t10k")
    return every[: -options.queries][: options.limit], every[-options.queries :]


def fill(database, table, vectors):
    with database.connect() as connection, connection.cursor() as cursor:
        with cursor.copy(f"copy {table} from stdin") as copy:
            for key, vector in enumerate(vectors):
                copy.write(f"{key}\t{vector}\n")
    database.execute(f"vacuum analyze {table}")


def make_table(database, table, vectors, distribute=""):
    database.execute(f"create table {table} (id bigint primary key, embedding vector(784))")
    if distribute:
        database.execute(distribute)
    fill(database, table, vectors)
    database.execute(f"create index on {table} using hnsw (embedding vector_l2_ops)")
    database.execute(f"vacuum analyze {table}")


class Bench:
    def __init__(self, options):
        self.options = options
        self.rows = []
        vectors, self.queries = data_set(options)
        conf = server_settings()
        self.plain_server = Server(PLAIN, conf=conf).initialize().start()
        self.cluster = Cluster(workers=2, conf=conf).start()
        self.plain = self.plain_server.database("bench")
        self.plain.execute("create extension vector")
        self.distributed = self.cluster.database("bench")
        if options.nodes == "socket":
            for worker in self.cluster.workers:
                address = [worker.label, str(worker.directory), worker.port]
                self.distributed.execute("select panvel.set_node(%s, %s, %s)", address)
        make_table(self.plain, "items", vectors)
        for shards in SHARDS:
            call = f"select panvel.create_distributed_table('items{shards}', 'id', {shards})"
            make_table(self.distributed, f"items{shards}", vectors, call)
        make_table(self.distributed, "empty", [], f"select panvel.create_distributed_table('empty', 'id', {SHARDS[0]})")
        for database in (self.plain, self.distributed):
            database.execute("create table queries (id int, embedding vector(784))")
            fill(database, "queries", self.queries)
            database.execute("checkpoint")
        for worker in self.distributed.workers:
            worker.execute("checkpoint")
        print(f"{len(vectors)} vectors, {len(self.queries)} queries, nodes by {options.nodes}", flush=True)

    def remove(self):
        self.cluster.remove()
        self.plain_server.remove()

    def run(self):
        for part in self.options.part or PARTS:
            getattr(self, part)()
        head = ["what", "value", "beside", "ratio", "bar", "met", "note"]
        lines = []
        for row in self.rows:
            met = {None: "", True: "yes", False: "NO"}[row.met()]
            ratio = "" if row.ratio is None else number(row.ratio)
            value, beside = (number(row.values[name]) if name in row.values else "" for name in ("value", "beside"))
            lines.append([f"{row.what} ({row.unit})", value, beside, ratio, bar_text(row), met, row.note])
        print(markdown_table(head, lines))

    def add(self, what, unit, value, beside=None, ratio=None, bar=None, limit=False, note=""):
        values = {"value": value} | ({} if beside is None else {"beside": beside})
        self.rows.append(Row(what, unit, values, ratio=ratio, bar=bar, bar_is_limit=limit, note=note))

    # ------------------------------------------------------------------ beside a plain server

    def speed(self):
        command = [postgres.BUILD / "test/search_clients", self.options.data, self.options.rounds, "1,4"]
        command += [self.options.efs, self.options.limit or 0, self.options.queries]
        command += [PLAIN, "items", self.plain.conninfo(host=self.plain_server.directory)]
        coordinator = self.distributed.conninfo(host=self.cluster.coordinator.directory)
        for shards in SHARDS:
            command += [f"{shards} shards", f"items{shards}", coordinator]
        command += [EMPTY, "empty", coordinator]
        done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
        points = collections.defaultdict(list)
        for line in done.stdout.splitlines():
            name, clients, ef, _, *values = line.split("\t")
            points[name, int(clients), int(ef)].append([float(value) for value in values])
        points = {key: [statistics.median(column) for column in zip(*rounds)] for key, rounds in points.items()}
        self.print_sweep(points)
        for clients, bar in ((1, 0.4), (4, 0.6)):
            for shards in SHARDS:
                self.speed_row(points, clients, shards, bar if shards == SHARDS[0] else None)
        self.cpu_rows(points)

    def print_sweep(self, points):
        head = ["who", "clients", "ef", "q/s", "recall", "backend's CPU us", "user", "system"]
        lines = [[name, str(clients), str(ef), f"{values[0]:.0f}", f"{values[1]:.4f}", *(f"{v:.0f}" for v in values[2:])]
                 for (name, clients, ef), values in sorted(points.items())]
        print(markdown_table(head, lines), "\n", flush=True)

    def speed_row(self, points, clients, shards, bar):
        """Both at one recall: the one asked for, or that of the narrowest search that is better already."""
        curves = {name: [(ef, values[1], values[0]) for (who, number_of, ef), values in points.items()
                         if (who, number_of) == (name, clients)] for name in (PLAIN, f"{shards} shards")}
        recall = max([self.options.recall, *(min(point for point in curve if point[0] >= NEIGHBOURS)[1]
                                             for curve in curves.values())])
        ours, plain = (speed_at(curves[name], recall) for name in (f"{shards} shards", PLAIN))
        what = f"k-NN, {shards} shards beside a plain table, {clients} client{'s' * (clients > 1)}"
        if ours is None or plain is None:
            self.add(what, "q/s", None, note=f"recall {recall:.4f} is not reached by both: more --efs")
            return
        self.add(what, "q/s", ours.per_second, plain.per_second, ours.per_second / plain.per_second, bar,
                 note=f"recall {recall:.4f}")
        if bar is not None:
            most = statistics.median(values[0] for (who, number_of, _), values in points.items() if (who, number_of) == (EMPTY, clients))
            self.add(f"the same where nothing is searched: {shards} shards without rows", "q/s", most, plain.per_second, most / plain.per_second)

    def cpu_rows(self, points):
        """What an execution costs the coordinator's backend, of any ef: it does not search."""
        costs = {}
        for shards in SHARDS:
            found = [values[2:] for (name, clients, _), values in points.items()
                     if (name, clients) == (f"{shards} shards", 1)]
            costs[shards] = [statistics.median(column) for column in zip(*found)]
        for shards, (both, user, system) in costs.items():
            share = both / ((user + system) or 1)
            self.add(f"prepared k-NN, the coordinator's backend, {shards} shards", "us of CPU", both,
                     note=f"user {user * share:.0f}, system {system * share:.0f}")
        first, last = (costs[shards][0] for shards in SHARDS)
        self.add(f"the same, {SHARDS[1]} shards beside {SHARDS[0]}", "us of CPU", last, first, last / first)

    # ------------------------------------------------------------------ where the CPU time goes

    def perf(self):
        """Profiles the backend of one client's prepared k-NN; every sample is counted for the file it lies in."""
        with self.distributed.connect() as connection:
            connection.execute("set plan_cache_mode = force_generic_plan; set jit = off")
            send = [row[0] for row in connection.cursor(binary=True).execute("select embedding from queries").fetchall()]
            pg, backend = connection.pgconn, connection.info.backend_pid
            oid = connection.execute("select 'vector'::regtype::oid").fetchone()[0]
            connection.execute("create temp table nothing (id bigint, embedding vector(784))")
            tables = {"an empty local table": "nothing"} | {f"{shards} shards": f"items{shards}" for shards in SHARDS}
            for name, table in tables.items():
                statement = f"nearest_in_{table}".encode()
                pg.prepare(statement, NEAREST.format(table, "$1").encode(), [oid])

                def ask():
                    for vector in send:
                        pg.exec_prepared(statement, [vector], param_formats=[1], result_format=1)

                ask()
                self.perf_row(name, backend, ask, len(send))

    def perf_row(self, name, backend, ask, count):
        output = postgres.base_directory() / "perf.data"
        command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "4000", "-o", output, "-p", str(backend)]
        try:
            recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        except FileNotFoundError:
            print("no profile: perf is not installed")
            return
        time.sleep(0.5)  # until it records; what is missed is not counted on either side
        before, rounds = cpu_seconds(backend), 5
        for _ in range(rounds):
            ask()
        used = (cpu_seconds(backend) - before) / (rounds * count) * 1e6
        recorder.send_signal(2)
        recorder.wait()
        report = subprocess.run(["perf", "report", "-i", output, "--sort", "dso", "--stdio", "-q", "-w", "8,60"],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        found = re.findall(r"^\s*([0-9.]+)%\s+(\S+)", report, re.M)
        shares = {name: float(share) for share, name in found}
        ours = sum(share for file, share in shares.items() if file.startswith(("panvel.so", "libpq"))) / 100 * used
        told = ", ".join(f"{file} {share / 100 * used:.1f}" for file, share in shares.items() if share >= 1)
        self.add(f"prepared k-NN, {name}, panvel.so and libpq (perf)", "us of CPU", ours, used, ours,
                 60 if name.startswith(f"{SHARDS[0]} ") else None, True,
                 note=f"beside: all of the backend's; by file: {told}")

    # ------------------------------------------------------------------ LATERAL

    def lateral(self):
        with self.distributed.connect() as connection, self.plain.connect() as plain:
            count = len(self.queries)
            figures = collections.defaultdict(list)
            works = [(name, table, *made) for name, table, session in
                     [(f"{shards} shards", f"items{shards}", connection) for shards in SHARDS] + [(PLAIN, "items", plain)]
                     for made in works_of(session, table, self.queries)]
            for turn in range(self.options.rounds + 1):
                for name, table, form, work in works:
                    start = time.perf_counter()
                    work()
                    if turn > 0:  # the first warms caches
                        figures[name, form].append((time.perf_counter() - start) / count * 1e6)
        medians = {key: statistics.median(values) for key, values in figures.items()}
        for name in dict.fromkeys(name for name, _ in medians):
            joined = medians[name, "lateral"]
            for form, bar in (("text", 3 if name == f"{SHARDS[0]} shards" else None), ("prepared", None), ("in PL/pgSQL", None)):
                self.add(f"LATERAL of {count} queries beside single statements, {form}, {name}", "us a query", joined,
                         medians[name, form], medians[name, form] / joined, bar)


def works_of(connection, table, queries):
    """(form, function) for each way to ask all queries of a table."""
    pg = connection.pgconn
    oid = connection.execute("select 'vector'::regtype::oid").fetchone()[0]
    binary = [row[0] for row in connection.cursor(binary=True).execute("select embedding from queries").fetchall()]
    statement = f"nearest_{table}".encode()
    pg.prepare(statement, NEAREST.format(table, "$1").encode(), [oid])

    def text():
        for vector in queries:
            connection.execute(NEAREST.format(table, f"'{vector}'"), prepare=False).fetchall()

    def prepared():
        for vector in binary:
            pg.exec_prepared(statement, [vector], param_formats=[1], result_format=1)

    def in_plpgsql():
        connection.execute("do $$ declare q record; begin for q in select embedding from queries loop perform "
                           + NEAREST.format(table, "q.embedding").removeprefix("select ") + "; end loop; end $$")

    def lateral():
        connection.execute(LATERAL.format(table)).fetchall()

    return [("text", text), ("prepared", prepared), ("in PL/pgSQL", in_plpgsql), ("lateral", lateral)]


def cpu_seconds(process):
    """What the process has used so far."""
    return int(pathlib.Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def main(words=None):
    options = arguments(words)
    print(f"load average before the run {os.getloadavg()[0]:.2f}")
    bench = Bench(options)
    try:
        bench.run()
    finally:
        bench.remove()


if __name__ == "__main__":
    main()
