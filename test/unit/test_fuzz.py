"""The fuzz programs for some seconds, under sanitizers (soak: PANVEL_SOAK_SECONDS in all)."""

import os
import subprocess

import pytest

from panvel_test import postgres

CORE = ["vector_text", "sparse_text", "number_text", "vector_wire"]
PROGRAMS = ["vector_text_fuzz", "sparse_text_fuzz", "vector_wire_fuzz"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The programs, compiled by themselves: the whole core with sanitizers takes minutes."""
    directory = tmp_path_factory.mktemp("fuzz")
    sources = [f"extension/core/{name}.cpp" for name in CORE]
    for program in PROGRAMS:
        command = [os.environ.get("CXX", "c++"), "-std=c++20", "-O1", "-g", "-I.", "-fwrapv",
                   "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined",
                   "-o", directory / program, f"test/fuzz/{program}.cpp", *sources]
        subprocess.run(command, cwd=postgres.REPOSITORY, check=True)
    return directory


def fuzz(directory, program, seconds):
    done = subprocess.run([directory / program, str(seconds)], capture_output=True, text=True)
    assert done.returncode == 0 and "no failure" in done.stdout, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_crash_and_nothing_invalid_accepted(built, program):
    fuzz(built, program, 2)


@pytest.mark.soak
@pytest.mark.parametrize("program", PROGRAMS)
def test_for_long(built, program):
    fuzz(built, program, int(os.environ.get("PANVEL_SOAK_SECONDS", "600")) // len(PROGRAMS))
