"""Joins that look rows up: for each row of one side the nodes are asked by a key, many rows in one message."""

import psycopg
import pytest

SETUP = """
    create table {0}items (id int primary key, code text unique, category int, e vector(3));
    create table {0}reviews (item int not null, n int, stars int, primary key (item, n));
    insert into {0}items select i, 'c' || i, nullif(i % 12, 11), format('[%s,%s,1]', i % 31, i % 17)::vector
        from generate_series(1, 6000) i;
    insert into {0}reviews select i % 3000, i / 3000, i % 5 from generate_series(0, 8999) i;
"""

# With lookahead.
AHEAD = [
    "select o.n, i.id, i.code from orders o join {items} i on i.id = o.item",
    "select o.n, i.id from orders o left join {items} i on i.id = o.item and i.category = o.n % 12",
    "select o.n, i.id from orders o left join {items} i on i.id = o.item where i.id is null or i.id % 2 = 0",
    "select o.n, i.id from orders o join {items} i on o.item = i.id and i.category < o.n",
    "select o.n, i.e from orders o, {items} i where i.id = o.item + 1 and o.n > 20",
    "select o.n, r.stars from orders o join {reviews} r on r.item = o.item and r.n = o.n % 3",
    "select o.n, i.id, 10 / (i.id - 18) from orders o join {items} i on i.id = o.item where o.n < 17",
    "select o.n, i.id from orders o join {items} i on i.id = o.big",
    "with near as (select id from {items} order by e <-> '[1,2,1]', id limit 20) "
    "select near.id, i.code from near join {items} i on i.id = near.id + 1",
]

# A few rows for each: without.
LOOKED_UP = [
    "select o.n, r.n, r.stars from orders o join {reviews} r on r.item = o.item",
    "select o.n, i.id from orders o join {items} i on i.code = o.code",
    "with near as materialized (select id from {items} order by e <-> '[1,2,1]', id limit 20) "
    "select near.id, r.n, r.stars from near left join {reviews} r on r.item = near.id",
    "select o.n from orders o where exists (select from {reviews} r where r.item = o.item and r.stars > o.n % 5)",
    "select o.n from orders o where not exists (select from {items} i where i.id = o.item)",
]


@pytest.fixture(scope="module")
def shop(shared_cluster):
    database = shared_cluster.database("lookups")
    for prefix in ("", "plain_"):
        database.execute(SETUP.format(prefix))
    database.execute("select panvel.create_distributed_table('reviews', 'item', 6);"
                     "alter table items drop constraint items_code_key; create index on items (code);"
                     "select panvel.create_distributed_table('items', 'id', colocate_with => 'reviews');"
                     "create table orders (n int primary key, item int, big bigint, code text);"
                     "insert into orders select i, case when i % 9 > 0 then i * 17 end, i * 17, 'c' || i * 5 "
                     "from generate_series(1, 60) i; analyze orders; analyze items; analyze reviews")
    yield database
    database.drop()


def named(sql, prefix):
    return sql.replace("{items}", f"{prefix}items").replace("{reviews}", f"{prefix}reviews")


def rows(connection, sql, prefix):
    return sorted(connection.execute(named(sql, prefix)).fetchall(), key=repr)


def plan_of(connection, sql):
    return "\n".join(row[0] for row in connection.execute("explain " + named(sql, "")).fetchall())


@pytest.mark.parametrize("sql", AHEAD + LOOKED_UP)
def test_equal_to_plain_tables(shop, sql):
    with shop.connect() as connection:
        if sql in LOOKED_UP:
            connection.execute("set enable_hashjoin = off; set enable_mergejoin = off; set enable_material = off")
        plan = plan_of(connection, sql)
        assert "Nested Loop" in plan and ("Panvel Lookahead" in plan) == (sql in AHEAD), plan
        plain = rows(connection, sql, "plain_")
        assert rows(connection, sql, "") == plain and plain
        with connection.transaction():
            connection.execute("insert into items values (0, 'c0'); insert into plain_items values (0, 'c0')")
            assert rows(connection, sql, "") == rows(connection, sql, "plain_")
            raise psycopg.Rollback


def test_a_key_asks_its_shard_only(shop):
    with shop.connect() as connection:
        plan = "\n".join(row[0] for row in connection.execute(
            "explain (analyze, costs off, timing off, summary off) "
            "select o.n, i.code from orders o join items i on i.id = o.item where o.n = 3").fetchall())
    assert "Shards: 1 of 6" in plan and plan.count("Node w") == 1, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_prepared(shop, mode):
    sql = "select o.n, i.code from orders o join {items} i on i.id = o.item + $1 where o.n < $2 order by 1"
    with shop.connect() as connection:
        connection.execute(f"set plan_cache_mode = {mode}")
        for prefix in ("", "plain_"):
            connection.execute(f"prepare {prefix}q(int, int) as " + named(sql, prefix))
        for values in ("0, 30", "5, 60", "null, 60", "0, null"):
            assert connection.execute(f"execute q({values})").fetchall() == \
                connection.execute(f"execute plain_q({values})").fetchall()
