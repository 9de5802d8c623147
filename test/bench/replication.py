"""Single-row inserts into a table with replication factor 2, beside the same with factor 1.

    python3 test/bench/replication.py [--seconds 5] [--rounds 3] [--clients 8]

Servers of its own (three workers), fsync on; both in turn each round. Printed are medians of the rates and
of the rounds' ratios. Bar: 0.25 at 8 clients.
"""

import argparse
import pathlib
import re
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from panvel_test import Cluster, postgres  # noqa: E402



def rate(db, table, arguments):
    path = postgres.base_directory() / "script.sql"
    path.write_text(f"\\set id random(1, 9000000000000000)\ninsert into {table} values (:id, 'row');\n")
    options = ["-n", "-M", "prepared", "-T", arguments.seconds, "-c", arguments.clients, "-j", 2]
    server = ["-h", "127.0.0.1", "-p", db.server.port, "-U", "postgres", db.name]
    done = postgres.run([postgres.bindir() / "pgbench", *options, "-f", path, *server])
    return float(re.search(r"tps = ([0-9.]+)", done.stdout).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    cluster = Cluster(workers=3, fsync=True).start()
    try:
        db = cluster.database("bench")
        for factor in (1, 2):
            db.execute(f"create table items{factor} (id bigint primary key, v text)")
            db.execute(f"select panvel.create_distributed_table('items{factor}', 'id', 6, {factor})")
        rounds = [[rate(db, f"items{factor}", arguments) for factor in (1, 2)] for _ in range(arguments.rounds)]
        ratio = statistics.median(two / one for one, two in rounds)
        medians = [statistics.median(column) for column in zip(*rounds)]
        print(f"factor 1 {medians[0]:.0f}/s, factor 2 {medians[1]:.0f}/s, ratio {ratio:.2f}")
    finally:
        cluster.remove()


main()
