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


def half_message(dim, bits, unused=0):
    return struct.pack(f">hh{len(bits)}H", dim, unused, *bits)


def sparse_message(dim, indices, values, count=None, unused=0):
    count = len(indices) if count is None else count
    return struct.pack(f">iii{len(indices)}i{len(values)}f", dim, count, unused, *indices, *values)


OTHER_TYPES = {
    "halfvec: no dimension": ("halfvec", half_message(0, []), "22000", "halfvec must have at least 1 dimension"),
    "halfvec: too many": ("halfvec", half_message(16001, [0] * 16001), "54000", "halfvec cannot have more than 16000 dimensions"),
    "halfvec: unused": ("halfvec", half_message(1, [0x3C00], unused=1), "22000", "expected unused to be 0, not 1"),
    "halfvec: NaN": ("halfvec", half_message(2, [0x3C00, 0x7E00]), "22000", "NaN not allowed in halfvec"),
    "halfvec: infinity": ("halfvec", half_message(1, [0xFC00]), "22000", "infinite value not allowed in halfvec"),
    "halfvec: too short": ("halfvec", half_message(3, [0, 0]), "08P01", "insufficient data left in message"),
    "halfvec: too long": ("halfvec", half_message(1, [0, 0]), "22P03", "incorrect binary data format"),
    "sparsevec: no dimension": ("sparsevec", sparse_message(0, [], []), "22000", "sparsevec must have at least 1 dimension"),
    "sparsevec: too many": ("sparsevec", sparse_message(1000000001, [], []), "54000",
                            "sparsevec cannot have more than 1000000000 dimensions"),
    "sparsevec: negative count": ("sparsevec", sparse_message(5, [], [], count=-1), "22000",
                                  "sparsevec cannot have negative number of elements"),
    "sparsevec: count": ("sparsevec", sparse_message(20000, [], [], count=16001), "54000",
                         "sparsevec cannot have more than 16000 non-zero elements"),
    "sparsevec: count beyond dimensions": ("sparsevec", sparse_message(1, [0, 1], [1, 1]), "54000",
                                           "sparsevec cannot have more elements than dimensions"),
    "sparsevec: unused": ("sparsevec", sparse_message(1, [], [], unused=7), "22000", "expected unused to be 0, not 7"),
    "sparsevec: negative index": ("sparsevec", sparse_message(5, [-1], [1]), "22000", "sparsevec index out of bounds"),
    "sparsevec: index": ("sparsevec", sparse_message(5, [5], [1]), "22000", "sparsevec index out of bounds"),
    "sparsevec: order": ("sparsevec", sparse_message(5, [2, 1], [1, 1]), "22000", "sparsevec indices must be in ascending order"),
    "sparsevec: duplicate": ("sparsevec", sparse_message(5, [2, 2], [1, 1]), "22000", "sparsevec indices must not contain duplicates"),
    "sparsevec: zero": ("sparsevec", sparse_message(5, [1], [-0.0]), "22000",
                        "binary representation of sparsevec cannot contain zero values"),
    "sparsevec: NaN": ("sparsevec", sparse_message(5, [1], [float("nan")]), "22000", "NaN not allowed in sparsevec"),
    "sparsevec: infinity": ("sparsevec", sparse_message(5, [1], [float("inf")]), "22000", "infinite value not allowed in sparsevec"),
    "sparsevec: too short": ("sparsevec", sparse_message(5, [1, 2], [1]), "08P01", "insufficient data left in message"),
    "sparsevec: too long": ("sparsevec", sparse_message(5, [1], [1, 2]), "22P03", "incorrect binary data format"),
}
GOOD = {"halfvec": (half_message(2, [0x3C00, 0xC100]), "[1,-2.5]"), "sparsevec": (sparse_message(5, [0, 4], [1, -2.5]), "{1:1,5:-2.5}/5")}


def test_hostile_messages_of_the_other_types(db):
    with db.connect() as connection:
        for kind in GOOD:
            connection.execute(f"create table {kind}s (v {kind})")
        for name, (kind, value, sqlstate, text) in OTHER_TYPES.items():
            with pytest.raises(psycopg.Error) as caught:
                send(connection, f"{kind}s", value)
            assert (caught.value.sqlstate, caught.value.diag.message_primary) == (sqlstate, text), name
        for kind, (value, shown) in GOOD.items():
            send(connection, f"{kind}s", value)
            assert connection.execute(f"select v::text from {kind}s").fetchall() == [(shown,)]
            with connection.cursor().copy(f"copy {kind}s to stdout (format binary)") as copy:
                assert value in b"".join(bytes(part) for part in copy)
