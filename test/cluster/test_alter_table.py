"""ALTER TABLE and its kin on distributed tables: the shards become what the shell does."""

import threading

import pytest

from panvel_test import wait_until
from shard_definitions import Checker, check_shards

TABLES = """
    create table items (id int primary key, n int not null default 7, label varchar(20), price numeric(10, 2), tags text[], check (n > 0));
    create index items_label on items (label);
    create table reviews (id int, item int, stars int, category text, primary key (id, item));
    create table categories (name text primary key, parent text);
    insert into items select i, i % 50 + 1, 'l' || i, i, array['t' || i % 3] from generate_series(1, 100) i;
    insert into reviews select i, i % 100 + 1, i % 5, 'c' || i % 4 from generate_series(1, 200) i;
    insert into categories select 'c' || i from generate_series(0, 9) i;
"""


@pytest.fixture
def items(cluster):
    cluster.execute(TABLES)
    cluster.execute("select panvel.create_distributed_table('items', 'id', 3)")
    cluster.execute("select panvel.create_distributed_table('reviews', 'item', colocate_with => 'items')")
    cluster.execute("select panvel.create_reference_table('categories')")
    return cluster


def check_all(cluster):
    with Checker(cluster) as checker:
        checker.check_all()


# Each statement on the tables as they are after the ones before it.
STATEMENTS = [
    "alter table items add column extra int",
    "alter table items add column if not exists extra int",
    "alter table items add column at timestamptz not null default now(), add column \"Odd name\" text default 'it''s' collate \"C\"",
    "alter table items add column doubled int generated always as (n * 2) stored",
    "alter table items add column limited int default 5 check (limited < 10), drop column extra, add unique (id, limited) deferrable",
    "alter table items drop column limited, add column extra int",
    "alter table items add column score float8 default 0.1 + 0.2",
    "alter table items alter column score set storage plain, alter score set statistics 50, alter score set (n_distinct = 5)",
    "alter table items alter column score reset (n_distinct), alter score set statistics -1",
    "alter table items alter column label set storage external, alter label set compression pglz",
    "alter table items alter column label set compression default",
    "alter table items rename column extra to more",
    "alter table items alter column label type text",
    "alter table items alter column price type int using round(price * 10)::int, alter column tags type text using array_to_string(tags, ',')",
    "alter table items alter column label type varchar(40) collate \"C\"",
    "alter table items alter column label set not null",
    "alter table items alter column label drop not null",
    "alter table items alter column label set default 'x', alter label drop default",
    "alter table items alter column doubled drop expression",
    "alter table items alter column n type bigint",
    "alter table items add constraint positive check (price >= 0), add constraint pair unique (label, id)",
    "alter table items rename constraint positive to not_negative",
    "alter table items rename constraint pair to label_id",
    "alter table items add constraint later check (price > 3) not valid",
    "delete from items where price <= 3",
    "alter table items validate constraint later",
    "alter table items drop constraint later, add constraint later check (price > 2)",
    "create unique index other_key on items (id, n)",
    "alter table items add constraint other_key_c unique using index other_key deferrable initially deferred",
    "alter table items drop constraint other_key_c",
    "alter table items drop constraint items_pkey",
    "alter table items add primary key (id)",
    "alter index items_pkey rename to items_key",
    "create index expression_index on items (lower(label), (n + 1)) with (fillfactor = 70)",
    "alter index expression_index set (fillfactor = 80)",
    "alter index expression_index reset (fillfactor)",
    "alter index expression_index alter column 2 set statistics 77",
    "alter table items replica identity full",
    "alter table items replica identity using index items_key",
    "alter table items replica identity default",
    "alter table items set (fillfactor = 60, autovacuum_enabled = off)",
    "alter table items reset (fillfactor, autovacuum_enabled)",
    "alter table items drop column tags, drop column more",
    "alter table items drop column if exists nothing",
    "create statistics item_stats (dependencies, mcv) on n, price from items",
    "alter statistics item_stats set statistics 10",
    "alter statistics item_stats rename to renamed_stats",
    "drop statistics renamed_stats",
    "alter table reviews add foreign key (item) references items on delete cascade",
    "alter table reviews add constraint to_category foreign key (category) references categories not valid",
    "alter table reviews validate constraint to_category",
    "alter table reviews alter constraint to_category deferrable initially deferred",
    "alter table reviews add column other_category text references categories on update cascade on delete set null",
    "alter table categories add foreign key (parent) references categories",
    "alter table categories add column note text default 'n', alter name set statistics 5",
    "alter table items rename to things",
    "alter table things rename to items",
    "create schema elsewhere",
    "alter table items set schema elsewhere",
    "alter table elsewhere.items rename to \"Things\"",
    "alter table elsewhere.\"Things\" add column z int",
    "alter table elsewhere.\"Things\" drop constraint items_key cascade",
]


