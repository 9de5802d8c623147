"""The same SQL on pgvector itself and here gives the same answers, errors and catalog; its dump and its index files."""

import json
import re
import subprocess

import npm
import psycopg
import pytest
from psycopg.pq import DiagnosticField

from panvel_test import postgres
from statements import CATALOG, CLASSES, ROWS_OF_DUMP, batches

PROGRAMS = postgres.REPOSITORY / "test" / "pgvector"
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|Infinity|NaN)", re.IGNORECASE)

# PGlite ends now and then by itself ("memory access out of bounds", "cannot drop active portal"), and takes half a minute.
pytestmark = pytest.mark.soak

# What is different on purpose: the reason.
DIFFERENT = {
    "create index on work.t using hnsw (bn bit_hamming_ops)": "varbit has no dimensions: told so, 22023, as of other columns",
    **{f"<>({kind},{kind})": "pgvector estimates <> by the selectivity of =" for kind in ("vector", "halfvec", "sparsevec")},
    **{f"{method}handler(internal)": "strict: NULL is no argument of it" for method in ("hnsw", "ivfflat")},
}
# pgvector computes it in single precision: NaN or 0 where a norm overflows or underflows, and no rounding in the last digits.
SPARSE_COSINE = re.compile(r"cosine_distance\(.*sparsevec|sparsevec <=>")


