"""Utility statements on distributed tables: done on the shards, or refused."""

import pytest

from shard_definitions import check_shards


@pytest.fixture
def items(cluster):
    cluster.execute("create table items (id int primary key, n int not null default 7, label text, check (n > 0))")
    cluster.execute("insert into items select i, i, 'l' || i from generate_series(1, 300) i")
    cluster.execute("select panvel.create_distributed_table('items', 'id', 4)")
    return cluster


def on_shards(cluster, sql):
    """One value per shard of `items`, by a query in which {} is the shard's schema."""
    rows = cluster.query("select node, shard_id from panvel.shards where relation = 'items'::regclass order by shard_id")
    return [cluster.worker(node).value(sql.format(f"panvel_s{shard_id}")) for node, shard_id in rows]


def index_names(cluster):
    names = "select string_agg(indexname, ',' order by indexname) from pg_indexes where schemaname = '{}' and tablename = 'items'"
    found = set(on_shards(cluster, names))
    assert found == {cluster.value(names.format("public"))}
    return found.pop().split(",")


def test_create_and_drop_index(items, error_of):
    with items.connect() as connection:
        connection.execute("create index on items (n)")
        connection.execute("create index on items (n)")
        connection.execute('create index "Odd name" on items (lower(label) desc nulls last) where n > 5')
        connection.execute("create unique index both_key on items (n, id)")
        connection.execute("create index if not exists items_n_idx on items (label)")
        assert index_names(items) == ["Odd name", "both_key", "items_n_idx", "items_n_idx1", "items_pkey"]
        definition = "select indexdef from pg_indexes where schemaname = '{}' and indexname = 'Odd name'"
        assert "(lower(label) DESC NULLS LAST) WHERE (n > 5)" in on_shards(items, definition)[0]

        for sql, sqlstate, message in [
            ("create unique index on items (label)", "0A000", "does not include the distribution column"),
            ("create index on items (nope)", "42703", "nope"),
            ("create index items_n_idx on items (n)", "42P07", "already exists"),
            ("drop index items_pkey", "2BP01", "constraint"),
        ]:
            error = error_of(connection.execute, sql)
            assert error.sqlstate == sqlstate and message in str(error), (sql, error)
        connection.execute('drop index "Odd name", items_n_idx1')
        connection.execute("reindex table items")
        connection.execute("reindex index items_n_idx")
        assert index_names(items) == ["both_key", "items_n_idx", "items_pkey"]


def test_index_ddl_rolls_back(items):
    with items.connect(autocommit=False) as connection:
        connection.execute("create index i1 on items (n)")
        connection.execute("savepoint s")
        connection.execute("drop index i1")
        connection.execute("create index i2 on items (n)")
        connection.execute("rollback to s")
        connection.commit()
    assert index_names(items) == ["i1", "items_pkey"]


def test_indexes_by_two_sessions_at_once(items, error_of):
    """The second waits: what the first has made is not to be taken for the second's (pg_restore -j does so)."""
    with items.connect(autocommit=False) as first, items.connect() as second:
        first.execute("create index by_first on items (id)")
        second.execute("set lock_timeout = '100ms'")
        assert error_of(second.execute, "create index by_second on items (id)").sqlstate == "55P03"
        first.commit()
        second.execute("create index by_second on items (id)")
    assert index_names(items) == ["by_first", "by_second", "items_pkey"]


def test_index_of_an_extension_in_a_schema(items):
    """Operator classes are found on the shards although their search_path is pg_catalog."""
    items.execute("create table v (id int, e vector(2))")
    items.execute("select panvel.create_distributed_table('v', 'id', 2)")
    items.execute("create index v_e on v using hnsw (e vector_cosine_ops) with (m = 4)")
    assert items.value("select count(*) from panvel.run_on_nodes('select count(*) from pg_indexes where indexname = ''v_e''') where result = '1'") == 2


def test_truncate(items):
    with items.connect(autocommit=False) as connection:
        connection.execute("create table local (id serial); insert into local default values")
        connection.execute("truncate items, local restart identity")
        assert connection.execute("select count(*) from items").fetchone() == (0,)
        connection.rollback()
    assert items.value("select count(*) from items") == 300
    items.execute("truncate table only items")
    assert on_shards(items, "select count(*) from {}.items") == [0] * 4


def test_vacuum_and_analyze(items, error_of):
    items.execute("delete from items where id <= 100")
    vacuums = "select vacuum_count + 10 * analyze_count from pg_stat_user_tables where schemaname = '{}' and relname = 'items'"
    with items.connect() as connection:
        connection.execute("create table local (id int)")
        connection.execute("vacuum (verbose, analyze, index_cleanup on, parallel 0) items, local")
        connection.execute("analyze items (id, n)")
        connection.execute("vacuum full items")
        assert connection.execute("select row_estimate from panvel.distributed_table").fetchone() == (200,)
        assert connection.execute("select vacuum_count from pg_stat_user_tables where relname = 'local'").fetchone() is not None
        connection.execute("begin")
        connection.execute("analyze items")
        error = error_of(connection.execute, "vacuum items")
        assert error.sqlstate == "25001"
        connection.execute("rollback")
        assert error_of(connection.execute, "vacuum (nonsense) items").sqlstate == "42601"
        assert error_of(connection.execute, "analyze items (nope)").sqlstate == "42703"
    assert all(count >= 21 for count in on_shards(items, vacuums))


