"""The PostgreSQL under test, the user its servers run as, and the session's temporary directory.

PG_CONFIG chooses the PostgreSQL. PostgreSQL refuses to run as root, so root runs every server
program as user postgres by way of setpriv. Everything lives in one temporary directory outside
the repository (which that user may not be able to read); `guardian.py` ends our servers and
removes the directory should this process be killed.
"""

import atexit
import functools
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile
import time

SERVER_USER = os.environ.get("PANVEL_SERVER_USER", "postgres")
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("PANVEL_BUILD", REPOSITORY / "build"))

# The developer's own PGHOST, PGDATABASE and the like must not lead a test to another server.
for variable in [v for v in os.environ if v.startswith("PG") and v != "PG_CONFIG"]:
    del os.environ[variable]


@functools.lru_cache(maxsize=None)
def bindir():
    """Directory of postgres, initdb, psql: what PG_CONFIG (default: pg_config on PATH) says."""
    program = os.environ.get("PG_CONFIG", "pg_config")
    out = subprocess.run([program, "--bindir"], check=True, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(out.stdout.strip())


def as_server_user(command):
    """`command` as the user that servers run as: itself, or under setpriv if we are root."""
    command = [str(word) for word in command]
    if os.geteuid() != 0:
        return command
    user = pwd.getpwnam(SERVER_USER)
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups"]
    # libpq in a server looks for certificates and passwords under HOME.
    return ["setpriv", *ids, "--", "env", f"HOME={user.pw_dir}", *command]


def run(command, check=True, **options):
    """Runs a server program (initdb, pg_basebackup, cp) as the server user, its output captured."""
    done = subprocess.run(
        as_server_user(command),
        cwd=base_directory(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    if check and done.returncode != 0:
        words = " ".join(str(word) for word in command)
        raise RuntimeError(f"{words}: exit status {done.returncode}\n{done.stdout}")
    return done


@functools.lru_cache(maxsize=None)
def base_directory():
    """The session's own directory, made at first use and removed at the end.

    PANVEL_KEEP=1 leaves it there. A Unix socket's path must stay below 108 characters.
    """
    parent = os.environ.get("TMPDIR", "/tmp")
    reachable = subprocess.run(as_server_user(["test", "-x", parent])).returncode == 0
    if len(parent) > 60 or not reachable:
        parent = "/tmp"
    base = pathlib.Path(tempfile.mkdtemp(prefix="panvel-test-", dir=parent))
    base.chmod(0o755)
    if os.geteuid() == 0:
        user = pwd.getpwnam(SERVER_USER)
        os.chown(base, user.pw_uid, user.pw_gid)
    atexit.register(remove_base_directory)
    return base


def remove_base_directory():
    if os.environ.get("PANVEL_KEEP") != "1":
        shutil.rmtree(base_directory(), ignore_errors=True)


@functools.lru_cache(maxsize=None)
def guardian():
    """Pipe to the process that outlives us (guardian.py); lines '+pid' and '-pid'."""
    script = pathlib.Path(__file__).with_name("guardian.py")
    keep = os.environ.get("PANVEL_KEEP", "0")
    return subprocess.Popen(
        [sys.executable, str(script), str(base_directory()), keep],
        stdin=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
        text=True,
        bufsize=1,
    )


def guard(pid):
    guardian().stdin.write(f"+{pid}\n")


def unguard(pid):
    guardian().stdin.write(f"-{pid}\n")


def wait_until(condition, deadline=30, what=None):
    """Calls `condition` until it returns something true, and returns that.

    After `deadline` seconds the test fails with the last value. An exception of `condition`
    passes through.
    """
    end = time.monotonic() + deadline
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"{name} not reached within {deadline} s; last: {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
