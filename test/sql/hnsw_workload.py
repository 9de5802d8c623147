"""Tables with hnsw or ivfflat indexes of every layout, and sessions that keep changing them."""

import random
import threading
import time

import psycopg

# Name, dimensions, operator class, options: elements that share pages and have codes; that span
# pages and have codes; that have none; many rows of few vectors; sparse vectors of which each goes on
# in several slots of other pages.
LAYOUTS = [
    ("small", 64, "vector_l2_ops", "m = 6, ef_construction = 20"),
    ("large", 1100, "vector_cosine_ops", "m = 6, ef_construction = 20"),
    ("plain", 24, "vector_l1_ops", "m = 4, ef_construction = 16"),
    ("equal", 3, "vector_ip_ops", "m = 4, ef_construction = 16"),
    ("sparse", 900, "sparsevec_l2_ops", "m = 4, ef_construction = 16"),
]
# The same for ivfflat; such names begin with ivf. With codes and vectors of a page's part, with
# vectors of several pages, without codes, of halves.
IVF_LAYOUTS = [
    ("ivf_small", 64, "vector_l2_ops", "lists = 4"),
    ("ivf_large", 2500, "vector_cosine_ops", "lists = 3"),
    ("ivf_plain", 24, "vector_ip_ops", "lists = 4"),
    ("ivf_equal", 3, "vector_l2_ops", "lists = 3"),
    ("ivf_half", 64, "halfvec_l2_ops", "lists = 3"),
]
OPERATORS = {
    "vector_l2_ops": "<->",
    "vector_cosine_ops": "<=>",
    "vector_l1_ops": "<+>",
    "vector_ip_ops": "<#>",
    "sparsevec_l2_ops": "<->",
    "halfvec_l2_ops": "<->",
}

# A vector by its number, the same everywhere. Those of `equal` repeat.
SETUP = """
create extension if not exists vector;
create function vec(id int, dim int) returns vector immutable strict language sql as $$
    select array_agg((hashint4extended(g, case when dim = 3 then id % 7 else id end) % 1000)::float4
                     order by g)::vector from generate_series(1, dim) g $$;
"""


def method_of(name):
    return "ivfflat" if name.startswith("ivf") else "hnsw"


def value(layout, number):
    """SQL for the layout's value of this number, itself SQL."""
    _, dim, opclass, _ = layout
    return f"vec({number}, {dim})::{opclass.split('_')[0]}"


def make_tables(server, layouts=LAYOUTS, rows=0):
    server.execute(SETUP)
    for layout in layouts:
        name, dim, opclass, options = layout
        server.execute(f"create table {name} (id int primary key,"
                       f" embedding {opclass.split('_')[0]}({dim}))")
        server.execute(f"insert into {name} select i, {value(layout, 'i')}"
                       f" from generate_series(-{rows}, -1) i")
        method = method_of(name)
        server.execute(f"create index {name}_{method} on {name} using {method}"
                       f" (embedding {opclass}) with ({options})")


def problems(server, layouts=LAYOUTS):
    """What hnsw_index_check() or ivfflat_index_check() finds in any of the tables' indexes."""
    return [
        (index, *row)
        for name, *_ in layouts
        for (index,) in server.query(
            "select indexrelid::regclass::text from pg_index"
            " where indrelid = %s::regclass and indisvalid and not indisprimary", [name])
        for row in server.query(f"select * from {method_of(name)}_index_check(%s::regclass)", [index])
    ]


def search(layout, number, limit):
    name, _, opclass, _ = layout
    order = f"embedding {OPERATORS[opclass]} (select {value(layout, number)})"
    return f"select id, {order} from {name} order by {order} limit {limit}"


def use_index(connection, wide=True):
    connection.execute("set enable_seqscan = off; set enable_sort = off")
    if wide:
        connection.execute("set hnsw.ef_search = 1000; set hnsw.iterative_scan = relaxed_order;"
                           "set hnsw.max_scan_tuples = 1000000; set hnsw.scan_mem_multiplier = 50;"
                           "set ivfflat.iterative_scan = relaxed_order")


def ids_by_index(server, layout, number=0):
    """All rows that the index leads to."""
    with server.connect() as connection:
        use_index(connection)
        sql = search(layout, number, 1_000_000)
        plan = "\n".join(row[0] for row in connection.execute("explain " + sql))
        assert "Index Scan" in plan and "Sort" not in plan, plan
        return [row[0] for row in connection.execute(sql)]


def ids_by_table(server, layout):
    with server.connect() as connection:
        connection.execute("set enable_indexscan = off; set enable_bitmapscan = off")
        return {row[0] for row in connection.execute(f"select id from {layout[0]}")}


