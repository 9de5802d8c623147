"""Joins on the nodes: colocated tables, reference tables, and what must not be joined there."""

import psycopg
import pytest

SETUP = """
    create table {0}items (id int primary key, category int, name text, e vector(3));
    create table {0}reviews (item int not null, n int, stars int, body text, primary key (item, n));
    create table {0}categories (id int primary key, name text unique, parent int);
    create table {0}sizes (category int, size text);
    insert into {0}items select i, nullif(i % 12, 11), 'n' || i % 40, format('[%s,%s,1]', i % 31, i % 17)::vector
        from generate_series(1, 300) i;
    insert into {0}reviews select i * 3 % 330 + 1, i / 110, i % 5, 'b' || i from generate_series(0, 329) i;
    insert into {0}categories select i, 'c' || i, nullif(i / 3, 0) from generate_series(1, 14) i;
    insert into {0}sizes select i % 6, 's' || i from generate_series(1, 9) i;
"""

# Joined on the nodes: one scan in the plan.
PUSHED = [
    "select i.id, r.n, r.stars from {items} i join {reviews} r on r.item = i.id",
    "select i.id, r.n from {items} i, {reviews} r where r.item = i.id and i.category = 3 and r.stars > 2",
    "select i.id, r.n from {items} i left join {reviews} r on r.item = i.id",
    "select i.id, r.n from {items} i left join {reviews} r on r.item = i.id and r.stars > 3 where i.id < 50",
    "select i.id, r.n from {items} i left join {reviews} r on r.item = i.id where r.n is null or r.stars = 1",
    "select i.id, r.item, r.n from {items} i right join {reviews} r on r.item = i.id",
    "select i.id, r.item, r.n from {items} i full join {reviews} r on r.item = i.id",
    "select a.id, b.id from {items} a join {items} b on a.id = b.id and b.category > a.category - 1",
    "select i.id, c.name from {items} i join {categories} c on c.id = i.category",
    "select i.id, c.name from {items} i left join {categories} c on c.id = i.category and c.id <> 5",
    "select i.id, c.name, p.name from {items} i join {categories} c on c.id = i.category "
    "left join {categories} p on p.id = c.parent",
    "select i.id, r.n, c.name from {items} i join {reviews} r on r.item = i.id join {categories} c on c.id = i.category",
    "select c.name, p.name from {categories} c join {categories} p on p.id = c.parent",
    "select c.name, s.size from {categories} c left join {sizes} s on s.category = c.id",
    "select c.name, s.size from {categories} c full join {sizes} s on s.category = c.id",
    "select i.id from {items} i where exists (select from {reviews} r where r.item = i.id and r.stars = 4)",
    "select i.id from {items} i where not exists (select from {reviews} r where r.item = i.id)",
    "select i.id from {items} i where i.category in (select category from {sizes})",
    "select i.id from {items} i where i.id in (select item from {reviews} where stars = 2)",
    "select i.id, r.n from {items} i left join {reviews} r on r.item = i.id "
    "where not exists (select from {sizes} s where s.category = i.category and s.size < i.name)",
    "select i.id, r.n from {items} i join {reviews} r on r.item = i.id where i.id = 31",
    "select i.id, r.n from {items} i join {reviews} r on r.item = i.id where i.id = 31 and r.item = 31",
    "select i.id, c.name from {items} i, {categories} c where i.id = 31",
    "select count(*) from {items} i join {reviews} r on r.item = i.id",
    "select c.name, count(*), sum(r.stars), avg(r.stars) from {items} i join {reviews} r on r.item = i.id "
    "join {categories} c on c.id = i.category group by c.name",
    "select i.id, r.n, i.e <-> '[1,2,3]' as d from {items} i join {reviews} r on r.item = i.id "
    "order by i.e <-> '[1,2,3]', i.id, r.n limit 7",
    "select c.name, i.id from {items} i left join {categories} c on c.id = i.category "
    "order by c.name desc nulls last, i.id limit 20 offset 5",
    "select i.name || c.name, i.e is null from {items} i join {categories} c on c.id = i.category where lower(c.name) > 'c3'",
    "select i.id, r.n from {items} i join {reviews} r on r.item = i.id where i.id in (3, 31, 61)",
    "select 1 from {items} i join {reviews} r on r.item = i.id",
    "select count(*) from {items} i, {reviews} r, {reviews} s, {categories} c, {sizes} z where r.item = i.id and s.item = r.item "
    "and c.id = i.category and z.category = c.id",
]