def test_every_statement(items):
    with items.connect() as connection, Checker(items) as checker:
        checker.check_all()
        for sql in STATEMENTS:
            try:
                connection.execute(sql)
            except Exception as error:
                raise AssertionError(sql) from error
            try:
                checker.check_all()
            except AssertionError as error:
                raise AssertionError(f"after {sql}") from error


def test_rows_of_before(items):
    """What rows that are there get: defaults evaluated once, types converted on the shards."""
    with items.connect() as connection:
        connection.execute("alter table items add column at timestamptz not null default now()")
        assert connection.execute("select count(distinct at), count(*) from items").fetchone() == (1, 100)
        connection.execute("alter table items alter price type int using (price * 2)::int")
        assert connection.execute("select sum(price) from items").fetchone() == (2 * 5050,)
        connection.execute("alter table items add column day date default '2024-02-03', add column gone int")
        connection.execute("alter table items drop column gone")
        connection.execute("insert into items (id, label) values (1000, 'new')")
        assert connection.execute("select n, day::text from items where id = 1000").fetchone() == (7, "2024-02-03")
        connection.execute("alter table items alter at type text using 'since ' || now()::date - now()::date")
        assert connection.execute("select distinct at from items").fetchall() == [("since 0",)]


def test_defaults_for_each_row_need_an_empty_table(items, error_of):
    with items.connect() as connection:
        for definition in ["number serial", "token uuid default gen_random_uuid()", "i int generated always as identity"]:
            error = error_of(connection.execute, f"alter table items add column {definition}")
            assert error.sqlstate == "0A000" and "UPDATE" in error.diag.message_hint
        connection.execute("truncate items cascade")
        connection.execute("alter table items add column number serial, add column token uuid default gen_random_uuid(), add column i int generated always as identity")
        check_all(items)
        connection.execute("insert into items (id) values (1), (2)")
        assert connection.execute("select number, i, token is not null from items order by id").fetchall() == [(1, 1, True), (2, 2, True)]


def test_what_rows_violate(items, error_of):
    """A shard's objection leaves neither the shell nor another shard changed."""
    items.execute("update items set label = null where id = 7; insert into reviews values (900, 5000, 1, 'c1')")
    with items.connect() as connection:
        for sql, sqlstate in [
            ("alter table items alter label set not null", "23502"),
            ("alter table items add column must int not null", "23502"),
            ("alter table items add check (price < 100)", "23514"),
            ("alter table items alter label type int using label::int", "22P02"),
            ("create unique index on reviews (item, stars)", "23505"),
            ("alter table reviews add foreign key (item) references items", "23503"),
            ("alter table reviews add foreign key (stars) references categories", "42804"),
        ]:
            assert error_of(connection.execute, sql).sqlstate == sqlstate, sql
            check_all(items)
        connection.execute("alter table reviews add constraint fk foreign key (item) references items not valid")
        assert error_of(connection.execute, "alter table reviews validate constraint fk").sqlstate == "23503"
        connection.execute("delete from reviews where id = 900")
        connection.execute("alter table reviews validate constraint fk")
        check_all(items)