class Writers:
    """Sessions that write until their server is gone, and what they know to be committed."""

    def __init__(self, server, layouts=LAYOUTS, rows=300):
        self.server = server
        self.layouts = layouts
        self.rows = rows  # a table is kept at about so many
        self.lock = threading.Lock()
        self.number = 0
        self.present = {layout[0]: set() for layout in layouts}  # acknowledged
        self.doubtful = {layout[0]: set() for layout in layouts}  # a statement may have ended them
        self.gone = {layout[0]: set() for layout in layouts}  # acknowledged as deleted
        self.errors = []
        self.threads = []
        self.stopping = threading.Event()

    # ------------------------------------------------------------------ the sessions' work
    def new_ids(self, count):
        with self.lock:
            self.number += count
            return list(range(self.number - count + 1, self.number + 1))

    def insert(self, connection, generator):
        layout = generator.choice(self.layouts)
        ids = self.new_ids(generator.choice([1, 1, 1, 5]))
        connection.execute(f"insert into {layout[0]} select i, {value(layout, 'i')}"
                           " from unnest(%s::int[]) i", [ids])
        with self.lock:
            self.present[layout[0]].update(ids)

    def copy(self, connection, generator):
        layout = generator.choice(self.layouts)
        name = layout[0]
        ids = self.new_ids(15)
        rows = connection.execute(
            f"select i, {value(layout, 'i')}::text from unnest(%s::int[]) i", [ids]).fetchall()
        with connection.cursor() as cursor, cursor.copy(f"copy {name} from stdin") as copy:
            for row in rows:
                copy.write_row(row)
        with self.lock:
            self.present[name].update(ids)

    def delete(self, connection, generator):
        name, *_ = generator.choice(self.layouts)
        with self.lock:
            present = list(self.present[name])
            excess = max(len(present) - self.rows, 1 if len(present) > self.rows / 2 else 0)
            ids = generator.sample(present, min(len(present), excess))
            self.present[name].difference_update(ids)
            self.doubtful[name].update(ids)
        connection.execute(f"delete from {name} where id = any(%s)", [ids])
        with self.lock:
            self.doubtful[name].difference_update(ids)
            self.gone[name].update(ids)

    def update(self, connection, generator):
        """One row: two, locked in another order than a delete's, would be a deadlock."""
        layout = generator.choice(self.layouts)
        name = layout[0]
        with self.lock:
            ids = generator.sample(list(self.present[name]), min(len(self.present[name]), 1))
        connection.execute(f"update {name} set embedding = {value(layout, 'id + 1000000')}"
                           " where id = any(%s)", [ids])

    def vacuum(self, connection, generator):
        connection.execute(f"vacuum {generator.choice(self.layouts)[0]}")

    def build(self, connection, generator):
        name, _, opclass, options = generator.choice(self.layouts)
        how = generator.choice(["", "concurrently"])
        method = method_of(name)
        connection.execute(f"create index {how} {name}_second on {name} using {method}"
                           f" (embedding {opclass}) with ({options})")
        connection.execute(f"drop index {name}_second")
        if generator.random() < 0.5:
            connection.execute(f"reindex index {how} {name}_{method}")

    # ------------------------------------------------------------------ running them
    def run(self, work, seed):
        generator = random.Random(seed)
        try:
            with self.server.connect() as connection:
                while not self.stopping.is_set():
                    work(connection, generator)
        except psycopg.errors.DeadlockDetected as error:
            self.errors.append(error)
        except psycopg.OperationalError:
            pass  # the server is gone
        except Exception as error:  # noqa: BLE001
            self.errors.append(error)

    def start(self, works, seed):
        self.stopping.clear()
        self.threads = [threading.Thread(target=self.run, args=[work, f"{seed} {i}"])
                        for i, work in enumerate(works)]
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors

    def stop(self):
        self.stopping.set()
        self.join()

    # ------------------------------------------------------------------ what must hold afterwards
    def drop_leftovers(self):
        """What a build leaves that did not end is for the user to drop."""
        for (index,) in self.server.query(
                "select indexrelid::regclass::text from pg_index where not indisvalid"
                " or indexrelid::regclass::text ~ '_(second|ccnew|ccold)\\d*$'"):
            self.server.execute(f"drop index {index}")

    def check(self):
        self.drop_leftovers()
        found = problems(self.server, self.layouts)
        assert not found, found[:20]
        for layout in self.layouts:
            name = layout[0]
            rows = ids_by_table(self.server, layout)
            assert self.present[name] <= rows, (name, self.present[name] - rows)
            assert not self.gone[name] & rows, (name, self.gone[name] & rows)
            found = ids_by_index(self.server, layout)
            assert len(found) == len(set(found)), name
            assert set(found) == rows, (name, rows ^ set(found))
            self.present[name] = set(rows)
            self.doubtful[name].clear()


def pause_for_a_while(generator, longest):
    """A random moment is what is wanted here; nothing is waited for."""
    time.sleep(generator.random() ** 2 * longest)
