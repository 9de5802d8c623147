"""Connections to nodes over TLS, with passwords from a passfile: panvel.node_conninfo."""

import pytest

from panvel_test import postgres, wait_until


def run(*command):
    postgres.run(list(command))


def self_signed(name):
    """A key and a certificate for 127.0.0.1, which the server user owns."""
    directory = postgres.base_directory() / f"tls-{name}"
    run("mkdir", "-p", directory)
    run(
        *("openssl", "req", "-new", "-x509", "-days", "2", "-nodes", "-newkey", "rsa:2048"),
        *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", directory / "key.pem", "-out", directory / "cert.pem"),
    )
    return directory


def write_as_server_user(path, text, mode):
    run("touch", path)
    run("chmod", mode, path)
    path.write_text(text)


@pytest.fixture
def tls(make_cluster):
    """A cluster whose workers take TLS and passwords only, once their pg_hba.conf is reloaded."""
    directory = self_signed("worker")
    conf = {"ssl": "on", "ssl_cert_file": directory / "cert.pem", "ssl_key_file": directory / "key.pem"}
    db = make_cluster(workers=2, worker_conf=conf)
    db.tls = directory
    return db


def set_conninfo(db, value):
    db.server.configure(**{"panvel.node_conninfo": value})
    db.server.reload()
    wait_until(lambda: db.value("show panvel.node_conninfo") == value, 10)


ENCRYPTED = (
    "select remote.ok and remote.result = 'true' from panvel.run_on_nodes("
    "'select ssl::text from pg_stat_ssl where pid = pg_backend_pid()') remote"
)


def test_tls_and_passfile(tls, error_of):
    db = tls
    for worker in db.workers:
        worker.execute("set password_encryption = 'scram-sha-256'; alter role postgres password 'open sesame'")
        hba = "hostssl all all 127.0.0.1/32 scram-sha-256\nlocal all all trust\n"
        (worker.server.data / "pg_hba.conf").write_text(hba)
        worker.server.reload()
    passfile = db.tls / "passfile"
    write_as_server_user(passfile, "127.0.0.1:*:*:postgres:open sesame\n", "600")

    # Without a password: an error that says so, and the server counts as up.
    assert error_of(db.execute, "create table t (id int); select panvel.create_distributed_table('t', 'id')").sqlstate == "08001"
    assert db.query("select ok from panvel.run_on_nodes('select 1')") == [(False,), (False,)]
    wait_until(lambda: db.query("select status from panvel.nodes") == [("up",), ("up",)], 10)

    set_conninfo(db, f"sslmode=verify-full sslrootcert={db.tls}/cert.pem passfile={passfile}")
    assert db.query(ENCRYPTED) == [(True,), (True,)]
    db.execute("create table t (id int primary key, v text)")
    db.execute("select panvel.create_distributed_table('t', 'id')")
    # Much data in both directions, and a cancel.
    db.execute("insert into t select i, repeat(md5(i::text), 20) from generate_series(1, 20000) i")
    assert db.value("select sum(length(v)) from t") == 20000 * 640
    assert len(db.query("select * from t")) == 20000
    with db.connect() as session:
        session.execute("set statement_timeout = '300ms'")
        assert error_of(session.execute, "select count(*) from t a where pg_sleep(0.1) is not null").sqlstate == "57014"
        session.execute("reset statement_timeout")
        assert session.execute("select count(*) from t").fetchone() == (20000,)

    # Another root: nobody is talked to.
    other = self_signed("other")
    set_conninfo(db, f"sslmode=verify-full sslrootcert={other}/cert.pem passfile={passfile}")
    error = error_of(db.execute, "select count(*) from t")
    assert error.sqlstate == "08001" and "certificate verify failed" in error.diag.message_detail


def test_what_the_setting_refuses(make_server, error_of):
    server = make_server(conf={"shared_preload_libraries": "panvel"})
    for value, why in [("password=x", "password"), ("host=elsewhere", "host"), ("sslmode", "missing"), ("nonsense=1", "nonsense")]:
        error = error_of(server.execute, f"alter system set panvel.node_conninfo = '{value}'")
        assert error.sqlstate == "22023" and why in error.diag.message_detail, value
    server.execute("create role guest login")
    with server.connect(user="guest") as guest:
        assert error_of(guest.execute, "show panvel.node_conninfo").sqlstate == "42501"
