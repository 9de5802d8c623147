"""Random sequences of writes leave a distributed table as they leave a plain one, or are refused.

The seed is printed with a failure; PANVEL_SEED=n runs the same sequence again.
"""

import os
import random

import pytest

from test_writes import Pair
from write_generator import COLUMNS, PARTS, WriteGenerator

STATEMENTS = 600
TABLES = ["events", "parts"]


@pytest.mark.timeout(400)
def test_random_writes(cluster):
    seed = int(os.environ.get("PANVEL_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"seed {seed}")
    pair = Pair(
        cluster,
        COLUMNS,
        PARTS,
        "create table local (n int); insert into local select generate_series(1, 12)",
        "create table kinds (n int, title text); insert into kinds select g, 'kind ' || g from generate_series(0, 9, 2) g",
    ).distribute("events", "id", shard_count=4).distribute("parts", "id", colocate_with="'events'")
    pair.connections["dist"].execute("select panvel.create_reference_table('kinds')")
    generator = WriteGenerator(random.Random(seed))
    refused = failed = 0
    for number in range(STATEMENTS):
        sql = generator.statement()
        explicit = number % 25 == 0
        if explicit:
            pair.same("begin", [])
        plain = pair.outcome("plain", "savepoint s") if explicit else None
        if explicit:
            pair.outcome("dist", "savepoint s")
        outcome = pair.same_or_refused(sql, TABLES)
        refused += outcome == "refused"
        failed += outcome == "error"
        if explicit:
            assert plain[0] == "SAVEPOINT"
            end = generator.one("rollback to s", "release s")
            if outcome == "error" or outcome == "refused":
                end = "rollback to s"
            pair.same(end, TABLES)
            pair.same(generator.one("commit", "rollback"), TABLES)
    print(f"{STATEMENTS} statements, {refused} refused, {failed} errors on both sides")
    assert refused < STATEMENTS / 20 and failed < STATEMENTS / 2
