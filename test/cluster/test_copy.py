"""COPY into and out of distributed tables."""

import psycopg
import pytest
from panvel_test import wait_until


@pytest.fixture
def items(cluster):
    cluster.execute(
        """create table items (id bigserial primary key, label text not null, n int default 7 check (n > 0),
               e vector(2), up text generated always as (upper(label)) stored)"""
    )
    cluster.execute("select panvel.create_distributed_table('items', 'id', 5)")
    return cluster


def copy(connection, sql, data):
    """COPY FROM STDIN; returns the number of rows of the command's tag."""
    cursor = connection.cursor()
    with cursor.copy(sql) as stream:
        stream.write(data)
    assert cursor.statusmessage.startswith("COPY ")
    return int(cursor.statusmessage.split()[1])


def copy_error(connection, sql, data):
    with pytest.raises(psycopg.Error) as caught:
        copy(connection, sql, data)
    return caught.value


def out(connection, sql):
    with connection.cursor().copy(sql) as stream:
        return b"".join(bytes(part) for part in stream)


def test_formats(items):
    with items.connect() as connection:
        assert copy(connection, "copy items (id, label, n, e) from stdin", "1\ta\\tb\t5\t[1,2]\n2\tc\t\\N\t\\N\n\\.\n") == 2
        assert copy(connection, "copy items (id, label) from stdin (format csv, header)", 'id,label\n3,"x,\n""y"\n') == 1
        assert copy(connection, "copy items (label, id) from stdin with delimiter '|' null 'nil'", "z|4\n") == 1
        assert connection.execute("select id, label, n, e::text, up from items order by id").fetchall() == [
            (1, "a\tb", 5, "[1,2]", "A\tB"),
            (2, "c", None, None, "C"),
            (3, 'x,\n"y', 7, None, 'X,\n"Y'),
            (4, "z", 7, None, "Z"),
        ]
        binary = out(connection, "copy (select id + 10, label, n, e from items) to stdout (format binary)")
        assert copy(connection, "copy items (id, label, n, e) from stdin (format binary)", binary) == 4
        assert connection.execute("select count(*) from items where up = upper(label)").fetchone() == (8,)


def test_defaults_sequences_and_filter(items):
    with items.connect() as connection:
        rows = "".join(f"l{i}\t{i}\n" for i in range(1, 101))
        assert copy(connection, "copy items (label, n) from stdin where n % 2 = 0 and label <> 'l4'", rows) == 49
        assert connection.execute("select count(distinct id), min(n), max(n) from items").fetchone() == (49, 2, 100)
        error = copy_error(connection, "copy items (label, n) from stdin where up = 'X'", "a\t1\n")
        assert error.sqlstate == "42P10"


def test_errors_give_the_line(items):
    with items.connect() as connection:
        copy(connection, "copy items (id, label) from stdin", "7\talready\n")
        for sql, data, sqlstate, line, message in [
            ("copy items (id, label) from stdin", "1\ta\nx\tb\n", "22P02", 2, "invalid input syntax"),
            ("copy items (id, label) from stdin", "1\ta\n2\n", "22P04", 2, "missing data"),
            ("copy items (id, label) from stdin", "1\ta\n2\t\\N\n", "23502", 2, '"label"'),
            ("copy items (id, label) from stdin", "1\ta\n2\tb\n\\N\tb\n", "23502", 3, '"id"'),
            ("copy items (id, label, n) from stdin", "1\ta\t1\n2\tb\t-1\n", "23514", 2, "items_n_check"),
            ("copy items (id, label, e) from stdin", "1\ta\t[1,2]\n2\tb\t[1,2,3]\n", "22000", 2, "dimensions"),
            ("copy items (id, label) from stdin", "".join(f"{i}\ta\n" for i in range(100, 300)) + "7\tdup\n", "23505", 201, "items_pkey"),
        ]:
            error = copy_error(connection, sql, data)
            assert error.sqlstate == sqlstate and message in str(error), error
            assert f"COPY items, line {line}" in error.diag.context, error.diag.context
        assert connection.execute("select count(*) from items").fetchone() == (1,)


