"""Calls of coordinator/remote on its own, in a build with -DPANVEL_CRASH_POINTS=ON."""

import psycopg
import pytest

FUNCTIONS = """
create function remote(node int, sql text, effect text default 'read_once',
    keep_prepared bool default false, param text default null)
    returns text language c as '$libdir/panvel', 'panvel_test_remote';
create function remote_all(nodes int[], sql text, effect text default 'read_once',
    wait bool default true)
    returns int language c as '$libdir/panvel', 'panvel_test_remote_all';
create function remote_copy(node int, sql text, data text)
    returns bigint language c as '$libdir/panvel', 'panvel_test_remote_copy';
"""


def prepare(database):
    """Declares the test functions and makes table t (id int primary key, v text) on all workers."""
    try:
        database.execute(FUNCTIONS)
    except psycopg.errors.UndefinedFunction:
        pytest.skip("built without PANVEL_CRASH_POINTS")
    for worker in database.workers:
        worker.execute("create table public.t (id int primary key, v text)")
    return database
