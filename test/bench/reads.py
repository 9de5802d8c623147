"""k-NN through the coordinator: what it costs, and LATERAL queries beside single ones.

    python3 test/bench/reads.py [--rounds 3] [--queries 1000]

MNIST's 10,000 test images (data/), L2, hnsw, 4 and 32 shards on 2 workers, LIMIT 10, one client. CPU time is
that of the client's backend on the coordinator (/proc/PID/schedstat). Servers of its own.
"""

import argparse
import gzip
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from panvel_test import Cluster  # noqa: E402

IMAGES = pathlib.Path(__file__).resolve().parent / "data" / "t10k-images-idx3-ubyte.gz"
NEAREST = "select id from {0} order by e <-> $1 limit 10"
LATERAL = "select q.id, n.id from queries q, lateral (select i.id from {0} i order by i.e <-> q.e limit 10) n"


def images():
    data = gzip.decompress(IMAGES.read_bytes())[16:]
    return ["[" + ",".join(map(str, data[i : i + 784])) + "]" for i in range(0, len(data), 784)]


def cpu_seconds(connection):
    """The backend's CPU time so far."""
    return int(pathlib.Path(f"/proc/{connection.info.backend_pid}/schedstat").read_text().split()[0]) / 1e9


def measured(connection, work):
    """(wall seconds, the backend's CPU seconds) of work()."""
    cpu, wall = cpu_seconds(connection), time.perf_counter()
    work()
    return time.perf_counter() - wall, cpu_seconds(connection) - cpu


def load(database, vectors, queries):
    for shards in (4, 32):
        database.execute(f"create table items{shards} (id int primary key, e vector(784))")
        database.execute(f"select panvel.create_distributed_table('items{shards}', 'id', {shards})")
        with database.connect() as connection, connection.cursor() as cursor:
            with cursor.copy(f"copy items{shards} from stdin") as copy:
                for number, vector in enumerate(vectors):
                    copy.write(f"{number}\t{vector}\n")
        database.execute(f"create index on items{shards} using hnsw (e vector_l2_ops)")
        database.execute(f"vacuum analyze items{shards}")
    database.execute("create table queries (id int, e vector(784))")
    with database.connect() as connection, connection.cursor() as cursor:
        with cursor.copy("copy queries from stdin") as copy:
            for number, vector in enumerate(queries):
                copy.write(f"{number}\t{vector}\n")
    database.execute("analyze queries")


def run(database, queries, rounds):
    with database.connect() as connection:
        def single(table):
            for vector in queries:
                connection.execute(NEAREST.format(table).replace("$1", f"'{vector}'"), prepare=False)

        def executed(table):  # the vector is the coordinator's already: what a search itself costs
            connection.execute(f"do $$ declare q record; begin for q in select e from queries loop "
                               f"perform id from {table} order by e <-> q.e limit 10; end loop; end $$")

        def lateral(table):
            connection.execute(LATERAL.format(table)).fetchall()

        results = {}
        for turn in range(rounds + 1):
            for table in ("items4", "items32"):
                for work in (single, executed, lateral):
                    figures = measured(connection, lambda: work(table))
                    if turn > 0:  # the first warms caches
                        results.setdefault((table, work.__name__), []).append(figures)
    count = len(queries)
    print(f"{'':30} {'us/query':>9} {'CPU us':>7}")
    medians = {}
    for (table, name), figures in results.items():
        wall, cpu = (statistics.median(values) / count * 1e6 for values in zip(*figures))
        medians[table, name] = wall
        print(f"{table:10} {name:19} {wall:9.0f} {cpu:7.0f}")
    for table in ("items4", "items32"):
        print(f"{table}: LATERAL is {medians[table, 'single'] / medians[table, 'lateral']:.1f} x single statements, "
              f"{medians[table, 'executed'] / medians[table, 'lateral']:.1f} x the same in PL/pgSQL")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=1000)
    arguments = parser.parse_args()
    vectors = images()
    cluster = Cluster(workers=2).start()
    try:
        database = cluster.database("bench")
        load(database, vectors[arguments.queries :], vectors[: arguments.queries])
        run(database, vectors[: arguments.queries], arguments.rounds)
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