def test_foreign_keys_hold(items, error_of):
    items.execute("alter table reviews add constraint to_item foreign key (item) references items on delete cascade deferrable")
    items.execute("alter table reviews add constraint to_category foreign key (category) references categories on delete set null")
    with items.connect() as connection:
        error = error_of(connection.execute, "insert into reviews values (1000, 777, 1)")
        assert error.sqlstate == "23503" and error.diag.constraint_name == "to_item"
        connection.execute("delete from items where id <= 10")
        assert connection.execute("select count(*) from reviews where item <= 10").fetchone() == (0,)
        connection.execute("delete from categories where name = 'c2'")
        assert connection.execute("select count(*) from reviews where category = 'c2'").fetchone() == (0,)
        assert error_of(connection.execute, "truncate items").sqlstate == "0A000"
        # deferred, by name and all together
        for constraints in ["to_item", "all"]:
            connection.execute("begin")
            connection.execute(f"set constraints {constraints} deferred")
            connection.execute("insert into reviews values (2000, 2000, 1)")
            connection.execute("insert into items (id) values (2000)")
            connection.execute(f"set constraints {constraints} immediate")
            connection.execute("delete from items where id = 2000")
            connection.execute("commit")
        connection.execute("begin; set constraints all deferred; insert into reviews values (3000, 3000, 1)")
        assert error_of(connection.execute, "commit").sqlstate == "23503"
        assert connection.execute("select count(*) from reviews where id = 3000").fetchone() == (0,)
        assert error_of(connection.execute, "alter table items alter id type bigint").sqlstate == "0A000"
        assert error_of(connection.execute, "alter table categories alter name type varchar(50)").sqlstate == "0A000"
        error = error_of(connection.execute, "select panvel.undistribute_table('items')")
        assert error.sqlstate == "0A000" and "to_item" in str(error)
        connection.execute("truncate items cascade")
        assert connection.execute("select count(*) from reviews").fetchone() == (0,)
        connection.execute("drop table items cascade")
        check_all(items)
        connection.execute("insert into reviews values (4000, 4000, 1)")


def test_distributed_with_foreign_keys(cluster):
    """Tables that have their keys, policies and statistics objects before they are distributed."""
    cluster.execute(TABLES)
    cluster.execute("alter table categories add foreign key (parent) references categories")
    cluster.execute("select panvel.create_reference_table('categories')")
    cluster.execute("alter table items alter n set (n_distinct = 3)")
    cluster.execute("alter table items add constraint later check (price > 50) not valid")
    cluster.execute("create statistics st on n, price from items")
    cluster.execute("alter table items cluster on items_pkey; create policy p on items for select using (n > 0); alter table items enable row level security")
    cluster.execute("select panvel.create_distributed_table('items', 'id', 3)")
    cluster.execute("insert into items (id, price) values (1000, 60)")
    check_all(cluster)


def test_rolls_back(items):
    with items.connect(autocommit=False) as connection:
        connection.execute("alter table items add column a int default 5")
        connection.execute("savepoint s")
        connection.execute("alter table items rename a to b")
        connection.execute("alter table items drop column label")
        assert connection.execute("select sum(b) from items").fetchone() == (500,)
        connection.execute("rollback to s")
        assert connection.execute("select sum(a), max(label) from items").fetchone() == (500, "l99")
        connection.rollback()
        check_all(items)
        connection.execute("do $$ begin alter table items add column c int; begin alter table items add column d int; raise 'x'; exception when others then null; end; end $$")
        connection.commit()
    check_all(items)
    assert items.query("select c from items limit 1") == [(None,)]


def test_other_sessions_see_it(items):
    """What a session has prepared, here and on the nodes, is planned anew."""
    with items.connect() as other:
        query = "select id, price from items where id = 5"
        for _ in range(8):
            other.execute(query, prepare=False)
            other.execute("select label from items where n = %s", [6], prepare=True)
        items.execute("alter table items alter price type int, add column x int default 3")
        assert other.execute(query, prepare=False).fetchall() == [(5, 5)]
        items.execute("alter table items rename to things; alter table things rename n to m; alter table things rename to items; alter table items rename m to n")
        assert len(other.execute("select label from items where n = %s", [6], prepare=True).fetchall()) == 2
        items.execute("alter table items rename price to cost")
        assert other.execute("select id, cost, x from items where id = 5").fetchall() == [(5, 5, 3)]


def test_writers_beside_ddl(items):
    """Sessions that insert meanwhile lose no row and meet no error."""
    errors = []
    stop = threading.Event()

    def write(first):
        with items.connect() as connection:
            for i in range(first, first + 10_000):
                if stop.is_set():
                    break
                try:
                    connection.execute("insert into items (id, label) values (%s, 'w')", [i])
                    written.append(i)
                except Exception as error:
                    errors.append(error)

    written = []
    threads = [threading.Thread(target=write, args=(first,)) for first in (10_000, 20_000)]
    for thread in threads:
        thread.start()
    with items.connect() as connection:
        for i in range(4):
            connection.execute(f"alter table items add column c{i} int default {i}")
            connection.execute(f"create index on items (c{i}, id)")
            connection.execute(f"alter table items alter c{i} type bigint")
            connection.execute("analyze items")
            if i % 2:
                connection.execute(f"alter table items drop column c{i}")
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert items.value("select count(*) from items where id >= 10000") == len(written) > 0
    assert items.value("select count(*) from items where c0 is null or c2 is null") == 0
    check_all(items)


