"""PostgreSQL's regression files of writes: each statement does on distributed tables what it does on plain ones, or is refused.

Each file runs twice: with every table that it makes distributed by a column, and with every one a reference table. After a
statement that may write, the tables that it names must be equal. A refusal must be in REFUSED.
"""

import re
from collections import Counter
from contextlib import ExitStack

import pytest

from regression_files import set_up, statements
from regression_run import Failure, has_failed, in_transaction, run

FILES = ["insert", "insert_conflict", "update", "delete", "returning", "with", "merge", "copy", "copy2", "copyselect", "truncate",
         "identity"]

# (what the message matches, why)
REFUSED = [
    (r"CREATE TRIGGER is not supported", "triggers are refused"),
    (r"CREATE RULE is not supported", "rules are refused"),
    (r"^this change is not supported|^inheritance is not supported", "partitions and inheritance are refused"),
    (r"(updating|dropping|changing the type of) (the )?distribution column", "a row's shard follows from it"),
    (r"null value in (distribution )?column", "a row without a distribution key belongs to no shard"),
    (r"unique index .* does not include the distribution column", "a shard sees only its own rows"),
    (r"using the table twice in a statement with data-modifying WITH", "shards have no snapshot before the statement's other parts"),
    (r"a subquery in RETURNING that may read the table", "the same"),
    (r"COPY FREEZE is not supported", "its rows would be seen by older snapshots on some nodes"),
    (r"foreign key .* is not supported|a new constraint or foreign key is not supported", "foreign keys over shards, and of local tables"),
    (r"SET LOGGED or UNLOGGED|ADD COLUMN .* computed for each row", "refused, docs/sql-support.md"),
    (r"an expression that the nodes may evaluate differently|a whole row of EXCLUDED", "rows are of types of the shards' own"),
    (r"needs type public.check_con_tbl, which the nodes cannot have", "the same: a CHECK of a function of the row"),
    (r"a subquery that is evaluated for every row in ON CONFLICT", "the copies' rows have no names without a primary key"),
    (r"a subquery in ON CONFLICT DO UPDATE that may read the table", "it would see the statement's own rows"),
    (r"UPDATE, DELETE or MERGE with a join", "the copies' rows have no names without a primary key"),
    (r"WITH CHECK OPTION", "the shards do not know the view"),
]

NOT_RUN = re.compile(
    r"(explain|vacuum|reset|show|analyze|checkpoint|set (session|role)|grant|revoke"
    r"|(create|alter|drop) (user|role|policy))\b"
    r"|.*\b(explain_merge|pg_class|pg_relation_size|ctid|xmin|information_schema|pg_sequence|tableoid)\b"
    # The server's directory of the regression tests; other roles.
    r"|.*(tab_progress_reporting from :'filename'|regress_\w+_user|row level security)",
    re.IGNORECASE | re.DOTALL)
READ = re.compile(r"\s*\(*\s*(select|with|values|table|copy\s*\()\b", re.IGNORECASE)
WRITES_IN_WITH = re.compile(r"\b(insert\s+into|update\s+\w|delete\s+from|merge\s+into)", re.IGNORECASE)
TYPE = re.compile(r"\s*(create|alter|drop)\s+(type|domain)\b", re.IGNORECASE)  # the workers have to have them, too
DEFINES = re.compile(r"\s*create\b.*\btable\b|.*\binto\b", re.IGNORECASE | re.DOTALL)

# Distributes what is new: by the first column that can be the distribution column, or to all nodes.
DISTRIBUTE = """
do $$ declare t record; c record; begin
  for t in select oid::regclass as name, relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace
      and relam = (select oid from pg_am where amname = 'heap') and not relispartition and not relhassubclass
      and not exists (select from pg_inherits where inhrelid = pg_class.oid) loop
    if '%s' = 'reference' then
      begin perform panvel.create_reference_table(t.name); exception when others then null; end;
      continue;
    end if;
    for c in select attname from pg_attribute where attrelid = t.name and attnum > 0 and not attisdropped
        order by attnum loop
      begin
        perform panvel.create_distributed_table(t.name, c.attname, 4);
        exit;
      exception when others then null;
      end;
    end loop;
  end loop;
end $$"""
DISTRIBUTED = "select c.relname from pg_class c join pg_am a on a.oid = c.relam where a.amname <> 'heap' and c.relkind = 'r'"


