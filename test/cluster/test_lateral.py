"""LATERAL subqueries on distributed tables: asked ahead, with the answers of a plain table."""

import psycopg
import pytest

SETUP = """
    create table items (id int primary key, category int, e vector(3));
    insert into items select i, i % 7, format('[%s,%s,%s]', i * 37 % 101, i * 53 % 103, i % 13)::vector
        from generate_series(1, 700) i;
    create table plain_items as select * from items;
    select panvel.create_distributed_table('items', 'id', 5);
    create table queries (id int primary key, e vector(3), n int, category int);
    insert into queries select i, case when i % 50 > 0 then format('[%s,%s,%s]', i % 101, i * 7 % 103, i % 13)::vector end,
        i % 5, i % 9 from generate_series(1, 300) i;
    analyze queries; analyze items;
"""

QUERIES = [
    "select q.id, n.id from queries q, lateral (select i.id from {items} i order by i.e <-> q.e, i.id limit 3) n",
    "select q.id, n.id, n.d from queries q cross join lateral "
    "(select i.id, i.e <-> q.e as d from {items} i where i.category = q.category order by d, i.id limit 3) n",
    "select q.id, n.id from queries q left join lateral "
    "(select i.id from {items} i where i.category = q.category order by i.e <=> q.e, i.id limit 2) n on n.id % 2 = 0",
    "select q.id, n.id from queries q, lateral (select i.id from {items} i order by i.e <-> q.e, i.id limit q.n) n",
    "select q.id, n.id from queries q, lateral (select i.id from {items} i where i.id = q.id * 2 limit 1) n",
    "select q.id, n.id from queries q left join lateral "
    "(select i.id from {items} i where i.id = q.id * 3 limit 1) n on true",
    "select q.id, n.c from queries q, lateral (select count(*) as c from {items} i where i.category = q.category) n",
    "select a.id, b.id, n.id from queries a join queries b on b.id = a.id + 1, lateral "
    "(select i.id from {items} i where i.id > b.id order by i.e <-> a.e, i.id limit 2) n where a.id < 90",
    "select q.id, n.id, m.id from queries q, lateral (select i.id, i.e from {items} i order by i.e <-> q.e, i.id limit 2) n, "
    "lateral (select i.id from {items} i where i.id <> n.id order by i.e <-> n.e, i.id limit 2) m where q.id <= 60",
    "select q.id, (select max(n.id) from queries r, lateral "
    "(select i.id from {items} i order by i.e <-> r.e, i.id limit 2) n where r.id between q.id and q.id + 3) from queries q where q.id < 40",
    "select o.x, q.id, n.id from (values (1), (2)) o(x), lateral (select * from queries where id % 70 = o.x) q, lateral "
    "(select i.id from {items} i where i.id > o.x order by i.e <-> q.e, i.id limit 2) n",
    "with w as (select q.id, n.id as nearest from queries q, lateral "
    "(select i.id from {items} i order by i.e <-> q.e, i.id limit 1) n) select nearest, count(*) from w group by 1",
    "select q.id, n.id from (select * from queries order by e <-> '[1,1,1]', id limit 100) q, lateral "
    "(select i.id from {items} i order by i.e <-> q.e, i.id limit (select 2)) n",
    "select q.id, n.id from queries q, lateral (select i.id from {items} i where i.category = "
    "(select max(category) from queries where id <= q.id) order by i.e <-> q.e, i.id limit 2) n where q.id < 100",
]


@pytest.fixture(scope="module")
def lateral(shared_cluster):
    database = shared_cluster.database("lateral")
    database.execute(SETUP)
    yield database
    database.drop()


def answers(connection, sql):
    return [sorted(connection.execute(sql.replace("{items}", name)).fetchall(), key=repr)
            for name in ("items", "plain_items")]


