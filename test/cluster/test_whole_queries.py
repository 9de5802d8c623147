"""Queries that one shard can answer go to its node as they are written; others do not."""

import threading

import psycopg
import pytest

from panvel_test import wait_until

COLUMNS = {
    "items": "(gone int, id int primary key, category text, price float8, at timestamptz, e vector(3))",
    "reviews": "(item int not null, n int, stars int, body varchar(20), primary key (item, n))",
    "categories": "(name text primary key, weight int)",
}
ROWS = {
    "items": "select i, 'cat' || i % 7, nullif(i % 9, 0) / 3.0, timestamptz '2024-01-01' + i * interval '1 hour', "
             "format('[%s,%s,1]', i % 5, i)::vector from generate_series(1, 200) i",
    "reviews": "select i * 7 % 220 + 1, i / 220, i % 6, 'body ' || i from generate_series(0, 599) i",
    "categories": "select 'cat' || i, i from generate_series(0, 8) i",
}


@pytest.fixture(scope="module")
def tables(shared_cluster):
    """`d_items`, ... distributed and `p_items`, ... plain, of equal content; views over both; read only."""
    database = shared_cluster.database("whole")
    for prefix in "dp":
        for name, columns in COLUMNS.items():
            database.execute(f"create table {prefix}_{name} {columns}")
        database.execute(f"alter table {prefix}_items drop column gone")
    database.execute("select panvel.create_distributed_table('d_items', 'id', 6);"
                     "select panvel.create_distributed_table('d_reviews', 'item', colocate_with => 'd_items');"
                     "select panvel.create_reference_table('d_categories')")
    for prefix in "dp":
        for name, rows in ROWS.items():
            database.execute(f"insert into {prefix}_{name} {rows}")
        database.execute(f"create view {prefix}_view as select i.*, (select count(*) from {prefix}_reviews where item = i.id) n "
                         f"from {prefix}_items i;"
                         f"create view {prefix}_barrier with (security_barrier) as select * from {prefix}_items where price > 1;"
                         f"create table {prefix}_local as select 5 as id")
    database.execute("analyze")
    database.execute("create table d_other (id int primary key, v text);"
                     "select panvel.create_distributed_table('d_other', 'id', 6);"
                     "create table p_other (like d_other)")
    yield database
    database.drop()


def answers(connection, sql):
    return [connection.execute(sql.replace("T_", prefix)).fetchall() for prefix in ("d_", "p_")]


def plan(connection, sql):
    return "\n".join(row[0] for row in connection.execute("explain (verbose) " + sql.replace("T_", "d_")))


def is_whole(connection, sql):
    return "Query: whole" in plan(connection, sql)


WHOLE = [
    "select i.category, r.n, rank() over (order by r.stars, r.n) from T_items i join T_reviews r on r.item = i.id where i.id = 5 order by 2",
    "select i.id, r.n from T_items i left join T_reviews r on r.item = 5 and r.stars > 1 where i.id = 5 order by 2",
    "select c.name, i.id from T_categories c left join T_items i on i.category = c.name and i.id = 5 order by 1",
    "select id, 'i' from T_items where id = 5 union all select item, body from T_reviews where 5 = item order by 1, 2",
    "with r as materialized (select * from T_reviews where item = 5) select count(*), (select category from T_items where id = 5) from r",
    "select v.category, v.n, r.body from T_view v join T_reviews r on r.item = v.id where v.id = 5 order by 3",
    "select s.id, s.c from (select id, count(*) over () c from T_items where id = 5) s, generate_series(1, 3) g",
    "select array_agg(n order by n desc), percentile_cont(0.5) within group (order by stars) from T_reviews where item = 5",
    "select stars, count(*) from T_reviews where item = 5 group by rollup (stars) having count(*) > 0 order by 1 nulls first",
    "select exists (select from T_items where id = 5), (select max(stars) from T_reviews where item = 5)",
    "select r.body::varchar(6), left(r.body, 5) collate \"C\" from T_items i join T_reviews r on r.item = i.id where i.id = 5 and r.body::varchar(6) like 'body%' order by 1",
    "select distinct on (stars) stars, n from T_reviews where item = 5 order by stars, n desc limit 2 offset 1",
    "select i.id, e <-> '[1,2,3]', now() > at, current_date > date '2020-01-01' from T_items i, T_categories c where i.id = 5 and c.weight < 3",
    "select q.id, r.n from T_items q cross join lateral (select n from T_reviews where item = q.id order by n limit 2) r where q.id = 5 order by 2",
    "select case stars when 1 then 'one' else 'other' end, count(*) from T_reviews where item = 5 group by 1 order by 1",
    "select \"panvel 0 1\".id from T_items as \"panvel 0 1\" join T_reviews r on r.item = id where id = 5",
    "select a.weight from T_categories a join T_categories b on a.weight = b.weight + 1 order by 1",
    "select id, extract(month from at), at at time zone 'UTC' from T_items where id = 5 union select 1, 2, null order by 1",
]