class Comparison:
    def __init__(self, distributed, plain, workers, kind):
        self.workers = workers
        self.distributed = distributed
        self.plain = plain
        self.distribute = DISTRIBUTE % kind
        self.tables = set()
        self.counts = Counter()
        self.differences = []

    def compare(self, statement, data):
        statement = re.sub(r"(create )(temp|temporary|unlogged) (table|view)", r"\1\3", statement, flags=re.IGNORECASE)
        if NOT_RUN.match(statement):
            self.counts["not run"] += 1
            return
        found = self.run(self.distributed, statement, data)
        if self.is_refusal(found):  # it is not done on the other side either
            self.counts["refused"] += 1
            if in_transaction(self.plain):
                run(self.plain, "select 1 / 0")
            return
        expected = self.run(self.plain, statement, data)
        if TYPE.match(statement):
            for worker in self.workers:
                run(worker, statement)
        if DEFINES.match(statement) and not has_failed(self.distributed):
            self.distribute_new()
        self.counts["compared"] += bool(self.named(statement))
        if found != expected:
            self.difference(statement, found, expected)
        if not READ.match(statement) or WRITES_IN_WITH.search(statement):
            self.compare_tables(statement)

    def run(self, connection, statement, data):
        if ":'filename'" in statement:  # a file of its own for each side
            (directory,) = connection.execute("show data_directory").fetchone()
            side = connection.info.dbname
            statement = statement.replace(":'filename'", f"'{directory}/{side}.copied'")
        return run(connection, statement, data)

    @staticmethod
    def is_refusal(found):
        text = f"{found.message} {found.detail}" if isinstance(found, Failure) else ""
        if found == "23502" and "distribution" not in text:
            return False
        return bool(text) and any(re.search(pattern, text) for pattern, _ in REFUSED)

    def distribute_new(self):
        self.distributed.execute(self.distribute)
        self.tables = {name for (name,) in self.distributed.execute(DISTRIBUTED).fetchall()}

    def named(self, statement):
        return self.tables & set(re.findall(r"\w+", statement.lower()))

    def compare_tables(self, statement):
        if has_failed(self.distributed) or has_failed(self.plain):
            return
        for table in self.named(statement):
            found, expected = (run(side, f"select * from {table}") for side in (self.distributed, self.plain))
            if found != expected:
                self.difference(f"{table} after {statement}", found, expected)

    def difference(self, statement, found, expected):
        text = [getattr(side, "message", "") or str(side)[:600] for side in (found, expected)]
        self.differences.append(f"{statement}\n  distributed: {found!s:.5} {text[0]}\n  plain: {expected!s:.5} {text[1]}")


@pytest.fixture(scope="module", params=["hash", "reference"])
def pair(request, shared_cluster, regress):
    distributed = shared_cluster.database(f"regress_writes_{request.param}")
    plain = shared_cluster.database(f"regress_writes_{request.param}_plain")
    for database in (distributed, plain):
        with database.connect() as connection:
            set_up(connection, regress, load=False)
    distributed.execute(DISTRIBUTE % request.param)
    yield distributed, plain, request.param
    distributed.drop()
    plain.drop()


@pytest.mark.parametrize("name", FILES)
def test_file(pair, regress, name):
    distributed, plain, kind = pair
    with ExitStack() as stack:
        left, right, *workers = (stack.enter_context(each.connect()) for each in (distributed, plain, *distributed.workers))
        comparison = Comparison(left, right, workers, kind)
        for statement, data in statements((regress / "sql" / f"{name}.sql").read_text()):
            comparison.compare(statement, data)
        print(name, dict(comparison.counts))
    assert comparison.differences == [], "\n\n".join(comparison.differences)
    assert comparison.counts["compared"] > 5