@pytest.mark.parametrize("sql", QUERIES)
def test_equal_to_a_plain_table(lateral, sql):
    with lateral.connect() as connection:
        distributed, plain = answers(connection, sql)
        assert distributed == plain and len(plain) > 10
        with connection.transaction():  # on nodes inside a remote transaction
            connection.execute("insert into items values (1000, 1, '[1,1,1]')")
            connection.execute("insert into plain_items values (1000, 1, '[1,1,1]')")
            distributed, plain = answers(connection, sql)
            connection.execute("delete from items where id = 1000; delete from plain_items where id = 1000")
        assert distributed == plain


@pytest.mark.parametrize("sql", QUERIES[:6] + QUERIES[8:9])
def test_looks_ahead(lateral, sql):
    plan = "\n".join(row[0] for row in lateral.query("explain " + sql.replace("{items}", "items")))
    assert "Panvel Lookahead" in plan, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_prepared_and_read_by_steps(lateral, mode):
    sql = ("select q.id, n.id from queries q, lateral (select i.id from {items} i where i.category > $1 "
           "order by i.e <-> q.e, i.id limit $2) n order by 1, 2")
    with lateral.connect() as connection:
        connection.execute(f"set plan_cache_mode = {mode}")
        for name in ("items", "plain_items"):
            connection.execute(f"prepare {name}_q(int, int) as " + sql.replace("{items}", name))
        for values in ("3, 2", "5, 1", "9, 4", "0, 0", "null, 2"):
            assert connection.execute(f"execute items_q({values})").fetchall() == \
                connection.execute(f"execute plain_items_q({values})").fetchall()
    with lateral.connect(autocommit=False) as connection:
        plain = connection.execute(QUERIES[0].replace("{items}", "plain_items") + " order by 1, n.id").fetchall()
        connection.execute("declare c cursor for " + QUERIES[0].replace("{items}", "items"))
        rows = []
        while batch := connection.execute("fetch 7 from c").fetchall():
            rows += batch
            assert connection.execute("select count(*) from items").fetchone() == (700,)
        assert sorted(rows) == plain


def test_an_early_stop_leaves_the_session_usable(lateral):
    with lateral.connect() as connection:
        for limit in (1, 2, 5):
            sql = QUERIES[0] + f" where q.id < 250 limit {limit}"
            assert len(connection.execute(sql.replace("{items}", "items")).fetchall()) == limit
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select q.id, 1 / (q.id - 30), n.id from queries q, lateral "
                               "(select i.id from items i order by i.e <-> q.e limit 2) n")
        with pytest.raises(psycopg.errors.DataException):
            connection.execute("select q.id, n.id from queries q, lateral (select i.id from items i "
                               "order by i.e <-> (q.e::text::vector(3)::real[] || q.id::real)::vector limit 2) n")
        assert connection.execute("select count(*) from items").fetchone() == (700,)


def test_a_query_that_is_never_asked_for_fails_nothing(lateral):
    """The third row's would: it is read ahead, inside the transaction on the nodes too."""
    sql = ("select q.id, n.id from (select id, case when id < 3 then e::real[]::vector else '[1,2]' end as e "
           "from queries where id < 40 order by id) q, "
           "lateral (select i.id from {items} i order by i.e <-> q.e, i.id limit 1) n limit 2")
    with lateral.connect() as connection:
        distributed, plain = answers(connection, sql)
        assert distributed == plain and len(plain) == 2
        for isolation in ("read committed", "repeatable read"):
            with connection.transaction():
                connection.execute(f"set transaction isolation level {isolation}")
                connection.execute("insert into items values (2000, 1, '[900,900,900]')")
                for _ in range(2):
                    assert connection.execute(sql.replace("{items}", "items")).fetchall() == plain
                    assert connection.execute("select count(*) from items").fetchone() == (701,)
                raise psycopg.Rollback
        connection.execute("begin; insert into items values (2000, 1, '[900,900,900]'); savepoint s")
        with pytest.raises(psycopg.errors.DataException):
            connection.execute(sql.replace("{items}", "items").replace("limit 2", "limit 3"))
        connection.execute("rollback to s")
        assert connection.execute("select count(*) from items").fetchone() == (701,)
        connection.execute("commit")
        assert connection.execute("delete from items where id = 2000").rowcount == 1
