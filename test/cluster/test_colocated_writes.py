"""Joins and subqueries between colocated tables and reference tables are written by the shards themselves."""

import pytest

from test_writes import Pair

TABLES = [
    "create table items (id int primary key, n int, label varchar(8), price numeric(6, 2), tags text[], twice int generated always as (n * 2) stored)",
    "create table parts (item int, part int, n int, note text, primary key (item, part))",
    "create table kinds (n int, title text)",
    "create table local (n int)",
    "create table copies (id int not null, n int default 7, label varchar(4), seq bigserial)",
    "create table totals (id int not null, n bigint, made date default current_date, note text default 'none')",
    "insert into items select g, g % 5, 'i' || g, g / 3.0, array['a', g::text] from generate_series(1, 60) g",
    "insert into parts select g, p, g * p, 'n' || g from generate_series(1, 80, 2) g, generate_series(0, 2) p where g % 3 <> p",
    "insert into kinds select g, 'kind ' || g from generate_series(0, 3) g",
    "insert into local select generate_series(1, 9)",
]
DISTRIBUTED = ["items", "parts", "copies", "totals"]

# Each shard does its part.
BY_SHARDS = [
    "update items set n = parts.n from parts where item = id and part = 1",
    "update items i set label = left(note, 3) || i.n::text, price = price * 1.5 from parts p where p.item = i.id and p.part = 2 returning i.id, i.label, i.price, p.n + i.n as sum",
    "update items set label = title from parts p, kinds k where item = id and part = 0 and k.n = p.n % 4 returning title, id",
    "update items set tags[2] = note from parts where item = id and part = 1",
    "update items set n = (select sum(n) from parts where item = id) where id < 30 returning *",
    "update items set n = (select max(p.n) from parts p where p.item = items.id and p.note <> items.label)",
    "update items set label = case when exists (select from parts where item = id and part = 2) then 'yes' else 'no' end",
    "update items set n = j.n from parts left join items j on j.id = parts.item and j.n > 10 where parts.item = items.id and part = 1",
    "update items i set n = x.n from (select p.item, p.n from parts p join items j on j.id = p.item where p.part = 1) x where x.item = i.id",
    "update items i set n = x.n from parts p, lateral (select q.n from parts q where q.item = p.item order by q.part desc limit 1) x where p.item = i.id and p.part = 1 returning i.id, x.n",
    "update items set n = parts.n from parts where item = id and part = 1 and id = 7 returning items.n",
    "update items set n = parts.n from parts where item = id and part = 1 and id = 8 and item = 9",
    "update items set n = p.n from parts p where p.item = 7 and items.id = 7 and p.part = 1",
    "update items set price = 1000000 + items.n from parts where item = id",
    "update items set label = 'longer than eight' || note from parts where item = id",
    "update items set n = null, label = default from parts where item = id and part = 0 and now() - now() = interval '0'",
    "delete from items using parts where item = id and part = 1 and parts.n > 100 returning items.id, note",
    "delete from items where not exists (select from parts where item = id and part > 0) and n > 1",
    "delete from parts using items, kinds where id = item and kinds.n = items.n % 5 and part = 2",
    "delete from parts p using parts q where q.item = p.item and q.part = 0 and p.part = 1 returning p.item",
    "insert into copies (id, n, label, seq) select id, n, 'c', 5 from items where id % 2 = 0",
    "insert into totals select item, sum(n) from parts group by item",
    "insert into totals (note, id) select 'd', i.id from (select distinct i.id from items i) i",
    "insert into parts select id, 0, n from items on conflict do nothing",
    "insert into totals (id, n) select distinct item, n % 3 from parts where part = 1",
    "insert into totals (id, n, note) select i.id, coalesce(p.n, 0) + k.n, k.title from items i left join parts p on p.item = i.id join kinds k on k.n = i.n % 4",
    "insert into totals (id, n) select i.id, (select max(n) from parts p where p.item = i.id) from items i where exists (select from parts p where p.item = i.id and p.part = 0)",
    "insert into totals (id, n) select x.id, x.total from (select i.id, count(*) as total from items i join parts on item = i.id group by i.id having count(*) > 1) x",
    "insert into totals (id, n) select id, n from totals where id = 5",
    "insert into copies (id, label, seq) select item, 'too long' || note, 1 from parts",
]
# The same rows come to the coordinator and go back.
BY_ROWS = [
    "update items set n = local.n from local where local.n = id",
    "update items set n = parts.n from parts where parts.n = id and part = 1 and item < 9",
    "update items set n = parts.n from parts where item = id + 1 and part = 1",
    "update items set n = parts.n from parts where item = id and part = 1 and random() < 2",
    "update items set id = id, n = 3 from parts where item = id and part = 1",
    "update items set n = 1 from parts where item = id and part = 1 returning items",
    "update items set n = x.n from (select item, n from parts where part = 1 order by n, item limit 10) x where x.item = id",
    "update items set n = (select max(n) from parts) where exists (select from parts where item <> id)",
    "with p as (select item, n from parts where part = 1) update items set n = p.n from p where item = id",
    "insert into copies (id) select id from items where id = 3",
    "insert into totals (note, id) select distinct on (i.id) 'd', i.id from items i",
    "insert into parts select id, 0, n from items on conflict (item, part) do update set n = excluded.n",
    "insert into totals (id, n) select n, id from items where n is not null",
    "insert into totals (id, n) select id, n from items order by id limit 5",
    "insert into totals (id, n) select id, row_number() over (order by id) from items",
    "insert into totals (id, n) select id, n from items union select item, n from parts",
    "insert into totals (id, n) select i.id, p.n from items i join parts p on p.n = i.id",
    "insert into totals (id, n) select id, n from items where id < 5 returning *",
    "insert into totals (id) select g from generate_series(1, 3) g",
    "insert into totals (id, n) select p.item, l.n from local l left join parts p on p.item = l.n where p.item is not null and p.part = 1",
    "insert into totals (id, n) select n, 1 from kinds",
]