# The plan is another one: no shard has all rows that these can use, or a node would not give the same answer.
NOT_WHOLE = [
    "select i.id, r.n from T_items i left join T_reviews r on r.item = i.id and i.id = 5 order by 1, 2",
    "select i.id, r.n from T_items i full join T_reviews r on r.item = i.id and r.item = 5 order by 1, 2",
    "select i.id, r.item from T_items i, T_reviews r where i.id = 5 and r.item = 6 order by 1",
    "select i.id, r.item from T_items i, T_reviews r where i.id = 5 order by 1, 2",
    "select i.id, r.item from T_items i join T_reviews r on r.item = i.id where i.id = 5 or r.stars = 3 order by 1, 2",
    "select i.id, r.item from T_items i join T_reviews r on r.n = i.id where i.id = 5 order by 1, 2",
    "select count(*) from T_items where id = 5 union all select count(*) from T_reviews",
    "select i.id, (select count(*) from T_reviews) from T_items i where i.id = 5",
    "select s.id, s.c from (select id, count(*) over () c from T_items) s join T_reviews r on r.item = s.id where s.id = 5",
    "select s.id from (select id from T_items order by price, id limit 9) s join T_reviews r on r.item = s.id where s.id = 5",
    "select i.id, random() < 2 from T_items i join T_reviews r on r.item = i.id where i.id = 5",
    "select b.id, r.n from T_barrier b join T_reviews r on r.item = b.id where b.id = 5 order by 2",
    "select i.id, l.id from T_items i join T_local l on l.id = i.id where i.id = 5",
    "select i.id, o.v from T_items i left join T_other o on o.id = i.id where i.id = 5",
    "select i.tableoid is null, r.n from T_items i join T_reviews r on r.item = i.id where i.id = 5 order by 2",
    "select n from T_items i join T_reviews r on r.item = i.id where i.id = 5 order by n fetch first 1 row with ties",
    "select count(*) from T_items where not id = 5 union all select count(*) from T_reviews where item = 5",
]


@pytest.mark.parametrize("sql", WHOLE)
def test_whole(tables, sql):
    with tables.connect() as connection:
        distributed, plain = answers(connection, sql)
        assert distributed == plain
        assert is_whole(connection, sql)
        connection.execute("declare c scroll cursor with hold for " + sql.replace("T_", "d_"))
        assert connection.execute("fetch all from c").fetchall() == plain
        assert connection.execute("fetch backward all from c").fetchall() == plain[::-1]


@pytest.mark.parametrize("sql", NOT_WHOLE)
def test_not_whole(tables, sql):
    with tables.connect() as connection:
        distributed, plain = answers(connection, sql)
        assert distributed == plain
        assert not is_whole(connection, sql)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_parameters(tables, mode):
    """One plan for every key, another shard for each; NULL too."""
    sql = ("select i.id, i.category, r.n, $2::int, case when $2 = 0 then 0 else 10 / $2 end from T_items i "
           "left join T_reviews r on r.item = i.id where i.id = $1 union all select $1, null, null, count(*)::int, 0 "
           "from T_reviews where item = $1 order by 1, 2, 3 limit $2 + 3")
    with tables.connect() as connection:
        connection.execute(f"set plan_cache_mode = {mode}")
        for prefix in ("d_", "p_"):
            connection.execute(f"prepare {prefix}query (int, int) as " + sql.replace("T_", prefix))
        assert "Query: whole" in plan(connection, "execute d_query(5, 1)")
        for values in ["5, 1", "6, 0", "7, 2", "199, 5", "1000, 1", "null, 2", "5, null"]:
            distributed, plain = (connection.execute(f"execute {prefix}query({values})").fetchall() for prefix in ("d_", "p_"))
            assert distributed == plain, values


