"""The npm packages that Node programs use, installed once per version of their package-lock.json."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess

PROGRAMS = pathlib.Path(__file__).parent / "node"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "panvel" / "npm"

LOCK = ["package.json", "package-lock.json"]
PRISMA = ["prisma.config.mjs", "prisma/schema.prisma"]  # of programs that use Prisma

# What npm says when it cannot reach a registry at all.
UNREACHABLE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED")


class Unavailable(Exception):
    pass


def run_npm(directory):
    """npm ci: exactly what the lock file says, and no package's install script is run."""
    if not shutil.which("npm"):
        raise Unavailable("npm is not installed (./panvel installs it)")
    done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"], cwd=directory,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0 and UNREACHABLE.search(done.stdout):
        raise Unavailable(f"the npm registry cannot be reached: {done.stdout[-300:]}")
    assert done.returncode == 0, done.stdout[-3000:]


def generate_prisma_client(directory):
    """Writes the client of prisma/schema.prisma into node_modules; needs an URL, connects to nothing."""
    environment = {**os.environ, "DATABASE_URL": "postgres://unused", "CHECKPOINT_DISABLE": "1"}
    subprocess.run(["node_modules/.bin/prisma", "generate"], cwd=directory, env=environment, check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def node_modules(programs):
    """The directory `node_modules`; a run without a network finds what an earlier one installed."""
    files = [name for name in [*LOCK, *PRISMA] if (programs / name).exists()]
    version = hashlib.sha256(b"".join((programs / name).read_bytes() for name in files)).hexdigest()[:16]
    installed = CACHE / version
    if not installed.exists():
        scratch = CACHE / f"{version}.{os.getpid()}"
        scratch.mkdir(parents=True)
        try:
            for name in files:
                (scratch / name).parent.mkdir(exist_ok=True)
                shutil.copy(programs / name, scratch / name)
            run_npm(scratch)
            if (scratch / PRISMA[0]).exists():
                generate_prisma_client(scratch)
            scratch.rename(installed)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return installed / "node_modules"


def install(directory, programs=PROGRAMS):
    """Copies the programs to `directory`, where they find the packages; Node looks beside a program's file."""
    shutil.copytree(programs, directory, ignore=shutil.ignore_patterns("node_modules"))
    (directory / "node_modules").symlink_to(node_modules(programs))
    return directory
