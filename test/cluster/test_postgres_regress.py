"""PostgreSQL's regression files on distributed tables: each statement answers as on plain tables, or is refused.

Every table is distributed before it is first read, by its first column without NULLs. A difference that is neither must be
in EXPLAINED.
"""

import re
from collections import Counter

import pytest

from regression_files import set_up, statements
from regression_run import in_transaction, run

FILES = ["select", "select_distinct", "select_having", "select_implicit", "limit", "union", "case", "groupingsets",
         "aggregates", "subselect", "with", "window", "join"]

# (file, what the statement matches, why its rows may differ)
EXPLAINED = [
    ("window", r"over \((order by four )?rows between", "the frame counts rows in an order that the query leaves open"),
    ("window", r"last_value\(four\) over \(order by ten\)", "the last of equals"),
    ("window", r"first_value\(unique1\) over w.*as \(order by four range", "the first of equals"),
    ("window", r"from (unbounded_syntax_test|v_window)", "functions and a view of such windows"),
    ("join", r"limit 1\) as ss", "LIMIT without ORDER BY takes any row"),
]

NOT_RUN = re.compile(
    r"(explain|vacuum|reset|show|prepare|execute|deallocate|declare|fetch|move|close|create (or replace )?function .*language c\b"
    r"|alter table|set (session|role)|create (temp|temporary|unlogged)|analyze|notify|listen|checkpoint)\b|.*\bexplain\b"
    r"|.*\b(pg_class|pg_get_viewdef|pg_get_ruledef|ctid|random\(|clock_timestamp|pg_size|pg_lsn)", re.IGNORECASE | re.DOTALL)
READ = re.compile(r"\s*\(*\s*(select|with|values|table)\b", re.IGNORECASE)
WRITES_IN_WITH = re.compile(r"\b(insert\s+into|update\s+\w|delete\s+from)", re.IGNORECASE)

DISTRIBUTE = """
do $$ declare t record; c record; done boolean; nulls boolean; begin
  for t in select oid::regclass as name from pg_class where relkind = 'r' and relpersistence = 'p' and not relispartition
      and relnamespace = 'public'::regnamespace and relam = (select oid from pg_am where amname = 'heap')
      and not exists (select from pg_inherits where inhparent = pg_class.oid or inhrelid = pg_class.oid) loop
    for c in select attname from pg_attribute where attrelid = t.name and attnum > 0 and not attisdropped order by attnum loop
      begin
        execute format('select exists (select from %s where %I is null)', t.name, c.attname) into nulls;
        continue when nulls;
        perform panvel.create_distributed_table(t.name, c.attname, 4);
        exit;
      exception when others then null;
      end;
    end loop;
  end loop;
end $$"""


class Comparison:
    def __init__(self, name, distributed, plain):
        self.name = name
        self.distributed = distributed
        self.plain = plain
        self.counts = Counter()
        self.differences = []
        self.undistributed = True  # tables may be new

    def compare(self, statement, data):
        if NOT_RUN.match(statement):
            self.counts["not run"] += 1
            return
        reads = bool(READ.match(statement)) and not WRITES_IN_WITH.search(statement)
        if reads and self.undistributed and not in_transaction(self.distributed):
            self.distributed.execute(DISTRIBUTE)
            self.undistributed = False
        if re.search(r"\b(create|into)\b", statement, re.IGNORECASE):
            self.undistributed = True
        found = run(self.distributed, statement, data)
        if found in ("0A000", "23502", "57014"):  # refused, or too slow: not done on the other side either
            self.counts["slow" if found == "57014" else "refused"] += 1
            if in_transaction(self.plain):
                run(self.plain, "select 1 / 0", None)
            return
        expected = run(self.plain, statement, data)
        self.counts["compared"] += reads
        rows = isinstance(found, Counter) and isinstance(expected, Counter)
        if found != expected and not (rows and self.is_explained(statement)):
            self.differences.append(f"{statement}\n  distributed: {str(found)[:600]}\n  plain: {str(expected)[:600]}")

    def is_explained(self, statement):
        return any(name == self.name and re.search(pattern, statement, re.IGNORECASE | re.DOTALL)
                   for name, pattern, _ in EXPLAINED)


@pytest.fixture(scope="module")
def pair(shared_cluster, regress):
    distributed, plain = shared_cluster.database("regress"), shared_cluster.database("regress_plain")
    for database in (distributed, plain):
        with database.connect() as connection:
            set_up(connection, regress)
    distributed.execute(DISTRIBUTE)
    for database in (plain, distributed):
        # As create_index.sql; without those joins of tenk1 with itself take seconds on either side.
        database.execute("create index on tenk1 (unique1); create index on tenk1 (unique2); create index on tenk1 (hundred);"
                         "create index on tenk1 (thousand, tenthous); create index on onek (unique1)")
        for table in ("tenk1", "tenk2", "onek", "onek2"):
            database.execute(f"analyze {table}")
    yield distributed, plain
    distributed.drop()
    plain.drop()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", FILES)
def test_file(pair, regress, name):
    with pair[0].connect() as distributed, pair[1].connect() as plain:
        distributed.execute("set statement_timeout = '3s'")
        comparison = Comparison(name, distributed, plain)
        for statement, data in statements((regress / "sql" / f"{name}.sql").read_text()):
            comparison.compare(statement, data)
        print(name, dict(comparison.counts))
    assert comparison.differences == [], "\n\n".join(comparison.differences)
    assert comparison.counts["compared"] > 10