def test_in_plpgsql(tables):
    tables.execute("""create function per_item(key int) returns text language plpgsql as $$
        declare total text; begin
            select string_agg(i.category || r.body, ',' order by r.n) into total
            from d_items i join d_reviews r on r.item = i.id where i.id = key;
            return total; end $$""")
    assert tables.query("select per_item(i) from generate_series(1, 30) i") == tables.query(
        "select (select string_agg(i.category || r.body, ',' order by r.n) from p_items i join p_reviews r on r.item = i.id "
        "where i.id = g) from generate_series(1, 30) g")


def test_rights_are_checked(tables):
    """Also those on a table inside a subquery, and of one column only."""
    servers = [tables.server, *(worker.server for worker in tables.workers)]
    for server in servers:
        server.execute("create role whole_reader login")
    try:
        tables.execute("grant select on d_items to whole_reader; grant select (item) on d_reviews to whole_reader")
        with tables.connect(user="whole_reader") as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="d_reviews"):
                connection.execute("select i.id, (select max(stars) from d_reviews where item = 5) from d_items i where i.id = 5")
    finally:
        for database in [tables, *tables.workers]:
            database.execute("drop owned by whole_reader")
        for server in servers:
            server.execute("drop role whole_reader")


def test_row_locks_of_a_join(cluster):
    cluster.execute("create table a (id int primary key, v int); create table b (id int primary key, v int);"
                    "select panvel.create_distributed_table('a', 'id', 4);"
                    "select panvel.create_distributed_table('b', 'id', colocate_with => 'a');"
                    "insert into a select i, i from generate_series(1, 9) i; insert into b select i, i from generate_series(1, 9) i")
    sql = "select a.v, b.v from a join b on b.id = a.id where a.id = 3 for update"
    with cluster.connect(autocommit=False) as one, cluster.connect() as other:
        assert one.execute(sql + " of b").fetchall() == [(3, 3)]
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(sql + " nowait")
        assert other.execute(sql + " skip locked").fetchall() == []
        assert other.execute(sql + " of a nowait").fetchall() == [(3, 3)]
        one.execute("update b set v = 7 where id = 3")
        with cluster.connect() as waiting:
            waiting.execute("set statement_timeout = '20s'")
            rows = []
            thread = threading.Thread(target=lambda: rows.extend(waiting.execute(sql).fetchall()))
            thread.start()
            wait_until(lambda: any(worker.value("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")
                                   for worker in cluster.workers), 15)
            one.commit()
            thread.join()
        assert rows == [(3, 7)]  # the row as the other transaction left it


@pytest.mark.parametrize("part", ["case when i.id = 5 then 1 else 10 / $1 end", "coalesce(i.id, 10 / $1)",
                                  "case when i.id = 5 or 10 / $1 > 3 then 1 end", "case when i.id < 5 then 1 else 10 / $1 end"])
def test_an_error_only_where_a_row_asks_for_it(tables, part):
    """The node's planner knows the parameter's value and would compute 10 / 0 ahead."""
    with tables.connect() as connection:
        connection.execute("set plan_cache_mode = force_generic_plan")
        answers = []
        for prefix in ("d_", "p_"):
            connection.execute(f"prepare {prefix}raises (int) as select {part}, rank() over (order by r.n) from T_items i "
                               "join T_reviews r on r.item = i.id where i.id = 5 order by 2".replace("T_", prefix))
            try:
                answers.append(connection.execute(f"execute {prefix}raises (0)").fetchall())
            except psycopg.errors.DivisionByZero as error:
                answers.append(error.sqlstate)
        assert answers[0] == answers[1]
        assert (answers[0] == "22012") == ("i.id < 5" in part)
