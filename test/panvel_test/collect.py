"""pytest items that are not Python: GoogleTest programs and pgTAP files."""

import functools
import json
import os
import re
import subprocess
import tempfile

import pytest

from . import postgres


class Failed(Exception):
    """A test failed; its text is the whole report."""


class ForeignItem(pytest.Item):
    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, Failed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style="short")


# ---------------------------------------------------------------------- GoogleTest
class GoogleTestFile(pytest.File):
    """test/unit/CORE/x_test.cpp: the tests that build/test/CORE_unit_test has from this file."""

    def collect(self):
        program = postgres.BUILD / "test" / f"{self.path.parent.name}_unit_test"
        names = google_tests(program).get(self.path.name, [])
        if not names:
            raise self.CollectError(f"{program} has no test from {self.path}: run make first")
        for name in names:
            yield GoogleTestItem.from_parent(self, name=name, program=program)


class GoogleTestItem(ForeignItem):
    def __init__(self, program, **options):
        super().__init__(**options)
        self.program = program

    def runtest(self):
        done = subprocess.run(
            [str(self.program), f"--gtest_filter={self.name}", "--gtest_brief=1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode != 0:
            raise Failed(f"exit status {done.returncode}\n{done.stdout}")
        if "[  SKIPPED ]" in done.stdout:
            told = [line for line in done.stdout.splitlines() if not line.startswith(("[", "Run"))]
            pytest.skip(" ".join(told))

    def reportinfo(self):
        return self.path, None, self.name


@functools.lru_cache(maxsize=None)
def google_tests(program):
    """{source file name: [Suite.Test, ...]} of a GoogleTest program; {} if it is not there."""
    if not program.exists():
        return {}
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [str(program), "--gtest_list_tests", f"--gtest_output=json:{file.name}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        listing = json.load(file)
    found = {}
    for suite in listing["testsuites"]:
        for test in suite["testsuite"]:
            source = os.path.basename(test["file"])
            found.setdefault(source, []).append(f"{suite['name']}.{test['name']}")
    return found


# ---------------------------------------------------------------------- pgTAP
class TapFile(pytest.File):
    """A pgTAP script; one item. `fixture` names the fixture whose value is the database."""

    def __init__(self, fixture, **options):
        super().__init__(**options)
        self.fixture = fixture

    def collect(self):
        yield TapItem.from_parent(self, name=self.path.stem, fixture=self.fixture)


class TapItem(ForeignItem):
    def __init__(self, fixture, **options):
        super().__init__(**options)
        # Lets pytest make and tear down the fixture as for a Python test.
        self.funcargs = {}
        self.fixturenames = [fixture]
        manager = self.session._fixturemanager
        self._fixtureinfo = manager.getfixtureinfo(self, func=None, cls=None, funcargs=False)
        self._fixtureinfo.name2fixturedefs[fixture] = manager.getfixturedefs(fixture, self.nodeid)
        self._request = pytest.FixtureRequest(self, _ispytest=True)
        self.fixture = fixture

    def setup(self):
        self.database = self._request.getfixturevalue(self.fixture)

    def runtest(self):
        done = self.database.psql("", check=False, arguments=["-f", str(self.path)])
        problems = tap_problems(done.stdout)
        if done.returncode != 0:
            problems.append(f"psql: exit status {done.returncode}")
        if problems:
            lines = "\n".join(problems)
            raise Failed(f"{lines}\n--- psql\n{done.stderr}{done.stdout[-8000:]}")

    def reportinfo(self):
        return self.path, None, self.name


def tap_problems(output):
    """What is wrong with a TAP stream: failing lines with their diagnostics, a broken plan."""
    problems = []
    planned = None
    seen = 0
    failing = False
    for line in output.splitlines():
        plan = re.match(r"1\.\.(\d+)", line)
        result = re.match(r"(not )?ok\b", line)
        if plan:
            planned = int(plan[1])
        elif result:
            seen += 1
            failing = bool(result[1])
            if failing:
                problems.append(line)
        elif line.startswith("#") and failing:
            problems.append(line)
        elif line.startswith("Bail out!"):
            problems.append(line)
    if planned is None:
        problems.append("no plan in the output: select plan(n) or no_plan(), and finish()")
    elif planned != seen:
        problems.append(f"{planned} tests planned, {seen} run")
    return problems