def test_lines_of_other_formats(items):
    with items.connect() as connection:
        columns = "copy items (id, label, n) from stdin"
        copy(connection, "copy items (id, label) from stdin", "7\talready\n")
        rows = "select 20 + g::bigint, 'l' || g, {} from generate_series(1, 9) g"
        binary, negative = (out(connection, f"copy ({rows.format(n)}) to stdout (format binary)") for n in ("g", "5 - g"))
        for options, data, sqlstate, line in [
            ("(format csv, header)", 'id,label,n\n1,"two\nlines",1\n2,b,x\n', "22P02", 4),
            ("(format csv, header)", 'id,label,n\n1,"two\nlines",1\n7,b,1\n', "23505", 4),
            ("(format csv, header match)", "id,n,label\n", "22P04", 1),
            ("(format csv, quote '''')", "1,'x,1\n", "22P04", 1),
            ("(format binary)", negative, "23514", 5),
            ("(format binary)", b"no signature at all", "22P04", None),
            ("(format binary)", binary[:-9], "22P04", 9),
            ("(encoding 'utf8')", b"1\ta\t1\n2\t\xff\t1\n", "22021", 2),
        ]:
            error = copy_error(connection, f"{columns} {options}", data)
            assert error.sqlstate == sqlstate, (options, error)
            assert line is None or f"COPY items, line {line}" in error.diag.context, (options, error.diag.context)
        assert connection.execute("select count(*) from items").fetchone() == (1,)


def test_options(items):
    with items.connect() as connection:
        for sql, data in [
            ("copy items (id, label, e) from stdin (format csv, force_not_null (label), force_null (e))", '1,,""\n2,"",\n'),
            ("copy items (label, id) from stdin (format csv, header match)", "label,id\nmatched,3\n"),
            ("copy items (id, label) from stdin (format text, header match)", "id\tlabel\n4\tmatched\n"),
            ("copy items (id, label) from stdin (encoding 'latin1')", "5\tGröße\n".encode("latin1")),
            ("copy items (id, label, n) from stdin (format csv, delimiter ';', quote '''', escape '\\', null 'nil')", "6;'it\\'s; 6';nil\n"),
        ]:
            copy(connection, sql, data)
        rows = [(1, "", 7, None), (2, "", 7, None), (3, "matched", 7, None), (4, "matched", 7, None), (5, "Größe", 7, None), (6, "it's; 6", None, None)]
        assert connection.execute("select id, label, n, e from items order by id").fetchall() == rows
        query = "(select id, label from items where id in (3, 5) order by id)"
        assert out(connection, f"copy {query} to stdout (format csv, header, force_quote (label))") == 'id,label\n3,"matched"\n5,"Größe"\n'.encode()
        assert out(connection, f"copy {query} to stdout (encoding 'latin1')") == "3\tmatched\n5\tGröße\n".encode("latin1")
        lines = out(connection, "copy items (n, label, id) to stdout (format csv, header, null 'nil')").decode().splitlines()
        assert lines[0] == "n,label,id" and "7,matched,3" in lines and "nil,it's; 6,6" in lines and len(lines) == 7


def test_progress(items):
    view = """select command, type, tuples_processed, tuples_excluded, bytes_processed from pg_stat_progress_copy
              where relid = 'items'::regclass"""
    with items.connect() as connection:
        with connection.cursor().copy("copy items (id, label) from stdin where id % 4 <> 0") as stream:
            for number in range(1, 40001):
                stream.write(f"{number}\tlabel of {number}\n")
            wait_until(lambda: items.query(view) and items.query(view)[0][3] > 5000, 30, "progress of COPY")
            ((command, kind, processed, excluded, size),) = items.query(view)
            assert (command, kind) == ("COPY FROM", "PIPE")
            assert processed >= 3 * excluded - 3 and size > 10 * processed
        assert items.query(view) == []
        assert connection.execute("select count(*) from items").fetchone() == (30000,)


