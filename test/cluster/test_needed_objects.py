"""Types, functions and the like that tables need are on the nodes, as they are on the coordinator."""

import pytest

# Every object outside of extensions and shards that nodes can be given, and what it is.
DEFINITIONS = """
    set search_path = pg_catalog;
    with own as (
        select * from pg_namespace where nspname !~ '^(pg_|panvel|information_schema)'
    ), member as (
        select classid, objid from pg_depend where deptype in ('e', 'i')
    )
    select * from (
        select 'schema', nspname::text, pg_get_userbyid(nspowner)::text, nspacl::text from own
        union all
        select concat('type ', typtype), format_type(t.oid, null), pg_get_userbyid(typowner), concat_ws('; ', typacl::text, typnotnull,
            (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum where enumtypid = t.oid),
            (select string_agg(concat(conname, ' ', pg_get_constraintdef(oid)), ',' order by conname) from pg_constraint where contypid = t.oid),
            (select string_agg(concat(attname, ' ', format_type(atttypid, atttypmod), ' ', attcollation::regcollation), ',' order by attnum)
                from pg_attribute where attrelid = typrelid and not attisdropped and attnum > 0),
            format_type(typbasetype, typtypmod), typcollation::regcollation,
            (select concat(rngsubtype::regtype, rngcollation::regcollation, rngmultitypid::regtype, rngsubdiff) from pg_range where rngtypid = t.oid))
        from pg_type t join own n on n.oid = typnamespace
        where typtype in ('e', 'd', 'r') or typtype = 'c' and exists (select from pg_class c where c.oid = typrelid and relkind = 'c')
        union all
        select 'function', p.oid::regprocedure::text, pg_get_userbyid(proowner), concat(proacl, pg_get_functiondef(p.oid))
        from pg_proc p join own n on n.oid = pronamespace where not exists (select from member where classid = 'pg_proc'::regclass and objid = p.oid)
        union all
        select 'collation', c.oid::regcollation::text, pg_get_userbyid(collowner), concat(collprovider, collisdeterministic, collcollate, colliculocale)
        from pg_collation c join own n on n.oid = collnamespace
        union all
        select 'extension', extname, '', concat(extversion, ' ', extnamespace::regnamespace) from pg_extension where extname not in ('panvel', 'vector', 'plpgsql')
    ) o (kind, name, owner, definition)
    where kind <> 'schema' or name <> 'public' order by 1, 2
"""

OBJECTS = """
    create schema app;
    create extension citext schema app;
    create collation app.german (provider = icu, locale = 'de-u-ks-level2', deterministic = false);
    create type mood as enum ('sad', 'it''s ok', 'happy');
    create function app.is_short(text) returns bool language sql immutable return length($1) < 20;
    create domain app.short as text collate app.german not null default 'x' check (app.is_short(value)) constraint two check (value <> '');
    create type app."Point of" as (x int, "Y" text collate "C", moods mood[]);
    create type app.span as range (subtype = float8, subtype_diff = float8mi);
    create function app.twice(n int, m mood default 'sad') returns int language plpgsql immutable set search_path = '' as $$begin return n * 2; end$$;
    create function app.unused() returns int language sql as 'select 1';
    create type unused as enum ('x');
"""
TABLE = """
    create table t (id int primary key, m mood, s app.short, p app."Point of", r app.span[], c app.citext, n int,
        d int generated always as (app.twice(n)) stored, check (app.twice(n) > 0));
    insert into t select i, 'happy', 's' || i, row(i, 'y', array['sad'::mood])::app."Point of", array[app.span(1, i + 1)], 'C', i from generate_series(1, 20) i
"""


def definitions(database):
    """What the database has, apart from what no table needs."""
    with database.connect() as connection:
        for statement in DEFINITIONS.split(";\n"):
            rows = connection.execute(statement)
        return [row for row in rows.fetchall() if "unused" not in row[1]]


def check_nodes(cluster):
    expected = definitions(cluster)
    for worker in cluster.workers:
        assert definitions(worker) == expected
    return len(expected)


@pytest.fixture
def app(cluster):
    cluster.execute(OBJECTS)
    cluster.execute(TABLE)
    return cluster


