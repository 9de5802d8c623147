"""ALTER TABLE and its kin on distributed tables: the shards become what the shell does."""

import pytest

from shard_definitions import check_shards

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
    for (relation,) in cluster.query("select relation::regclass::text from panvel.tables"):
        assert check_shards(cluster, relation) >= 3


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
    "alter table items cluster on items_key",
    "alter table items set without cluster",
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
    check_all(items)
    with items.connect() as connection:
        for sql in STATEMENTS:
            try:
                connection.execute(sql)
            except Exception as error:
                raise AssertionError(sql) from error
            try:
                check_all(items)
            except AssertionError as error:
                raise AssertionError(f"after {sql}") from error
