"""ANALYZE: column statistics of a distributed table, and what the planner makes of them."""

import json

import pytest

from panvel_test import wait_until

ROWS = """
    select i, i % 4, case when i % 10 = 0 then null else 'w' || i % 1000 end, i % 100 = 0, (i / 100) * 1.5,
           format('[%s,%s,%s]', i % 11, i % 13, i % 17)::vector, repeat(md5(i::text), 40),
           array['t' || i % 3], to_tsvector('simple', 'x' || i % 5)
    from generate_series(1, 6000) i"""
COLUMNS = "(id int primary key, kind int, word text, rare boolean, n numeric, e vector(3), long text, tags text[], ts tsvector)"
COMPARED = ["id", "kind", "word", "rare", "n", "tags", "ts"]


@pytest.fixture
def analyzed(cluster):
    cluster.execute(f"create table d {COLUMNS}; create table p {COLUMNS}; insert into p {ROWS}; insert into d {ROWS}")
    cluster.execute("create index on d (word); create index on d (lower(word)); create index on p (lower(word))")
    cluster.execute("select panvel.create_distributed_table('d', 'id', 5)")
    cluster.execute("analyze p")
    cluster.execute("analyze d")
    return cluster


def rows_of(database, sql):
    return json.loads(json.dumps(database.value("explain (format json) " + sql)))[0]["Plan"]["Plan Rows"]


def test_statistics_are_those_of_a_plain_table(analyzed):
    sql = ("select attname, null_frac, n_distinct, most_common_vals::text is null from pg_stats "
           "where tablename = %s and attname = any (%s) order by 1")
    plain = analyzed.query(sql, ["p", COMPARED])
    distributed = analyzed.query(sql, ["d", COMPARED])
    assert [row[0] for row in distributed] == sorted(COMPARED)
    for mine, theirs in zip(distributed, plain):
        assert mine[3] == theirs[3], (mine, theirs)
        assert mine[1] == pytest.approx(theirs[1], abs=0.02)
        assert mine[2] == pytest.approx(theirs[2], rel=0.1), (mine, theirs)
    # every row is in the sample: so are the ends of the histogram
    bounds = "select histogram_bounds::text::int[] from pg_stats where tablename = %s and attname = 'id'"
    assert analyzed.value(bounds, ["d"])[0] == 1 and analyzed.value(bounds, ["d"])[-1] == 6000
    assert analyzed.query("select row_estimate from panvel.distributed_table") == [(6000,)]


def test_estimates_follow(analyzed):
    for condition in ("kind = 1", "rare", "word is null", "word = 'w7'", "id < 600", "n > 80", "kind = 1 and rare",
                      "tags @> array['t1']", "lower(word) = 'w9'", "kind in (1, 2)"):
        plain, distributed = (rows_of(analyzed, f"select * from {name} where {condition}") for name in "pd")
        assert distributed == pytest.approx(plain, rel=0.25, abs=10), condition
    assert rows_of(analyzed, "select kind, count(*) from d group by kind") == 4
    assert rows_of(analyzed, "select * from d a join d b on a.word = b.word") == pytest.approx(
        rows_of(analyzed, "select * from p a join p b on a.word = b.word"), rel=0.25)


def test_large_values_are_not_fetched(analyzed):
    """A long text is: it may be compressed, and its width is the stored one. A vector out of line is not."""
    analyzed.execute("create table v (id int primary key, e vector(2000), h vector(3))")
    analyzed.execute("insert into v select i, array_fill(i::real, array[2000])::vector, '[1,2,3]' from generate_series(1, 200) i")
    analyzed.execute("create index v_dims on v (vector_dims(e))")  # computed from the values: those are fetched
    analyzed.execute("select panvel.create_distributed_table('v', 'id', 3)")
    analyzed.execute("analyze v")
    assert analyzed.query("select attname, null_frac from pg_stats where tablename = 'v' order by 1") == [
        ("e", 0), ("h", 0), ("id", 0)]
    assert analyzed.value("select n_distinct from pg_stats where tablename = 'v_dims'") == 1
    analyzed.execute("drop index v_dims")
    analyzed.execute("update v set e = null where id <= 50")
    analyzed.execute("analyze v")
    assert analyzed.query("select attname, null_frac from pg_stats where tablename = 'v' order by 1") == [
        ("e", 0.25), ("h", 0), ("id", 0)]
    assert analyzed.value("select count(*) from v where e is not null") == 150