def test_drop_in_every_way(items):
    def gone():
        assert items.query("select * from panvel.tables") == []
        for catalog in ["shard", "placement", "colocation"]:
            assert items.value(f"select count(*) from panvel.{catalog}") == 0
        for worker in items.workers:
            assert worker.query("select nspname from pg_namespace where nspname like 'panvel%'") == []

    with items.connect(autocommit=False) as connection:
        connection.execute("drop table items")
        connection.rollback()
    assert items.value("select count(*) from items") == 300
    items.execute("drop table items")
    gone()
    for create, drop in [
        ("create schema s; create table s.t (id int)", "drop schema s cascade"),
        ("create schema s; create table s.t (id int); create view public.v as select * from s.t", "drop table s.t cascade"),
        ("create schema s; create table s.t (id int)", "do $$begin execute 'drop table s.t'; end$$"),
        ("create role dropper; create schema s; create table s.t (id int); alter table s.t owner to dropper", "drop owned by dropper"),
    ]:
        items.execute("drop schema if exists s cascade; drop view if exists v")
        items.execute(create)
        if "dropper" in create:
            for worker in items.workers:
                worker.execute("create role dropper")
        items.execute("select panvel.create_distributed_table('s.t', 'id')")
        items.execute(drop)
        gone()
    items.execute("drop schema s cascade; drop role dropper")
    for worker in items.workers:
        worker.execute("drop role dropper")


def test_drop_with_part_of_a_table(items, error_of):
    """What CASCADE takes from the shell goes from the shards, but not the distribution column."""
    types = "create domain positive as int; create domain key as int"
    items.execute(types)
    for worker in items.workers:
        worker.execute(types)
    items.execute("create table t (id key, p positive, q positive check (q > 1), n int)")
    items.execute("select panvel.create_distributed_table('t', 'id')")
    items.execute("drop domain positive cascade")
    items.execute("insert into t values (1, 2)")
    assert items.query("select * from t") == [(1, 2)]
    assert check_shards(items, "t") == 8
    error = error_of(items.execute, "drop domain key cascade")
    assert error.sqlstate == "0A000" and 'distribution column "id"' in str(error)
    assert items.query("select * from t") == [(1, 2)]


def test_extension_stays_while_tables_need_it(items, error_of):
    assert error_of(items.execute, "drop extension panvel").sqlstate == "2BP01"
    error = error_of(items.execute, "drop extension panvel cascade")
    assert error.sqlstate == "2BP01" and "panvel.tables" in error.diag.message_hint
    assert items.value("select count(*) from items") == 300
    items.execute("drop table items")
    items.execute("drop extension panvel")
    items.execute("create extension panvel")


REFUSED = [
    "alter table items drop column id",
    "alter table items alter column id type bigint",
    "alter table items alter column n type int using random()",
    "alter table items add column x serial",
    "alter table items add column x int generated by default as identity",
    "alter table items add column x uuid default gen_random_uuid()",
    "alter table items add unique (n)",
    "alter table items drop constraint items_pkey, add primary key (n)",
    "alter table items set unlogged",
    "alter table items set access method heap",
    "alter table items set tablespace pg_default",
    "alter table items set (toast.autovacuum_enabled = off)",
    "alter table items disable trigger all",
    "alter table items inherit parent",
    "alter table items alter column n set default 1, disable rule x",
    "alter table items add foreign key (n) references parent",
    "alter table items add foreign key (n) references items",
    "alter table items add column x int references parent",
    "alter table part attach partition items for values in (1)",
    "create trigger x before insert on items for each row execute function suppress_redundant_updates_trigger()",
    "create constraint trigger x after insert on parent from items for each row execute function suppress_redundant_updates_trigger()",
    "create rule r as on insert to items do nothing",
    "create publication p for table items",
    "alter publication everything add table items",
    "create table child () inherits (items)",
    "create table fk (id int references items)",
    "alter table parent add foreign key (id) references items",
    "alter table items cluster on items_pkey",
]


def test_refused(items, error_of):
    items.execute("create role owner_of_items")
    for worker in items.workers:
        worker.execute("create role owner_of_items")
    try:
        items.execute("create table parent (id int primary key); create table part (id int, n int, label text) partition by list (id)")
        items.execute("create publication everything")
        items.execute("create table owned (id int); alter table owned owner to owner_of_items")
        items.execute("select panvel.create_distributed_table('owned', 'id')")
        with items.connect() as connection:
            for sql in REFUSED:
                error = error_of(connection.execute, sql)
                assert error.sqlstate == "0A000", (sql, error)
                assert error.diag.message_hint, sql
            assert connection.execute("select count(*) from items").fetchone() == (300,)
        for harmless in [
            "alter table items alter column n set default 9",
            "alter table items alter column label set default upper('x')",
            "comment on table items is 'x'",
            "comment on column items.n is 'y'",
            "create view v as select * from items",
            "create materialized view mv as select * from items",
            "refresh materialized view mv",
            "create schema elsewhere; alter table items set schema elsewhere; alter table elsewhere.items set schema public",
            "create table like_it (like items including all)",
            "begin; lock table items in share mode; commit",
        ]:
            items.execute(harmless)
        items.execute("insert into items (id) values (1000)")
        assert items.query("select n, label from items where id = 1000") == [(9, "X")]
    finally:
        items.execute("drop owned by owner_of_items; drop role owner_of_items")
        for worker in items.workers:
            worker.execute("drop role owner_of_items")


def test_failed_transaction_can_be_ended(items, error_of):
    with items.connect() as connection:
        connection.execute("begin")
        error_of(connection.execute, "select 1/0")
        assert error_of(connection.execute, "truncate items").sqlstate == "25P02"
        connection.execute("rollback")
        assert connection.execute("select count(*) from items").fetchone() == (300,)
