"""Vector Index Scan against the executor's own distances, and in sessions beside each other."""

import random
import threading

import psycopg
import pytest

from panvel_test import wait_until

DIM = 70  # with codes


def vector(generator):
    return "[" + ",".join(f"{generator.uniform(-1, 1):.4f}" for _ in range(DIM)) + "]"


def make_items(db, rows):
    generator = random.Random(1)
    db.execute(f"create table items (id int primary key, kind int, note text, embedding vector({DIM}))")
    with db.connect() as connection, connection.cursor() as cursor:
        with cursor.copy("copy items from stdin") as copy:
            for i in range(rows):
                copy.write_row((i, i % 7, "x" * (i % 50), vector(generator)))
    for name in ("l2", "ip", "cosine", "l1"):
        db.execute(f"create index items_{name} on items using hnsw (embedding vector_{name}_ops)")
    db.execute("analyze items")


def plan(connection, sql, parameters=None):
    return "\n".join(row[0] for row in connection.execute("explain " + sql, parameters))


def test_first_query_of_a_session_is_served(db):
    make_items(db, 300)
    with db.connect() as connection:
        text = plan(connection, "select id from items order by embedding <-> "
                                "(select embedding from items where id = 1) limit 5")
        assert "Vector Index Scan" in text and "Index: items_l2" in text


FILTERS = ["true", "kind = 3", "kind in (1, 2) and length(note) > 10", "note like 'xx%%'", "id < 0",
           "(embedding {op} %(q)s) < {bound}", "not (embedding {op} %(q)s) < {bound} or kind = 2"]
TARGETS = ["id", "id, embedding {op} %(q)s as d", "id, note, 2 * (%(q)s {op} embedding) + kind as d", "id, kind, embedding"]


def random_query(generator):
    operator = generator.choice(["<->", "<#>", "<=>", "<+>"])
    bound = {"<->": 7.0, "<#>": 0.0, "<=>": 1.0, "<+>": 50.0}[operator]
    condition = generator.choice(FILTERS).format(op=operator, bound=bound)
    targets = generator.choice(TARGETS).format(op=operator)
    limit = generator.choice(["", f"limit {generator.randrange(1, 60)}",
                              f"limit 7 offset {generator.randrange(1, 30)}"])
    inner = f"select {targets} from items where {condition} order by embedding {operator} %(q)s {limit}"
    return generator.choice([
        inner,
        f"with s as materialized ({inner}) select * from s",
        f"select s.* from ({inner}) s join items i on i.id = s.id where i.kind <> 6",
    ])


def close(a, b):
    if isinstance(a, float):
        return abs(a - b) <= 1e-6 * max(1, abs(a))
    return a == b


def same(some, others, ordered):
    if not ordered:
        some, others = sorted(some), sorted(others)  # by id
    return len(some) == len(others) and all(
        close(a, b) for row, other in zip(some, others) for a, b in zip(row, other))


def test_random_queries_answer_as_without(db):
    """On against off with the same index; on against a sequential scan, where ef takes it all."""
    make_items(db, 400)
    generator = random.Random(7)
    served = 0
    with db.connect() as connection:
        connection.execute("set hnsw.ef_search = 1000")
        for number in range(300):
            sql = random_query(generator).replace("%(q)s", "%(q)s::vector")
            query = vector(generator)
            answers = {}
            for name, settings in (("on", ("on", "off", "on")), ("off", ("off", "off", "on")),
                                   ("exact", ("off", "on", "off"))):
                distance_scan, seqscan, indexscan = settings
                connection.execute(f"set vector.distance_scan = {distance_scan}")
                connection.execute(f"set enable_seqscan = {seqscan}")
                connection.execute(f"set enable_indexscan = {indexscan}")
                if name == "on":
                    served += "Vector Index Scan" in plan(connection, sql, {"q": query})
                answers[name] = connection.execute(sql, {"q": query}).fetchall()
            for name in ("off", "exact"):
                # Equal distances may come in another order from the table.
                ordered = "join" not in sql and name == "off"
                assert same(answers["on"], answers[name], ordered), (sql, name)
    assert served > 200  # where not, the filter has a better index


def test_row_that_changes_meanwhile(db):
    """A subquery is run again for the row's new version (EvalPlanQual)."""
    make_items(db, 300)
    db.execute(f"create table asked (id int, embedding vector({DIM}), answer int)")
    db.execute("insert into asked select 1, embedding, -1 from items where id = 10")
    with db.connect() as first, db.connect() as second:
        first.execute("begin")
        first.execute("update asked set embedding = (select embedding from items where id = 20)")
        second.execute("set enable_seqscan = off")
        sql = ("update asked set answer = (select id from items order by items.embedding <-> "
               "asked.embedding limit 1)")
        assert "Vector Index Scan" in plan(second, sql)
        thread = threading.Thread(target=second.execute, args=[sql])
        thread.start()
        wait_until(lambda: db.query("select 1 from pg_stat_activity where wait_event_type = 'Lock'"))
        first.execute("commit")
        thread.join()
    assert db.value("select answer from asked") == 20


def test_index_scans_are_counted(db):
    make_items(db, 300)
    with db.connect() as connection:
        connection.execute("set enable_seqscan = off")
        for _ in range(5):
            connection.execute("select id from items order by embedding <-> %s::vector limit 3",
                               [vector(random.Random(2))])
    wait_until(lambda: db.query("select idx_scan, idx_tup_fetch from pg_stat_user_indexes"
                                " where indexrelname = 'items_l2'") == [(5, 15)])


@pytest.mark.parametrize("iterative", ["off", "relaxed_order"])
def test_rescans_free_their_memory(db, iterative):
    make_items(db, 500)
    with db.connect() as connection:
        connection.execute("set enable_seqscan = off")
        connection.execute(f"set hnsw.iterative_scan = {iterative}")
        connection.execute("set work_mem = '64MB'")
        connection.execute("begin")
        connection.execute(
            "declare c no scroll cursor for select s.* from generate_series(1, 20), items q, lateral"
            " (select i.id, i.embedding <-> q.embedding from items i where i.kind <> q.kind"
            "  order by i.embedding <-> q.embedding limit 3) s"
        )
        used = []
        for _ in range(10):
            assert len(connection.execute("fetch 2500 from c").fetchall()) == 2500
            used.append(connection.execute(
                "select sum(total_bytes)::int from pg_backend_memory_contexts").fetchone()[0])
        # The first few fill caches.
        assert used[-1] <= used[2] + 20_000, used
