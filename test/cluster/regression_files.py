"""PostgreSQL's own regression files: fetched, never kept, and read statement by statement."""

import pathlib
import re
import subprocess

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCE = f"deb-src [signed-by={KEYRING}] http://deb.debian.org/debian bookworm main\n"
REGRESS = "src/test/regress"


class Unavailable(Exception):
    """The source package cannot be had: no network, or another system."""


def fetch(directory):
    """Downloads PostgreSQL 15's source package and returns the directory of its regression tests."""
    directory = pathlib.Path(directory)
    (directory / "lists" / "partial").mkdir(parents=True)
    (directory / "sources.list").write_text(SOURCE)
    options = []
    for name, value in {"Dir::Etc::sourcelist": directory / "sources.list", "Dir::Etc::sourceparts": "-",
                        "Dir::State::lists": directory / "lists", "Dir::Cache": directory,
                        "APT::Sandbox::User": "root", "Acquire::Retries": 2, "Acquire::http::Timeout": 20}.items():
        options += ["-o", f"{name}={value}"]
    try:
        for command in (["update"], ["source", "--download-only", "postgresql-15"]):
            subprocess.run(["apt-get", *options, "-q", *command], cwd=directory, check=True, timeout=240,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"apt-get source postgresql-15: {error}") from error
    archives = list(directory.glob("postgresql-15_*.orig.tar.bz2"))
    if not archives:
        raise Unavailable("apt-get source postgresql-15 gave no archive")
    subprocess.run(["tar", "xjf", archives[0], "--wildcards", f"*/{REGRESS}/sql/*", f"*/{REGRESS}/data/*"],
                   cwd=directory, check=True)
    return next(directory.glob(f"postgresql-15*/{REGRESS}"))


TOKEN = re.compile(r"""
    (?P<comment>--[^\n]*|/\*.*?\*/)
  | (?P<quoted>[eE]?'(?:[^'\\]|''|\\.)*'|"[^"]*"|(?P<tag>\$\w*\$).*?(?P=tag))
  | (?P<end>;)
  | (?P<command>\\[^\n;]*)
  | (?P<begin>\bbegin\s+atomic\b)
  | (?P<other>[\w]+|.)
""", re.VERBOSE | re.DOTALL | re.IGNORECASE)


END_OF_DATA = re.compile(r"^\\\.$", re.MULTILINE)
SQL = re.compile(r"--|\\(?!\.)|(copy|select|rollback|commit|insert|create|drop)\b", re.IGNORECASE)


def has_data(lines):
    """Whether what follows a COPY FROM stdin is its data: where psql expects it to fail, there is none."""
    first, second, *_ = lines.split("\n", 2) + ["", ""]
    return second == "\\." if first == "" else not SQL.match(first)


def statements(text):
    """(statement, data of COPY FROM stdin or None). psql's own commands are left out, with what they end."""
    position, current, depth = 0, "", 0
    while match := TOKEN.match(text, position):
        position = match.end()
        if match["comment"]:
            current += " "
        elif match["command"]:
            current = ""  # \gset, \set and the like
        elif match["end"] and depth == 0:
            statement, current = current.strip(), ""
            data = None
            if re.match(r"copy\s.*\sfrom\s+stdin\b", statement, re.IGNORECASE | re.DOTALL):
                start = text.index("\n", position) + 1
                if has_data(text[start:]):
                    end = END_OF_DATA.search(text, start).start()
                    data, position = text[start:end], end + len("\\.")
            if statement:
                yield statement, data
        else:
            depth += {"(": 1, ")": -1}.get(match[0], 0) if not match["quoted"] else 0
            current += match[0]


# Tables of test_setup.sql and create_index.sql that the other files read, and where their rows are.
LOADED = {"onek": "onek", "tenk1": "tenk", "person": "person", "road": "streets"}


def set_up(connection, regress, load=True):
    """The tables that the files share: those of test_setup.sql, as plain tables. `load`: the large ones, too."""
    for statement, _ in statements((regress / "sql" / "test_setup.sql").read_text()):
        words = statement.split()
        command = " ".join(words[:2]).lower()
        if command == "create table" and "inherits" not in statement.lower() or words[0].lower() == "insert":
            if "ihighway" in statement or "shighway" in statement:
                continue
            connection.execute(statement)
            name = words[2].lower()
            if load and command == "create table" and name in LOADED:
                with connection.cursor().copy(f"copy {name} from stdin") as copy:
                    copy.write((regress / "data" / f"{LOADED[name]}.data").read_text())
