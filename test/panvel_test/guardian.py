"""Ends the servers of a test run that was itself killed (SIGKILL leaves no time to clean up).

Usage: guardian.py BASE_DIRECTORY KEEP. Standard input carries '+pid' for each postmaster started
and '-pid' for each one that was waited for. At end of file whatever is left and still is one of
ours (its command line names BASE_DIRECTORY) is stopped, and the directory removed.
"""

import os
import shutil
import signal
import sys
import time


def is_ours(pid, base):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return base.encode() in file.read()
    except OSError:
        return False


def end(pids, base, number, seconds):
    for pid in pids:
        if is_ours(pid, base):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, number)
    deadline = time.monotonic() + seconds
    while any(is_ours(pid, base) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)


def main():
    base, keep = sys.argv[1], sys.argv[2] == "1"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pids = set()
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            pids.add(pid)
        else:
            pids.discard(pid)
    end(pids, base, signal.SIGQUIT, 10)
    end(pids, base, signal.SIGKILL, 5)
    if not keep:
        shutil.rmtree(base, ignore_errors=True)


main()
