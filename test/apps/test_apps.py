"""Apps written for pgvector, run on one server and through the coordinator. See README.md."""

import json
import os
import pathlib
import subprocess

import npm
import pytest
from expected import data, expected

HERE = pathlib.Path(__file__).parent


def url(database):
    return f"postgres://postgres@127.0.0.1:{database.server.port}/{database.name}"


def run_app(command, database, directory, distributed):
    """The program's report: {step: result}."""
    file = directory / "data.json"
    file.write_text(json.dumps(data()))
    environment = {**os.environ, "DATABASE_URL": url(database), "APP_DATA": str(file)}
    if distributed:
        environment["DISTRIBUTE"] = "1"
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))


def rounded(value):
    """float4 storage and each driver's reading of it are equal to six digits."""
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 5) if isinstance(value, float) else value


def check(report):
    wanted = expected(data())
    assert list(report) == list(wanted)
    for step, result in report.items():
        assert rounded(result) == rounded(wanted[step]), step


INDEXES = "select indexdef from pg_indexes where tablename = 'items' and indexdef ~ 'USING hnsw'"


def check_distributed(cluster):
    assert cluster.value("select count(*) from panvel.tables where relation = 'items'::regclass") == 1
    assert len(cluster.query(INDEXES)) == 1
    assert sum(len(worker.query(INDEXES)) for worker in cluster.workers) == 8


def run_twice(command, db, cluster, directory):
    single = run_app(command, db, directory, False)
    check(single)
    assert len(db.query(INDEXES)) == 1
    distributed = run_app(command, cluster, directory, True)
    check(distributed)
    check_distributed(cluster)


@pytest.fixture(scope="module")
def node_programs(tmp_path_factory):
    try:
        return npm.install(tmp_path_factory.mktemp("apps") / "node")
    except npm.Unavailable as reason:
        pytest.skip(f"no npm packages: {reason}")


@pytest.mark.parametrize("program", ["sqlalchemy_app.py", "django_app.py"])
def test_python(db, cluster, tmp_path, program):
    run_twice(["/usr/bin/python3", "-B", HERE / program], db, cluster, tmp_path)


@pytest.mark.timeout(900)  # the first installs the packages
@pytest.mark.parametrize("program", ["sequelize.mjs", "drizzle.mjs", "knex.mjs", "typeorm.mjs", "objection.mjs",
                                     "mikro-orm.mjs", "prisma.mjs"])
def test_node(node_programs, db, cluster, tmp_path, program):
    run_twice(["node", node_programs / program], db, cluster, tmp_path)


@pytest.mark.parametrize("program", ["sequel_app.rb", "active_record_app.rb"])
def test_ruby(db, cluster, tmp_path, program):
    run_twice(["/usr/bin/ruby", HERE / program], db, cluster, tmp_path)


# ---------------------------------------------------------------------- the RAG example
CORPUS = {
    "garden.md": "# Roses\n\nPrune roses in early spring, above a bud that looks outward.\n\n# Watering\n\n"
                 "Water tomatoes in the morning, never their leaves: wet leaves get blight within days of warm weather.",
    "kitchen.md": "# Bread\n\nKnead the dough for ten minutes and let it rise overnight in the refrigerator.\n\n"
                  "# Tomatoes\n\nPeel tomatoes after half a minute in boiling water, then cook them slowly with garlic.",
    "workshop.md": "# Glue\n\nHide glue wants warm wood, and clamps that stay on for a whole night.",
}


def rag(database, directory, *arguments, distributed):
    environment = {**os.environ, "DATABASE_URL": url(database)}
    if distributed:
        environment["DISTRIBUTE"] = "1"
    done = subprocess.run(["/usr/bin/python3", "-B", HERE / "rag" / "rag.py", *arguments], cwd=directory, env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rag(db, cluster, tmp_path):
    for name, text in CORPUS.items():
        (tmp_path / name).write_text(text)

    def run(database, distributed):
        def ask(*arguments):
            return rag(database, tmp_path, *arguments, distributed=distributed)
        loaded = ask("load", ".")
        assert ask("load", ".") == loaded  # again: replaced
        answers = [ask("ask", question, "--top", "1", *more) for question, *more in [
            ("When do leaves get blight?",), ("When should I water my tomatoes?", "--file", "kitchen%"),
            ("How long do clamps stay on the glue?",)]]
        return [loaded, *answers, ask("forget", "garden.md"), ask("ask", "When should I water my tomatoes?", "--top", "1")]

    single = run(db, False)
    assert single[0] == "garden.md: 2 chunks\nkitchen.md: 2 chunks\nworkshop.md: 1 chunks\n"
    assert [answer.split(" (")[0] for answer in single[1:4]] == [
        "--- garden.md: Watering", "--- kitchen.md: Tomatoes", "--- workshop.md: Glue"]
    assert single[4] == "2 chunks forgotten\n" and "garden" not in single[5]
    assert run(cluster, True) == single
    assert cluster.query("select relation::text, distribution_column from panvel.tables") == [("chunks", "file")]
