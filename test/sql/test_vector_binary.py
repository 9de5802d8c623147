"""The binary form of vector over the wire: COPY BINARY and hostile messages; parallel aggregates."""

import struct

import psycopg
import pytest


def message(dim, values, unused=0):
    return struct.pack(f">hh{len(values)}f", dim, unused, *values)


def copy_of(value):
    """A binary COPY stream of one row with one column."""
    header = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
    return header + struct.pack(">hi", 1, len(value)) + value + struct.pack(">h", -1)


def send(connection, table, value):
    with connection.cursor().copy(f"copy {table} from stdin (format binary)") as copy:
        copy.write(copy_of(value))


def test_copy_binary_round_trip(db):
    db.execute("create table a (id int, v vector)")
    db.execute("create table b (like a)")
    db.execute("""insert into a select n, array_agg(sin(n * 1000 + i))::vector
                  from unnest(array[1, 2, 29, 30, 31, 500, 784, 16000]) n, generate_series(1, n) i group by n""")
    db.execute("insert into a values (0, null)")
    with db.connect() as connection:
        with connection.cursor().copy("copy a to stdout (format binary)") as copy:
            stream = b"".join(bytes(part) for part in copy)
        with connection.cursor().copy("copy b from stdin (format binary)") as copy:
            copy.write(stream)
    assert db.value("select count(*) from a join b using (id) where a.v is not distinct from b.v") == 9
    assert db.value("select count(*) from (select id, v::text from a except select id, v::text from b) d") == 0
    assert b"\x00\x1d\x00\x00" in stream  # 29 dimensions, unused


HOSTILE = {
    "no dimension": (message(0, []), "22000", "vector must have at least 1 dimension"),
    "negative": (message(-1, [1.0]), "22000", "vector must have at least 1 dimension"),
    "minimum": (message(-32768, [1.0]), "22000", "vector must have at least 1 dimension"),
    "too many": (message(16001, [0.0] * 16001), "54000", "vector cannot have more than 16000 dimensions"),
    "unused": (message(1, [1.0], unused=1), "22000", "expected unused to be 0, not 1"),
    "unused negative": (message(1, [1.0], unused=-2), "22000", "expected unused to be 0, not -2"),
    "NaN": (message(2, [1.0, float("nan")]), "22000", "NaN not allowed in vector"),
    "infinity": (message(2, [float("-inf"), 1.0]), "22000", "infinite value not allowed in vector"),
    "empty": (b"", "08P01", "insufficient data left in message"),
    "dimension only": (b"\x00\x01", "08P01", "insufficient data left in message"),
    "half an element": (message(2, [1.0]) + b"\x00\x00", "08P01", "insufficient data left in message"),
    "16000 elements missing": (message(16000, []), "08P01", "insufficient data left in message"),
    "an element too many": (message(1, [1.0, 2.0]), "22P03", "incorrect binary data format"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_are_refused_and_the_session_goes_on(db, name):
    value, sqlstate, text = HOSTILE[name]
    db.execute("create table items (v vector)")
    with db.connect() as connection:
        with pytest.raises(psycopg.Error) as caught:
            send(connection, "items", value)
        assert (caught.value.sqlstate, caught.value.diag.message_primary) == (sqlstate, text)
        send(connection, "items", message(2, [1.5, -2.0]))
        assert connection.execute("select v::text from items").fetchall() == [("[1.5,-2]",)]


def test_type_modifier_holds_for_binary_input(db):
    db.execute("create table items (v vector(2))")
    with db.connect() as connection:
        with pytest.raises(psycopg.Error, match="expected 2 dimensions, not 3"):
            send(connection, "items", message(3, [1, 2, 3]))


def test_every_prefix_of_a_message_is_refused(db):
    whole = message(3, [1.0, 2.0, 3.0])
    db.execute("create table items (v vector)")
    with db.connect() as connection:
        for length in range(len(whole)):
            with pytest.raises(psycopg.Error) as caught:
                send(connection, "items", whole[:length])
            assert caught.value.sqlstate == "08P01"
        send(connection, "items", whole)


def test_parallel_aggregates(db):
    db.execute("create table items as select i id, array[i % 100, -(i % 100), i % 8]::vector v from generate_series(1, 20000) i")
    db.execute("analyze items")
    query = "select avg(v)::text, sum(v)::text from items where id {}"
    with db.connect() as connection:
        connection.execute("set max_parallel_workers_per_gather = 0")
        serial = [connection.execute(query.format(f)).fetchall() for f in ("> 0", "= 5", "< 0")]
        connection.execute("set max_parallel_workers_per_gather = 2")
        connection.execute("set parallel_setup_cost = 0")
        connection.execute("set parallel_tuple_cost = 0")
        connection.execute("set min_parallel_table_scan_size = 0")
        plan = connection.execute("explain " + query.format("> 0")).fetchall()
        assert any("Partial Aggregate" in line for (line,) in plan), plan
        parallel = [connection.execute(query.format(f)).fetchall() for f in ("> 0", "= 5", "< 0")]
    assert parallel == serial
    assert serial[0] == [("[49.5,-49.5,3.5]", "[990000,-990000,70000]")]
    assert serial[1] == [("[5,-5,5]", "[5,-5,5]")]
    assert serial[2] == [(None, None)]
