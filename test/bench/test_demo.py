"""The demo's client does on a cluster what ./panvel demo shows."""

import re
import subprocess

from panvel_test import postgres


def test_demo(make_cluster):
    cluster = make_cluster(workers=3).cluster
    conninfos = [server.conninfo(dbname=None) for server in cluster.servers]
    program = postgres.BUILD / "test/panvel_demo"
    done = subprocess.run(
        [program, postgres.REPOSITORY / "test/bench/data", *conninfos],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    last = "\n".join(done.stdout.splitlines()[-3:])
    found = re.fullmatch(
        r"recall@10 (0\.\d{4}|1\.0000)\n\d+ q/s over 1000 queries\ndigit accuracy (\d+\.\d)%", last
    )
    assert found, done.stdout
    assert float(found[1]) >= 0.95
    assert float(found[2]) >= 90