# Not joined on the nodes, or not entirely.
LOCAL = [
    "select i.id, r.item from {items} i join {reviews} r on r.stars = i.id",
    "select a.id, b.id from {items} a join {items} b on b.id = a.category",
    "select c.name, i.id from {categories} c left join {items} i on i.category = c.id",
    "select c.name, i.id from {categories} c full join {items} i on i.category = c.id",
    "select c.name from {categories} c where exists (select from {items} i where i.category = c.id)",
    "select c.name from {categories} c where not exists (select from {items} i where i.category = c.id)",
    "select a.id, b.id from {items} a cross join {items} b where a.id < 10 and b.id < 10",
    "select i.id, r.n from {items} i join {reviews} r on r.item = i.id and random() < 2",
    "select i.id, g from {items} i join generate_series(1, 5) g on g = i.id",
    "select i.id, r.n from {items} i full join (select * from {reviews} where stars > 2) r on r.item = i.id",
    "select i.id, x.z from {items} i left join (select item, coalesce(n, 7) as z from {reviews}) x on x.item = i.id",
    "select i, r from {items} i join {reviews} r on r.item = i.id where i.id < 20",
    "select i.id, r.tableoid is null from {items} i left join {reviews} r on r.item = i.id",
    "select r.n, b.id from {items} i left join {reviews} r on i.id = r.item left join {items} b on b.id = r.n",
    "select i.id, (select count(*) from {reviews} r join {items} b on b.id = r.item where r.item = i.id) from {items} i where i.id < 40",
    "select i.id, s.n from {items} i cross join lateral (select r.n from {reviews} r join {categories} c on c.id = r.stars "
    "where r.item = i.id order by r.n limit 1) s order by 1, 2",
]


@pytest.fixture(scope="module")
def joined(shared_cluster):
    database = shared_cluster.database("joins")
    database.execute(SETUP.format("d_") + SETUP.format("p_"))
    database.execute("select panvel.create_distributed_table('d_items', 'id', 5);"
                     "select panvel.create_distributed_table('d_reviews', 'item', colocate_with => 'd_items');"
                     "select panvel.create_reference_table('d_categories');"
                     "select panvel.create_reference_table('d_sizes')")
    database.execute("analyze d_items, d_reviews, d_categories, d_sizes")
    yield database
    database.drop()


def table(sql, prefix):
    for name in ("items", "reviews", "categories", "sizes"):
        sql = sql.replace("{%s}" % name, prefix + name)
    return sql


def same_rows(connection, sql):
    distributed = connection.execute(table(sql, "d_")).fetchall()
    plain = connection.execute(table(sql, "p_")).fetchall()
    if "order by" not in sql:
        distributed, plain = sorted(map(repr, distributed)), sorted(map(repr, plain))
    return distributed, plain


def plan_of(connection, sql, options="verbose"):
    return "\n".join(row[0] for row in connection.execute(f"explain ({options}) " + table(sql, "d_")))


@pytest.mark.parametrize("sql", PUSHED)
def test_joined_on_the_nodes(joined, sql):
    with joined.connect() as connection:
        plan = plan_of(connection, sql)
        assert plan.count("Custom Scan") == 1, plan
        assert "Join: " in plan or "Query: whole" in plan, plan
        distributed, plain = same_rows(connection, sql)
        assert distributed == plain


@pytest.mark.parametrize("sql", LOCAL)
def test_joined_here(joined, sql):
    with joined.connect() as connection:
        distributed, plain = same_rows(connection, sql.replace(" i, r ", " i::text, r::text "))
        assert distributed == plain
        plan = plan_of(connection, sql)
        assert plan.count("Custom Scan") > 1 or "Function Scan" in plan or "random" in plan, plan


@pytest.mark.parametrize("sql", PUSHED + LOCAL)
def test_whatever_the_costs_say(joined, sql):
    """With other join methods favoured the planner combines scans and joins differently."""
    with joined.connect() as connection:
        connection.execute("set enable_hashjoin = off; set enable_mergejoin = off; set enable_material = off")
        distributed, plain = same_rows(connection, sql.replace(" i, r ", " i::text, r::text "))
        assert distributed == plain


@pytest.mark.parametrize("sql", PUSHED + LOCAL)
def test_genetic_optimizer(joined, sql):
    """It tries orders of joins in memory that it frees after each."""
    with joined.connect() as connection:
        connection.execute("set geqo_threshold = 2; set from_collapse_limit = 20; set join_collapse_limit = 20")
        distributed, plain = same_rows(connection, sql.replace(" i, r ", " i::text, r::text "))
        assert distributed == plain


