"""Fixtures of several tests on the cluster."""

import os
import pathlib

import pytest

from regression_files import Unavailable, fetch


@pytest.fixture(scope="session")
def regress(tmp_path_factory):
    """The directory of PostgreSQL's regression tests."""
    given = os.environ.get("PANVEL_POSTGRES_REGRESS")  # src/test/regress of a source tree
    if given:
        return pathlib.Path(given)
    try:
        return fetch(tmp_path_factory.mktemp("postgres"))
    except Unavailable as reason:
        pytest.skip(f"PostgreSQL's regression files are not available: {reason}")
