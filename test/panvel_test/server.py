"""One PostgreSQL server of a test, and a database on it."""

import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import time

import psycopg

from . import postgres
from .postgres import wait_until

# Small and quick; `fsync` and what a test passes as `conf` come after these and win.
DEFAULTS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
    "max_connections": 100,
    "max_prepared_transactions": 50,
    "max_wal_senders": 10,
    "wal_level": "replica",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%a/%d ",
    "log_checkpoints": "off",
    "jit": "off",
}

# What no test may cause, deliberate kills (signal 9) apart.
CRASH = re.compile(r"terminated by signal (4|6|7|8|11)\b|PANIC: |TRAP: |Sanitizer:")


class Database:
    """A database on a server. Each query(), value(), execute() is a session of its own."""

    def __init__(self, server, name):
        self.server = server
        self.name = name

    def conninfo(self, **options):
        """libpq connection string over TCP; `options` add to it or replace what is there."""
        values = {
            "host": "127.0.0.1",
            "port": self.server.port,
            "user": "postgres",
            "dbname": self.name,
            "connect_timeout": 20,
            **options,
        }
        return psycopg.conninfo.make_conninfo(**values)

    def connect(self, autocommit=True, **options):
        """A psycopg 3 connection; usable as a context manager, which closes it."""
        return psycopg.connect(self.conninfo(**options), autocommit=autocommit)

    def query(self, sql, parameters=None):
        """Rows of one statement as a list of tuples ([] for a statement without rows)."""
        with self.connect() as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def value(self, sql, parameters=None):
        """The single value of a query with one row and one column."""
        ((value,),) = self.query(sql, parameters)
        return value

    def execute(self, sql, parameters=None):
        """Runs a statement, or several as one implicit transaction (without parameters)."""
        with self.connect() as connection:
            connection.execute(sql, parameters)

    def psql(self, script, check=True, arguments=(), **variables):
        """Runs `script` in psql (-XqAt, stops at the first error); a CompletedProcess with text.

        With check=False an error is left to the caller to look at (returncode 3, stderr).
        """
        command = [str(postgres.bindir() / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1"]
        for name, value in variables.items():
            command += ["-v", f"{name}={value}"]
        done = subprocess.run(
            [*command, *arguments, "-d", self.conninfo()],
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"psql: exit status {done.returncode}\n{done.stderr}{done.stdout}")
        return done

    def drop(self):
        """Drops the database with its sessions and prepared transactions."""
        with contextlib.suppress(psycopg.errors.InvalidCatalogName):
            with self.connect() as connection:
                find = "select gid from pg_prepared_xacts where database = current_database()"
                for (gid,) in connection.execute(find).fetchall():
                    with contextlib.suppress(psycopg.errors.UndefinedObject):
                        connection.execute(psycopg.sql.SQL("rollback prepared {}").format(gid))
        self.server.execute(f'drop database if exists "{self.name}" with (force)')


class Server(Database):
    """A PostgreSQL server in a directory of its own; as a Database it is `postgres`.

    The postmaster is our child: its pid is known and waited for. `fsync` is off unless asked
    for, so a test that kills a whole machine's worth of processes says fsync=True.
    """

    running = []  # every server that was started and not yet stopped, in this order

    def __init__(self, name, fsync=False, conf=None):
        super().__init__(self, "postgres")
        self.label = name
        self.directory = postgres.base_directory() / f"{name}-{random.getrandbits(32):08x}"
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.port = None
        self.process = None
        self.environment = {}  # of its processes, beside the test's
        self.conf = {"fsync": "on" if fsync else "off", **(conf or {})}

    # ------------------------------------------------------------------ making
    def initialize(self):
        """Makes the data directory: a copy of a cluster that initdb made."""
        postgres.run(["mkdir", "-p", self.directory])
        postgres.run(["cp", "-a", "--reflink=auto", template_data(self.label), self.data])
        self.configure(**{**DEFAULTS, "unix_socket_directories": self.directory, **self.conf})
        return self

    def configure(self, **settings):
        """Adds settings to postgresql.conf (the last one wins); needs reload() or restart()."""
        with open(self.data / "postgresql.conf", "a") as file:
            for name, value in settings.items():
                quoted = str(value).replace("'", "''")
                file.write(f"{name} = '{quoted}'\n")

    def standby(self, name, conf=None):
        """A started streaming standby, by pg_basebackup; replay is behind by as much as it is."""
        other = Server(name)
        postgres.run(["mkdir", "-p", other.directory])
        postgres.run(
            [postgres.bindir() / "pg_basebackup", "-D", other.data, "-d", self.conninfo()]
            + ["-R", "-X", "stream", "-c", "fast", "--no-sync"]
        )
        other.configure(unix_socket_directories=other.directory, **(conf or {}))
        return other.start()

    def wait_replayed(self, primary):
        """Waits until this standby has replayed all that `primary` has written so far."""
        lsn = primary.value("select pg_current_wal_insert_lsn()")
        reached = "select coalesce(pg_last_wal_replay_lsn() >= %s, false)"
        wait_until(lambda: self.value(reached, [lsn]), 60, f"replay of {lsn}")

    # ------------------------------------------------------------------ running
    def start(self, deadline=60):
        """Starts the server and waits until it accepts connections."""
        assert self.process is None, f"{self.label} runs already"
        for attempt in range(20):
            if self.port is None or attempt > 0:
                self.choose_port()
            if self.try_start(deadline):
                return self
        raise RuntimeError(f"{self.label}: no free port found")

    def choose_port(self):
        # Below the ports the kernel gives to outgoing connections, so that it is still free
        # when the server is restarted.
        while True:
            port = random.randrange(10000, 30000)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    break
        self.port = port
        self.configure(port=port)

    def try_start(self, deadline):
        """False if another program has taken the port; raises if the server does not start."""
        offset = self.log_size()
        # Left behind by a kill; the pid in them may by now be another process of this user.
        for lock in [self.data / "postmaster.pid", *self.directory.glob(".s.PGSQL.*.lock")]:
            lock.unlink(missing_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                postgres.as_server_user([postgres.bindir() / "postgres", "-D", self.data]),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )
        postgres.guard(self.process.pid)
        Server.running.append(self)
        end = time.monotonic() + deadline
        while self.process.poll() is None:
            if self.is_ready():
                return True
            if time.monotonic() > end:
                self.stop("immediate")
                raise RuntimeError(f"{self.label} not ready in {deadline} s\n{self.log_text(offset)}")
            time.sleep(0.01)
        self.gone()
        text = self.log_text(offset)
        if "could not bind" in text or "could not create any TCP/IP sockets" in text:
            return False
        raise RuntimeError(f"{self.label} did not start\n{text}")

    def is_ready(self):
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, mode="fast", deadline=60):
        """Stops the server ('smart', 'fast' or 'immediate'); nothing if it does not run."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.resume()
            number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
            self.process.send_signal(number[mode])
            try:
                self.process.wait(deadline)
            except subprocess.TimeoutExpired:
                self.kill9()
                raise RuntimeError(f"{self.label} did not stop within {deadline} s")
        self.gone()

    def restart(self, mode="fast"):
        self.stop(mode)
        return self.start()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def kill9(self):
        """Kills every process of the server at once, as a machine that loses its power."""
        if self.stop_forking():
            children = self.children()
            for pid in [self.process.pid, *children]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.wait_killed(children)
        self.gone()

    def kill_postmaster(self):
        """Kills the postmaster alone; its children end by themselves when they notice."""
        if self.stop_forking():
            children = self.children()
            self.process.kill()
            self.wait_killed(children)
        self.gone()

    def stop_forking(self):
        """Stops the postmaster, so that children() are all there will be. False if it has ended."""
        if not self.is_running():
            return False
        # The signal is only pending when kill() returns: a fork under way still makes a child.
        self.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: not self.is_running() or state_of(self.process.pid) == "T", 30, "stop")
        return self.is_running()

    def wait_killed(self, children):
        """Until nothing is left of the killed server that would keep it from starting again.

        PostgreSQL refuses to start as long as a process is attached to the old shared memory. The
        end of a process and of its memory are not one event (who reads /proc holds the memory).
        """
        self.process.wait()
        wait_until(lambda: not any(self.is_alive(pid) for pid in children), 60, "end of children")
        wait_until(lambda: self.attached_processes() == 0, 60, "end of the shared memory's users")

    def attached_processes(self):
        """How many processes use the shared memory that postmaster.pid names (its line 7)."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:  # ended by itself
            return 0
        named = lines[6].split() if len(lines) > 6 else []
        if not named:  # killed before it had any
            return 0
        with open("/proc/sysvipc/shm") as segments:
            rows = [row.split() for row in segments]
        users = rows[0].index("nattch")
        return next((int(row[users]) for row in rows[1:] if row[1] == named[1]), 0)

    def pause(self):
        """Stops all processes of the server (SIGSTOP): connections stay open, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)
        for pid in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self):
        for pid in [*self.children(), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def gone(self):
        if self.process is not None:
            self.process.wait()
            postgres.unguard(self.process.pid)
            self.process = None
            Server.running.remove(self)

    def remove(self):
        """Stops the server for good and removes its directory."""
        self.stop("immediate")
        if os.environ.get("PANVEL_KEEP") != "1":
            shutil.rmtree(self.directory, ignore_errors=True)

    # ------------------------------------------------------------------ processes and log
    def children(self):
        """Process ids of the postmaster's children (backends, background processes)."""
        return children_of(self.process.pid)

    @staticmethod
    def is_alive(pid):
        return parent_of(pid) is not None

    def log_size(self):
        return self.log.stat().st_size if self.log.exists() else 0

    def log_text(self, offset=0, limit=20000):
        """The log from byte `offset` on, at most its last `limit` bytes."""
        size = self.log_size()
        if size <= offset:
            return ""
        with open(self.log, "rb") as file:
            file.seek(max(offset, size - limit))
            return file.read().decode(errors="replace")

    def crashes(self, offset=0):
        """Log lines since `offset` that tell of a crash."""
        text = self.log_text(offset, limit=10_000_000)
        return [line for line in text.splitlines() if CRASH.search(line)]

    # ------------------------------------------------------------------ databases
    def database(self, name, template="template0"):
        """Creates a database and returns it."""
        self.execute(f'create database "{name}" template "{template}"')
        return Database(self, name)


def children_of(pid):
    """Process ids of the process's children."""
    entries = pathlib.Path("/proc").iterdir()
    return [int(entry.name) for entry in entries
            if entry.name.isdigit() and parent_of(entry.name) == pid]


def status_of(pid):
    """State ('R', 'S', 'T', 'Z', ...) and parent process id; None if there is no such process."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]
    return state, int(parent)


def state_of(pid):
    status = status_of(pid)
    return status and status[0]


def parent_of(pid):
    """Parent process id, or None if there is no such process or only its zombie."""
    status = status_of(pid)
    return None if status is None or status[0] == "Z" else status[1]


def template_data(label):
    """A data directory to copy; initdb runs once in a session for servers of one label.

    Copies have one system identifier, by which panvel knows a server again: the servers of a
    cluster, whose labels differ, must not share it.
    """
    path = postgres.base_directory() / f"template-{label}"
    if not path.exists():
        initdb = [postgres.bindir() / "initdb", "-D", path, "-U", "postgres", "-A", "trust"]
        postgres.run([*initdb, "--no-sync", "--locale=C", "--encoding=UTF8"])
    return path