def test_a_key_asks_one_shard_for_the_whole_join(joined):
    with joined.connect() as connection:
        for condition in ("i.id = 31", "r.item = 31", "i.id = 31 and r.item = 31"):
            plan = plan_of(connection, f"select i.id, c.name from {{items}} i join {{reviews}} r on r.item = i.id "
                                       f"join {{categories}} c on c.id = i.category where {condition}", "analyze, timing off")
            assert "Shards: 1 of 5" in plan and plan.count("Custom Scan") == 1, plan
        connection.execute("set plan_cache_mode = force_generic_plan")
        connection.execute(table("prepare q as select i.id, r.n from {items} i join {reviews} r on r.item = i.id "
                                 "where i.id = $1 order by 2", "d_"))
        assert connection.execute("execute q(31)").fetchall() == joined.query("select 31, n from p_reviews where item = 31 order by 2")
        plan = "\n".join(row[0] for row in connection.execute("explain analyze execute q(31)"))
        assert "Shards: 1 of 5" in plan and plan.count("Custom Scan") == 1, plan


def test_explain_shows_the_join(joined):
    with joined.connect() as connection:
        plan = plan_of(connection, "select i.id from {items} i left join ({categories} c join {sizes} s on s.category = c.id) "
                                   "on c.id = i.category where i.id < 5")
        assert "Join: d_items i LEFT JOIN (d_categories c JOIN d_sizes s)" in plan, plan
        assert "UNION ALL" in plan


def test_reads_own_writes(joined):
    sql = "select count(*) from d_items i join d_reviews r on r.item = i.id join d_categories c on c.id = i.category"
    with joined.connect() as connection:
        before = connection.execute(sql).fetchone()[0]
        with connection.transaction(force_rollback=True):
            connection.execute("insert into d_categories values (77, 'new')")
            connection.execute("insert into d_items values (1000, 77)")
            connection.execute("insert into d_reviews select 1000, i from generate_series(1, 6) i")
            assert connection.execute(sql).fetchone()[0] == before + 6
        assert connection.execute(sql).fetchone()[0] == before


def test_locked_and_updated_local_rows(joined):
    """A recheck of a locked local row cannot be done over a join: it is then joined here."""
    with joined.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("create temp table mine as select i as id, 0 as n from generate_series(1, 50) i")
        connection.execute("update mine set n = r.stars from d_items i join d_reviews r on r.item = i.id "
                           "where i.id = mine.id and r.n = 0")
        assert connection.execute("select count(*) from mine where n > 0").fetchone()[0] > 5
        rows = connection.execute("select mine.id from mine join d_items i on i.id = mine.id join d_categories c "
                                  "on c.id = i.category order by 1 for update of mine").fetchall()
        assert len(rows) == 42


def test_views_with_a_barrier_keep_it(joined):
    with joined.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("create view few with (security_barrier) as select * from d_items where category = 3")
        rows = connection.execute("select f.id, r.n from few f join d_reviews r on r.item = f.id").fetchall()
        assert sorted(rows) == sorted(connection.execute(
            "select f.id, r.n from p_items f join p_reviews r on r.item = f.id where f.category = 3").fetchall())


def test_policies_hold_below_joins(joined):
    """Joined on the nodes where no condition beside the policy's could tell of the rows that it hides."""
    role = "joins_reader"
    for server in joined.cluster.servers:
        server.execute(f"create role {role} login")
    try:
        for prefix in ("d_", "p_"):
            joined.execute(f"alter table {prefix}items enable row level security;"
                           f"create policy few on {prefix}items using (category <> 7 and id < 250);"
                           f"grant select on {prefix}items, {prefix}reviews, {prefix}categories to {role}")
        with joined.connect() as connection:
            connection.execute(f"set role {role}")
            for sql, together in [
                ("select i.id, r.n from {items} i join {reviews} r on r.item = i.id", True),
                ("select i.id, r.n from {items} i join {reviews} r on r.item = i.id and r.n = i.category where i.id > 20", True),
                ("select i.id, c.name from {items} i left join {categories} c on c.id = i.category", True),
                ("select i.id, r.n from {items} i join {reviews} r on r.item = i.id and 10 / (i.category - 7) < r.n", False),
                ("select i.id, r.n from {items} i join {reviews} r on r.item = i.id where 10 / (i.category - 7) < 3", False),
            ]:
                distributed, plain = same_rows(connection, sql)
                assert distributed == plain and plain
                assert (plan_of(connection, sql).count("Custom Scan") == 1) == together, sql
    finally:
        for prefix in ("d_", "p_"):
            joined.execute(f"drop policy if exists few on {prefix}items; alter table {prefix}items disable row level security")
        joined.execute(f"drop owned by {role}")
        for server in joined.cluster.servers:
            server.execute(f"drop role {role}")