@pytest.fixture
def pair(cluster):
    pair = Pair(cluster, *TABLES).distribute("items", "id", shard_count=5)
    for table, column in (("parts", "item"), ("copies", "id"), ("totals", "id")):
        pair.distribute(table, column, colocate_with="'items'")
    pair.connections["dist"].execute("select panvel.create_reference_table('kinds')")
    for connection in pair.connections.values():
        connection.execute("analyze items, parts, kinds, local")
    return pair


def plan_of(pair, sql):
    return "\n".join(line for (line,) in pair.connections["dist"].execute(f"explain (verbose, costs off) {sql}").fetchall())


def test_shards_write_by_themselves(pair):
    for sql in BY_SHARDS:
        plan = plan_of(pair, sql)
        assert plan.startswith("Custom Scan (Panvel ") and "->" not in plan and "Rows" not in plan, f"{sql}\n{plan}"
        pair.same(sql, DISTRIBUTED)
    assert "Shards: 1 of 5" in plan_of(pair, "update items set n = parts.n from parts where item = id and item = 7")


def test_rows_are_fetched_where_shards_do_not_suffice(pair):
    for sql in BY_ROWS:
        assert "->" in plan_of(pair, sql), sql
        pair.same(sql, DISTRIBUTED)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_prepared(pair, mode):
    for connection in pair.connections.values():
        connection.execute(f"set plan_cache_mode = {mode}")
        connection.prepare_threshold = 0
    for key in (1, 7, 8, 61):
        pair.same("update items set n = parts.n + %s, label = %s from parts where item = id and part = 1 and id > %s", ["items"],
                  [key, "x", key])
        pair.same("update items set n = parts.n from parts where item = id and id = %s returning items.id, %s::int", ["items"],
                  [key, key])
        pair.same("insert into totals (id, n, note) select item, sum(n), %s from parts where item <> %s group by item", ["totals"],
                  ["y", key])


def test_names_are_quoted(cluster):
    pair = Pair(
        cluster,
        'create table "A b" ("Id" int primary key, "select" int, "panvel 0 1" text)',
        'create table "update" ("Id" int primary key, "from" int)',
        """insert into "A b" select g, 0, 'x' from generate_series(1, 20) g""",
        'insert into "update" select g, g from generate_series(1, 20, 3) g',
    ).distribute('"A b"', "Id", shard_count=3).distribute('"update"', "Id", colocate_with="""'"A b"'""")
    tables = ['"A b"', '"update"']
    for sql in (
        'update "A b" set "select" = u."from" from "update" u where u."Id" = "A b"."Id" returning "A b"."Id", "panvel 0 1"',
        'update "A b" as "panvel 0 2" set "select" = 1 from "update" where "update"."Id" = "panvel 0 2"."Id"',
        'delete from "update" using "A b" where "A b"."Id" = "update"."Id" and "select" = 1 and "from" > 9',
        """insert into "A b" select "Id" + 0, 1, 'y' from "update" where false""",
    ):
        plan_of(pair, sql)
        for table in tables:
            left, right = (sorted(pair.connections[side].execute(f"select * from {table}").fetchall()) for side in ("dist", "plain"))
            assert left == right
        pair.same(sql, [])