def test_key_that_may_be_null(cluster):
    cluster.execute("create table loose (k text, n int)")
    cluster.execute("select panvel.create_distributed_table('loose', 'k')")
    with cluster.connect() as connection:
        error = copy_error(connection, "copy loose from stdin", "a\t1\n\\N\t2\n")
        assert error.sqlstate == "23502" and 'distribution column "k"' in str(error)
        assert "line 2" in error.diag.context
        assert copy(connection, "copy loose from stdin", "\t1\nb\t2\n") == 2


def test_refused(items, error_of):
    with items.connect() as connection:
        for sql, sqlstate in [
            ("copy items from stdin with (freeze)", "0A000"),
            ("copy items (nope) from stdin", "42703"),
            ("copy items (up) from stdin", "42P10"),
            ("copy items from '/nonexistent/file'", "58P01"),
        ]:
            error = copy_error(connection, sql, "") if "stdin" in sql else error_of(connection.execute, sql)
            assert error.sqlstate == sqlstate, (sql, error)
        connection.execute("begin read only")
        assert copy_error(connection, "copy items (label) from stdin", "a\n").sqlstate == "25006"
        connection.execute("rollback")


def test_rights(items, error_of):
    roles = [items, *items.workers]
    for server in roles:
        server.execute("create role loader login")
    try:
        with items.connect(user="loader") as loader:
            assert copy_error(loader, "copy items (label) from stdin", "a\n").sqlstate == "42501"
            assert error_of(loader.execute, "copy items from '/etc/passwd'").sqlstate == "42501"
            assert error_of(loader.execute, "copy items from program 'true'").sqlstate == "42501"
            items.execute("grant insert (id, label, n, e), select on items to loader; grant usage on sequence items_id_seq to loader")
            assert copy(loader, "copy items (label, n) from stdin", "a\t1\n") == 1
            assert out(loader, "copy items (label, n) to stdout") == b"a\t1\n"
    finally:
        for server in roles:
            server.execute("drop owned by loader; drop role loader")


def test_many_batches_in_one_transaction(items):
    rows = "".join(f"{i}\t{'x' * (i % 700)}\t[{i % 10},1]\n" for i in range(1, 20001))
    with items.connect(autocommit=False) as connection:
        assert copy(connection, "copy items (id, label, e) from stdin", rows) == 20000
        assert connection.execute("select count(*), sum(length(label)) from items").fetchone() == (20000, sum(i % 700 for i in range(1, 20001)))
        connection.rollback()
        assert connection.execute("select count(*) from items").fetchone() == (0,)
        assert copy(connection, "copy items (id, label, e) from stdin", rows) == 20000
        connection.commit()
        written = out(connection, "copy items (id, label, e) to stdout")
        assert sorted(written.decode().splitlines()) == sorted(rows.splitlines())


def test_column_without_binary_form(cluster):
    cluster.execute("create table t (id int, r regtype, v vector(2)[], t text)")
    cluster.execute("select panvel.create_distributed_table('t', 'id')")
    rows = '1\tinteger\t{"[1,2]","[3,4]"}\ta\\tb\\\\\\n\n2\t\\N\t\\N\t\n'
    with cluster.connect() as connection:
        assert copy(connection, "copy t from stdin", rows) == 2
        assert sorted(out(connection, "copy t to stdout").decode().splitlines()) == sorted(rows.splitlines())


def test_arrays_of_extension_types(cluster):
    """An array's binary form has its element type's OID, which differs between servers."""
    for worker in cluster.workers:
        worker.execute("create type filler as enum ('moves', 'the', 'oids')")
    cluster.execute("create table t (id int, v vector(2)[])")
    cluster.execute("insert into t values (1, array['[1,2]', '[3,4]']::vector(2)[])")
    cluster.execute("select panvel.create_distributed_table('t', 'id')")
    with cluster.connect() as connection:
        assert copy(connection, "copy t from stdin", '2\t{"[5,6]"}\n') == 1
    assert cluster.query("select id, v::text from t order by id") == [(1, '{"[1,2]","[3,4]"}'), (2, '{"[5,6]"}')]
