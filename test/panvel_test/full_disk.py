"""A server whose disk can be full while a test runs, without root and without a disk of its own.

    disk = FullDisk(server)     # before the server starts
    disk.fill(); disk.empty()
"""

import functools
import os
import pathlib
import shutil
import subprocess

from . import postgres


@functools.lru_cache(maxsize=None)
def library():
    """full_disk.c, compiled; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang-14")
    if compiler is None:
        return None
    target = postgres.base_directory() / "full_disk.so"
    source = pathlib.Path(__file__).with_name("full_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", target, source, "-ldl"], check=True)
    os.chmod(target, 0o755)
    return target


class FullDisk:
    def __init__(self, server):
        self.flag = server.directory / "full"
        self.possible = library() is not None
        if self.possible:
            server.environment = {"LD_PRELOAD": str(library()), "PANVEL_FULL_DISK": str(self.flag)}

    def fill(self):
        self.flag.touch()

    def empty(self):
        self.flag.unlink(missing_ok=True)
