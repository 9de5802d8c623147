"""A test that never ends, for test_ended_run_leaves_nothing; not collected by itself."""

import signal

import pytest

from panvel_test import postgres


@pytest.mark.timeout(300)
def test_endless(make_server):
    server = make_server()
    print("started", postgres.base_directory(), server.process.pid, flush=True)
    while True:
        signal.pause()