def test_created_with_the_table(app):
    with app.connect(autocommit=False) as connection:
        connection.execute("select panvel.create_distributed_table('t', 'id', 4)")
        connection.rollback()
    assert all(definitions(worker) == [] for worker in app.workers)
    app.execute("select panvel.create_distributed_table('t', 'id', 4)")
    assert check_nodes(app) == 9
    assert app.query("select n, d, m, s, (p).x, r, c from t where id = 3") == [(3, 6, "happy", "s3", 3, "{\"[1,4)\"}", "C")]
    app.execute("insert into t values (21, 'it''s ok', 'S21', row(1, 'z', '{happy}'), '{}', 'c', 5)")
    assert app.query("select id from t where s = 's21' or m < 'it''s ok'") == [(21,)]
    # Functions of another kind of expression, and a later table, find what is there.
    app.execute("create index on t (app.twice(id), c); alter table t add column other app.span default '[1,2)'")
    app.execute("create table u (id int, m mood); select panvel.create_reference_table('u')")
    assert app.value("select count(*) from panvel.node_object") == check_nodes(app)


# Each after the ones before it; None: the number of objects stays.
ALTERATIONS = [
    ("alter type mood add value 'ecstatic'", None),
    ("alter type mood add value 'awful' before 'sad'; alter type mood add value if not exists 'so-so' after 'it''s ok'", None),
    ("alter type mood rename value 'it''s ok' to 'ok'", None),
    ("begin; alter type mood rename to feeling; alter type feeling set schema app; rollback", None),
    ("alter type mood rename to feeling; alter type feeling set schema app", None),
    ("alter domain app.short add constraint later check (value <> 'zzz') not valid; alter domain app.short validate constraint later", None),
    ("alter domain app.short drop not null; alter domain app.short set not null; alter domain app.short drop not null", None),
    ("alter domain app.short rename constraint two to filled; alter domain app.short drop constraint later; alter domain app.short drop default", None),
    ("create type app.unit as enum ('m', 'km'); alter type app.\"Point of\" add attribute unit app.unit", +1),
    ("alter type app.\"Point of\" rename attribute x to x1; alter type app.\"Point of\" drop attribute moods", None),
    ("create or replace function app.twice(n int, m app.feeling default 'sad') returns int language plpgsql immutable as $$begin return 2 * n;end$$", None),
    ("alter function app.twice set search_path = pg_catalog; alter function app.twice cost 7; alter function app.twice rename to double", None),
    ("create function app.plus(int) returns int language sql immutable return $1 + 1; "
     "create or replace function app.is_short(text) returns bool language sql immutable return length($1) < app.plus(18)", +1),
    ("revoke all on function app.double from public; grant execute on function app.double to pg_monitor with grant option", None),
    ("grant usage on schema app to public; grant usage, create on schema app to pg_monitor; revoke usage on type app.feeling from public", None),
    ("revoke create on schema app from pg_monitor; grant usage on type app.feeling to public", None),
    ("alter collation app.german rename to deutsch", None),
    ("alter schema app rename to \"App 2\"", None),
    ("alter extension citext set schema public", None),
    ("create schema later; alter type \"App 2\".span set schema later", +1),
    ("alter domain \"App 2\".short owner to pg_monitor; alter schema later owner to pg_monitor", None),
    ("alter function \"App 2\".double owner to pg_monitor; alter function \"App 2\".double owner to current_user", None),
    ("create type later.extra as (a int); alter table t add column extra later.extra, add column more later.extra[]", +1),
    ("alter table t drop column extra, drop column more; drop type later.extra", -1),
    ("drop function \"App 2\".is_short(text) cascade; alter table t drop column r; drop schema later cascade", -3),
]


def test_altered_afterwards(app):
    app.execute("select panvel.create_distributed_table('t', 'id', 4)")
    count = check_nodes(app)
    for statements, change in ALTERATIONS:
        with app.connect() as connection:
            for statement in statements.split("; "):
                connection.execute(statement)
        count += change or 0
        assert check_nodes(app) == count, statements
        assert app.value("select count(n) from t where m is not null") == 20
    app.execute("insert into t (id, m, s, n) values (100, 'so-so', 'longer than twenty characters', 1)")
    app.execute("drop table t; drop schema \"App 2\" cascade; drop extension citext")
    assert check_nodes(app) == 0
    assert app.value("select count(*) from panvel.node_object") == 0


def test_alterations_are_checked_by_the_shards(app, error_of):
    app.execute("select panvel.create_distributed_table('t', 'id', 4)")
    for statement, sqlstate in [
        ("alter domain app.short add check (value <> 's7')", "23514"),
        ("drop type mood", "2BP01"),
        ("alter type app.\"Point of\" alter attribute x type bigint", "0A000"),
    ]:
        assert error_of(app.execute, statement).sqlstate == sqlstate
        check_nodes(app)