class Reference:
    """What pgvector answered, once for all tests of this file."""

    def __init__(self, directory):
        program = npm.install(directory / "programs", PROGRAMS)
        self.data, dump = directory / "data", directory / "dump.sql"
        done = subprocess.run(["node", program / "reference.mjs", self.data, dump], input=json.dumps([list(batch.values()) for batch in batches()]),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        self.answers = {}
        for batch, answers in zip(batches(), json.loads(done.stdout)):
            self.answers |= zip(batch, answers)
        self.dump = dump.read_text()
        failed = {name: reply["error"] for name, reply in self.answers.items() if reply.get("error", ["SQLSTATE"])[0] is None}
        assert not failed, "pgvector itself ended"

    def rows(self, name):
        assert "error" not in self.answers[name], (name, self.answers[name])
        return self.answers[name]["rows"]


@pytest.fixture(scope="module")
def pgvector(tmp_path_factory):
    try:
        return Reference(tmp_path_factory.mktemp("pgvector"))
    except npm.Unavailable as reason:
        pytest.skip(f"no pgvector: {reason}")


@pytest.fixture(scope="module")
def ours(shared_server):
    """What we answer, likewise."""
    answers = {}
    for number, batch in enumerate(batches()):
        database = shared_server.database(f"same_as_pgvector_{number}")
        with database.connect() as connection:
            answers |= {name: answer(connection, sql) for name, sql in batch.items()}
        database.drop()
    return answers


def answer(connection, sql):
    """As reference.mjs gives it."""
    notices = []

    def add(notice):
        notices.append(notice.message_primary)

    connection.add_notice_handler(add)
    result = connection.pgconn.exec_(sql.encode())
    connection.remove_notice_handler(add)
    if result.error_message:
        fields = (DiagnosticField.SQLSTATE, DiagnosticField.MESSAGE_PRIMARY, DiagnosticField.MESSAGE_HINT)
        return {"error": [decoded(result.error_field(field)) for field in fields]}
    rows = [[decoded(result.get_value(i, j)) for j in range(result.nfields)] for i in range(result.ntuples)]
    return {"rows": rows, "notices": notices}


def decoded(value):
    return None if value is None else value.decode()


def same_text(a, b):
    """Numbers within the last digits of a float, all else character by character."""
    if a == b:
        return True
    if NUMBER.split(a) != NUMBER.split(b):
        return False
    pairs = zip(NUMBER.findall(a), NUMBER.findall(b))
    return all(float(x) == pytest.approx(float(y), rel=3e-6, abs=1e-44, nan_ok=True) for x, y in pairs)


VALUES = ["calls 1", "calls 2", "calls 3", "operators", "casts", "input vector", "input halfvec", "input sparsevec",
          "modifiers", "output"]


@pytest.mark.timeout(900)  # the first runs pgvector, which takes half a minute of CPU time
@pytest.mark.parametrize("step", VALUES)
def test_values_and_errors(pgvector, ours, step):
    wanted, found = (json.loads(rows[0][0]) for rows in (pgvector.rows(step), ours[step]["rows"]))
    assert len(wanted) > 10
    differences = {sql: (answer, found.get(sql)) for sql, answer in wanted.items()
                   if not SPARSE_COSINE.search(sql) and not same_text(answer, found.get(sql, "missing"))}
    assert differences == {}


@pytest.mark.parametrize("group", ["aggregates", "states", "indexes", "settings", *(f"index {' '.join(names)}" for names in CLASSES)])
def test_statements(pgvector, ours, group):
    """Their rows, or SQLSTATE, message and hint."""
    names = [name for name in batches()[0] if name.startswith(group + ": ")]
    assert len(names) > 9
    differences = {}
    for name in names:
        wanted, found = (answers[name].get("error") or answers[name]["rows"] for answers in (pgvector.answers, ours))
        if "error" in pgvector.answers[name] and "error" in ours[name] and wanted[2] is None:
            found = [*found[:2], None]  # a hint more does no harm
        if name.partition(": ")[2] not in DIFFERENT and wanted != found:
            differences[name] = (wanted, found)
    assert differences == {}


@pytest.mark.parametrize("catalog", CATALOG)
def test_catalog(pgvector, ours, catalog):
    """What pgvector has is here, declared alike; what is here besides, docs/reference-objects.md lists."""
    wanted, found = ({tuple(row) for row in rows} for rows in (pgvector.rows(f"catalog {catalog}"), ours[f"catalog {catalog}"]["rows"]))
    assert len(wanted) > 1
    assert {row for row in wanted - found if row[0] not in DIFFERENT} == set()


def test_the_notice_on_little_data(pgvector, ours):
    assert ours["little data"]["notices"] == pgvector.answers["little data"]["notices"] != []


def restored(db, dump):
    """As a user does, who also leaves out what the newer pg_dump sets and PostgreSQL 15 does not know."""
    db.execute("drop extension vector")
    db.psql("\n".join(line for line in dump.splitlines() if not line.startswith("SET transaction_timeout")))


def test_its_dump_restores(pgvector, db):
    assert pgvector.dump.count("CREATE INDEX") == 27 and "CREATE EXTENSION IF NOT EXISTS vector" in pgvector.dump
    restored(db, pgvector.dump)
    assert db.value(ROWS_OF_DUMP) == pgvector.rows("rows")[0][0]
    assert db.value("select count(*) from pg_indexes where schemaname = 'public'") == pgvector.dump.count("CREATE INDEX") + 2
    indexes = db.query("select a.amname, c.oid from pg_class c join pg_am a on a.oid = c.relam and c.relkind = 'i'"
                       " where a.amname in ('hnsw', 'ivfflat')")
    assert len(indexes) > 20
    for method, index in indexes:
        assert db.query(f"select * from {method}_index_check(%s)", [index]) == []
    assert db.value("select count(*) from pairs where distance < 0.01") == 5
    assert db.value("select nearest('[7,0,-0.9]')") == 8
    assert db.query("select part, avg::text from centres order by 1") == db.query(
        "select id % 3, avg(embedding)::text from items group by 1 order by 1")


@pytest.mark.parametrize("method", ["hnsw", "ivfflat"])
def test_its_index_files_are_refused_until_reindex(pgvector, make_server, method):
    """As when the library is replaced under a running installation: table files are taken over, index files are not."""
    server = make_server()
    server.execute("create extension vector")
    server.execute("create table items (embedding vector(3))")
    server.execute("insert into items values ('[1,2,3]'), ('[4,5,6]')")
    server.execute(f"create index items_{method} on items using {method} (embedding vector_l2_ops)")
    path = server.data / server.value(f"select pg_relation_filepath('items_{method}')")
    server.stop()
    theirs = pgvector.rows("files")[0][["hnsw", "ivfflat"].index(method)]
    path.write_bytes((pgvector.data / theirs).read_bytes())
    server.start()
    for statement in ("select from items order by embedding <-> '[1,2,3]'", "insert into items values ('[7,8,9]')",
                      "delete from items; vacuum items", f"select * from {method}_index_check('items_{method}')",
                      f"select * from {method}_index_info('items_{method}')"):
        with pytest.raises(psycopg.Error) as caught, server.connect() as connection:
            connection.execute("set enable_seqscan = off")
            for part in statement.split("; "):
                connection.execute(part)
        assert (caught.value.sqlstate, caught.value.diag.message_primary) == (
            "0A000", f'index "items_{method}" was written by pgvector'), statement
        assert caught.value.diag.message_hint == f"REINDEX INDEX items_{method} builds it anew."
    server.execute(f"reindex index items_{method}")
    server.execute("insert into items values ('[7,8,9]')")
    assert server.query(f"select * from {method}_index_check('items_{method}')") == []