def test_policies(items, error_of):
    role = f"reader_{items.name}"
    for server in items.cluster.servers:
        server.execute(f"create role {role} login")
    try:
        items.execute(f"grant all on items to {role}; alter table items enable row level security")
        items.execute("create policy own on items using (n = current_setting('app.n')::int)")
        check_all(items)
        with items.connect() as connection:
            connection.execute(f"set role {role}")
            connection.execute("set app.n = '3'")
            assert connection.execute("select count(*), min(n), max(n) from items").fetchone() == (2, 3, 3)
            connection.execute("insert into items (id, n) values (1000, 3)")
            for sql in [
                "insert into items (id, n) values (1001, 4)",
                "update items set n = 4",
                "insert into items (id, n) values (1, 3) on conflict (id) do update set label = 'stolen'",
            ]:
                assert error_of(connection.execute, sql).sqlstate == "42501", sql
            assert connection.execute("update items set label = 'mine'").rowcount == 3
            assert connection.execute("delete from items where id < 1000").rowcount == 2
            connection.execute("set app.n = '4'")
            assert connection.execute("select count(*), max(label) from items").fetchone() == (2, "l53")
            # the nodes apply the policies themselves
            for worker, name in [(items.worker(node), f"panvel_s{shard}") for node, shard in items.query("select node, shard_id from panvel.shards where relation = 'items'::regclass")]:
                with worker.connect() as session:
                    session.execute(f"set role {role}; set app.n = '5'")
                    assert session.execute(f"select count(*) from {name}.items where n <> 5").fetchone() == (0,)
        items.execute("alter policy own on items rename to mine; alter policy mine on items using (n > 0)")
        check_all(items)
        items.execute("drop policy mine on items; alter table items force row level security; alter table items disable row level security")
        check_all(items)
    finally:
        items.execute(f"drop owned by {role}")
        check_all(items)
        for server in items.cluster.servers:
            server.execute(f"drop role {role}")


def test_owner_changes(items, error_of):
    role = f"owner_{items.name}"
    servers = items.cluster.servers
    for server in servers:
        server.execute(f"create role {role} login")
    try:
        items.execute(f"alter table items owner to {role}; alter table reviews owner to {role}; grant create on schema public to {role}")
        check_all(items)
        with items.connect() as connection:
            connection.execute(f"set role {role}")
            connection.execute("alter table items add column x int default 1")
            connection.execute("create index on items (x)")
            assert connection.execute("select sum(x) from items").fetchone() == (100,)
            assert error_of(connection.execute, "alter table categories add column x int").sqlstate == "42501"
            check_all(items)
            connection.execute("drop table items, reviews")
    finally:
        items.execute(f"drop owned by {role}")
        for server in servers:
            server.execute(f"drop role {role}")


def test_unseen_writes_of_another_role(items, error_of):
    """A function of another role would not see what its caller has written: an error, not another answer."""
    role = f"definer_{items.name}"
    servers = items.cluster.servers
    for server in servers:
        server.execute(f"create role {role} login")
    try:
        items.execute(f"grant all on items to {role}; create function counted() returns bigint language sql security definer as 'select count(*) from items'; alter function counted() owner to {role}")
        with items.connect() as connection:
            assert connection.execute("select counted()").fetchone() == (100,)
            connection.execute("begin; insert into items (id) values (5000)")
            error = error_of(connection.execute, "select counted()")
            assert error.sqlstate == "0A000" and "has written there" in str(error)
            connection.execute("rollback")
    finally:
        items.execute(f"drop function counted(); drop owned by {role}")
        for server in servers:
            server.execute(f"drop role {role}")


def test_node_down(make_cluster, error_of):
    db = make_cluster(workers=2)
    db.execute("create table items (id int primary key, n int); insert into items select i, i from generate_series(1, 20) i")
    db.execute("select panvel.create_distributed_table('items', 'id', 2)")
    with db.connect() as connection:
        db.workers[1].server.kill9()
        for sql in ["alter table items add column x int", "create index on items (n)", "alter table items rename to other", "drop table items"]:
            assert error_of(connection.execute, sql).sqlstate[:2] in ("08", "57"), sql
        assert connection.execute("select attname from pg_attribute where attrelid = 'items'::regclass and attnum > 0").fetchall() == [("id",), ("n",)]
        db.workers[1].server.start()
        wait_until(lambda: db.value("select count(*) from items") == 20, 30)
        connection.execute("alter table items add column x int")
        assert check_shards(db, "items") == 2
