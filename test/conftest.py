"""The test runner: what is collected, the fixtures, and how servers end. See test/README.md."""

import psycopg
import pytest

from panvel_test import Cluster, Server, collect, postgres
from panvel_test.alarm import Alarm

DEFAULT_TIMEOUT = 300


# ---------------------------------------------------------------------- collection
def pytest_collect_file(file_path, parent):
    folder = file_path.relative_to(postgres.REPOSITORY / "test").parts[0]
    if folder == "unit" and file_path.name.endswith("_test.cpp"):
        return collect.GoogleTestFile.from_parent(parent, path=file_path)
    if folder == "sql" and file_path.suffix == ".sql":
        return collect.TapFile.from_parent(parent, path=file_path, fixture="tap_database")
    if folder == "cluster" and file_path.suffix == ".sql":
        return collect.TapFile.from_parent(parent, path=file_path, fixture="tap_cluster")
    return None


def pytest_collection_modifyitems(config, items):
    if config.getoption("-m"):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in soak]


# ---------------------------------------------------------------------- ending
alarm = Alarm()


def pytest_configure(config):
    alarm.install()


def pytest_unconfigure(config):
    for server in list(Server.running):
        server.stop("immediate")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """A test that hangs fails instead: `timeout(seconds)` marks one that needs longer."""
    marker = item.get_closest_marker("timeout")
    item.log_offsets = {server: server.log_size() for server in Server.running}
    alarm.set(marker.args[0] if marker else DEFAULT_TIMEOUT)
    try:
        yield
    finally:
        alarm.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows with a failure what the servers wrote to their logs during the test."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for server in Server.running:
        text = server.log_text(item.log_offsets.get(server, 0))
        if text:
            report.sections.append((f"log of {server.label} ({server.log})", text))


# ---------------------------------------------------------------------- fixtures
@pytest.fixture(scope="session")
def shared_server():
    server = Server("server").initialize().start()
    template = server.database("vector_template")
    template.execute("create extension vector")
    template = server.database("tap_template", "vector_template")
    template.execute("create extension pgtap")
    yield server
    server.remove()


@pytest.fixture(scope="session")
def shared_cluster():
    cluster = Cluster(workers=3)
    try:
        yield cluster.start().make_template()
    finally:
        cluster.remove()


@pytest.fixture(scope="session")
def database_names():
    """A name for each fresh database: t1, t2, ..."""
    return (f"t{i}" for i in range(1, 1_000_000))


def fresh(create, servers):
    """Yields a fresh database; afterwards drops it and fails if a server crashed meanwhile."""
    for server in servers:
        if not server.is_running():  # an earlier test left it so, and has failed for that
            server.gone()
            server.start()
    offsets = {server: server.log_size() for server in servers}
    database = create()
    yield database
    ended = [server.label for server in servers if not server.is_running()]
    assert not ended, f"shared servers no longer run: {ended}"
    crashes = [line for server in servers for line in server.crashes(offsets[server])]
    assert not crashes, crashes
    database.drop()


@pytest.fixture
def db(shared_server, database_names):
    """A fresh database with extension vector on the shared server."""
    name = next(database_names)
    yield from fresh(lambda: shared_server.database(name, "vector_template"), [shared_server])


@pytest.fixture
def tap_database(shared_server, database_names):
    """As db, with pgtap."""
    name = next(database_names)
    yield from fresh(lambda: shared_server.database(name, "tap_template"), [shared_server])


@pytest.fixture
def cluster(shared_cluster, database_names):
    """A fresh database on the shared cluster: coordinator, three workers added as w1, w2, w3."""
    name = next(database_names)
    yield from fresh(lambda: shared_cluster.database(name), shared_cluster.servers)


@pytest.fixture
def tap_cluster(cluster):
    """As cluster, with pgtap on the coordinator."""
    cluster.execute("create extension pgtap")
    return cluster


@pytest.fixture
def make_server():
    """Function that starts a private server: make_server(name, fsync=, conf={})."""
    servers = []

    def make(name="private", fsync=False, conf=None):
        servers.append(Server(name, fsync, conf))
        return servers[-1].initialize().start()

    yield make
    remove_private(servers)


@pytest.fixture
def make_cluster():
    """Function that starts a private cluster and returns its database `private`.

    make_cluster(workers=2, fsync=, conf={}, coordinator_conf={}, worker_conf={})
    """
    clusters = []

    def make(workers=2, **options):
        clusters.append(Cluster(workers, **options))
        return clusters[-1].start().database("private")

    yield make
    remove_private([server for cluster in clusters for server in cluster.servers])


def remove_private(servers):
    crashes = [line for server in servers for line in server.crashes()]
    for server in servers:
        server.remove()
    assert not crashes, crashes


@pytest.fixture
def error_of():
    """error_of(run, sql) runs `sql` by run(sql) and returns the psycopg error it raised."""

    def catch(run, sql, *arguments):
        with pytest.raises(psycopg.Error) as caught:
            run(sql, *arguments)
        return caught.value

    return catch