def test_a_large_table_is_sampled(analyzed):
    with analyzed.connect() as connection:
        connection.execute("set default_statistics_target = 2")  # 600 rows
        connection.execute("analyze d")
    fraction = analyzed.value("select null_frac from pg_stats where tablename = 'd' and attname = 'word'")
    assert 0.03 < fraction < 0.25 and fraction != 0.1
    assert analyzed.value("select n_distinct from pg_stats where tablename = 'd' and attname = 'id'") == -1
    assert analyzed.query("select row_estimate from panvel.distributed_table") == [(6000,)]


def test_forms_of_the_statement(analyzed, error_of):
    count = "select count(*) from pg_statistic where starelid = 'd'::regclass"
    clear = "delete from pg_statistic where starelid = 'd'::regclass"
    analyzed.execute("create table plain_too (a int); insert into plain_too values (1)")
    for statement, columns in [("analyze d (kind, word)", 2), ("vacuum analyze d", 9), ("analyze d, p, plain_too", 9),
                               ("analyze verbose d", 9), ("vacuum d", 0), ("vacuum", 0), ("analyze", 9)]:
        analyzed.execute(clear)
        analyzed.execute(statement)
        assert analyzed.value(count) == columns, statement
    with analyzed.connect() as connection:
        connection.execute(clear)
        connection.execute("begin; insert into d (id, kind) select i, 77 from generate_series(10001, 12000) i; analyze d")
        assert "77" in connection.execute(
            "select most_common_vals::text from pg_stats where tablename = 'd' and attname = 'kind'").fetchone()[0]
        connection.execute("rollback")
        assert connection.execute(count).fetchone() == (0,)
        assert error_of(connection.execute, "analyze d (nothing)").sqlstate == "42703"
        assert connection.execute("select count(*) from d").fetchone() == (6000,)


def test_reference_tables(analyzed):
    analyzed.execute("create table r (id int primary key, k int); insert into r select i, i % 3 from generate_series(1, 300) i")
    analyzed.execute("select panvel.create_reference_table('r'); ")
    analyzed.execute("analyze r")
    assert analyzed.value("select n_distinct from pg_stats where tablename = 'r' and attname = 'k'") == 3
    assert rows_of(analyzed, "select * from r where k = 1") == 100



def test_of_the_whole_database(analyzed):
    """ANALYZE and VACUUM that name no table do the distributed ones as well."""
    analyzed.execute("create table other (id int primary key, v text); select panvel.create_reference_table('other');"
                     "create table here as select 1 as one")
    analyzed.execute("insert into other select i, 'v' || i from generate_series(1, 50) i; delete from d where id > 5000")
    analyzed.execute("analyze")
    estimates = "select relation::text, row_estimate from panvel.distributed_table order by 1"
    assert analyzed.query(estimates) == [("d", 5000), ("other", 50)]
    assert analyzed.value("select count(*) from pg_stats where tablename in ('other', 'here')") == 3
    analyzed.execute("analyze d, other, here")
    analyzed.execute("delete from d where id > 4000")
    analyzed.execute("vacuum (analyze)")
    assert analyzed.query(estimates) == [("d", 4000), ("other", 50)]
    dead = "select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables where relname = 'd'"
    wait_until(lambda: all(worker.value(dead) == 0 for worker in analyzed.workers), 20)