def test_refused(cluster, error_of):
    worker = cluster.workers[1]
    worker.execute("create type mood as enum ('other')")
    cluster.execute("""
        create type mood as enum ('sad'); create table plain (a int); create sequence s;
        create function reads() returns int language sql stable begin atomic select a from plain; end;
        create function eq(int, text) returns bool language sql immutable return $1::text = $2;
        create operator === (function = eq, leftarg = int, rightarg = text);
        create function calls(int) returns int language sql immutable as 'select nowhere($1)';
        create function nowhere(int) returns int language sql immutable return 1;
        create function calls_it(int) returns int language sql immutable as 'select nowhere($1)'
    """.replace("create function calls(int) returns int language sql immutable as 'select nowhere($1)';", ""))
    for columns, sqlstate, message in [
        ("m mood", "42710", "type public.mood is another one on node"),
        ("m mood[]", "42710", "type public.mood is another one on node"),
        ("p plain", "0A000", "which the nodes cannot have"),
        ("d int, check (d > reads())", "0A000", "table public.plain"),
        ("d int, check (d === 'x')", "0A000", "operator public.===(integer,text) is not on node"),
        ("d int, check (calls_it(d) > 0)", "42883", "function nowhere(integer) does not exist"),
    ]:
        cluster.execute(f"create table t (id int, {columns})")
        error = error_of(cluster.execute, "select panvel.create_distributed_table('t', 'id', 2)")
        assert error.sqlstate == sqlstate and message in str(error) and error.diag.message_hint, (columns, error)
        cluster.execute("drop table t")
    assert all(len(definitions(node)) == (node is worker) for node in cluster.workers)

    # What a superuser has created there is taken as it is.
    cluster.execute("create table t (id int, d int, check (d === '1'))")
    cluster.query("select * from panvel.run_on_nodes('create function public.eq(int, text) returns bool language sql immutable return $1::text = $2')")
    cluster.query("select * from panvel.run_on_nodes('create operator public.=== (function = public.eq, leftarg = int, rightarg = text)')")
    cluster.execute("select panvel.create_distributed_table('t', 'id', 2); insert into t values (1, 1)")
    assert error_of(cluster.execute, "insert into t values (1, 2)").sqlstate == "23514"


def test_rights(cluster, error_of):
    """Who may not create it on the nodes does not get it there, and a new object has its owner and rights."""
    roles = "create role ddl_owner; create role ddl_user login"
    for server in [cluster, *cluster.workers]:
        server.execute(roles)
        server.execute(f"grant create on database {cluster.name} to ddl_user, ddl_owner")
    cluster.execute("""
        create schema app authorization ddl_owner; grant usage on schema app to ddl_user;
        create function app.f(int) returns int language sql immutable security definer return $1;
        alter function app.f owner to ddl_owner; revoke all on function app.f from public; grant execute on function app.f to ddl_user;
        create schema own authorization ddl_user; set role ddl_user; create table own.t (id int, n int, check (app.f(n) > 0))
    """)
    with cluster.connect() as connection:
        connection.execute("set role ddl_user")
        error = error_of(connection.execute, "select panvel.create_distributed_table('own.t', 'id', 2)")
        assert error.sqlstate == "42501" and "superuser" in error.diag.message_hint
        assert all(definitions(worker) == [] for worker in cluster.workers)
    cluster.execute("select panvel.create_distributed_table('own.t', 'id', 2)")
    for worker in cluster.workers:
        assert [row[:3] for row in definitions(worker)] == [("function", "app.f(integer)", "ddl_owner"), ("schema", "app", "ddl_owner")]
        assert worker.query("select proacl::text from pg_proc where proname = 'f'") == [("{ddl_owner=X/ddl_owner,ddl_user=X/ddl_owner}",)]
    cluster.execute("drop table own.t; drop schema app, own cascade")
    for server in [cluster, *cluster.workers]:
        server.execute("drop owned by ddl_user, ddl_owner; drop role ddl_user, ddl_owner")


def test_a_new_node_gets_them(app):
    app.execute("select panvel.remove_node('w3')")
    app.execute("select panvel.create_distributed_table('t', 'id', 2)")
    app.execute("create table u (m mood); select panvel.create_reference_table('u')")
    assert definitions(app.worker("w3")) == []
    app.execute("select panvel.add_node('w3', '127.0.0.1', %s)", [app.worker("w3").server.port])
    assert check_nodes(app) == 9


def test_drop_keeps_what_others_use(app, error_of):
    app.execute("select panvel.create_distributed_table('t', 'id', 2)")
    app.workers[0].execute("create table mine (m public.mood)")
    app.execute("alter table t drop column m; alter type app.\"Point of\" drop attribute moods; drop function app.twice cascade")
    error = error_of(app.execute, "drop type mood")
    assert error.sqlstate == "2BP01" and "mine" in error.diag.message_detail
    app.workers[0].execute("drop table mine")
    app.execute("drop type mood")
    check_nodes(app)
