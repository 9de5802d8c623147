"""Statements that must do to a distributed table what they do to a plain one (test_writes.py).

Each list is run from the top on both, in this order; after every statement the tables are compared.
"""

ITEMS = """create table items (
    id bigserial primary key,
    k int not null,
    v text default 'dflt',
    f float8,
    a int[],
    e vector(3),
    g int generated always as (k * 2) stored,
    constraint items_k_check check (k < 1000))"""

INSERTS = [
    "insert into items (k) values (1)",
    "insert into items (k, v, f, a, e) values (2, 'b', 1.5, '{1,2}', '[1,2,3]') returning *",
    """insert into items (k, v, f, a, e) values
       (3, 'c', 2.5, '{3,null}', '[1,2,3]'), (4, null, null, null, null), (5, 'e', 1, '{}', '[3,2,1]')
       returning id, g, k + 1 as k1, items, tableoid::regclass""",
    "insert into items values (default, 6, default, 0.5)",
    "insert into items values (1000, 7, 'explicit')",
    "insert into items (k) select g from generate_series(10, 30) g returning id, k",
    "insert into items (k, a) select g, array[[g, g], [g, null]] from generate_series(31, 34) g",
    "insert into items (k, v) select w, l from labels order by w desc returning id, k, v",
    "insert into items (k, v) select k, 'copy' from items where k < 5 order by k, v returning id, k, v",
    "insert into items (k, v) select max(k), 'max' from items",
    "insert into items (k, v) select k, l from items join labels on labels.w = items.k order by 1, 2",
    "insert into items (k) values (1), (null)",
    "insert into items (k, v) values (1, 'x'), (1001, 'too large')",
    "insert into items (id, k) values (null, 1)",
    "insert into items (id, k) values (3000, 1), (1, 1)",
    "insert into items (id, k) values (3001, 1), (3001, 1)",
    "insert into items (k, e) values (1, '[1,2]')",
    "insert into items (k, g) values (1, 1)",
    "insert into items (k, nosuch) values (1, 1)",
    "insert into items (k) values ('x')",
    "insert into items (k) values ((select max(k) from items)), ((select min(k) from items)) returning k",
    "insert into items (k) values (1) returning (select count(*) from labels), k, random() < 2",
    "insert into items (k) values (1) returning 'constant'",
    "insert into items (k) values (1), (2) returning (select l from labels where w = k)",
    "insert into items (k, v) select 1, repeat('long', 1000) from generate_series(1, 50)",
    "insert into items default values",
    "with r as (insert into items (k) values (8), (9) returning id, k) select sum(k) from r",
    "with r as (insert into items (k) values (10), (11) returning id, k) select 1",
    """with r as (insert into items (k) values (10), (11) returning k)
       insert into labels select k, 'from r' from r returning *""",
    "with r as (select 77 as k) insert into items (k) select k from r",
    "insert into items (k) select 1 where false returning *",
    "insert into items (id, k) overriding system value values (5000, 1)",
    "insert into items_view (k, v) values (12, 'view') returning *",
]

CONFLICTS = [
    "insert into items (id, k) select g, g from generate_series(1, 10) g",
    "insert into items (id, k, v) values (1, 100, 'n'), (20, 1, 'z') on conflict do nothing returning *",
    """insert into items as x (id, k, v) values (1, 100, 'n'), (21, 1, 'z') on conflict (id)
       do update set v = excluded.v || x.v || 'lit', k = x.k + excluded.k where x.k < 500 returning *""",
    """insert into items (id, k, v) select g, g, 'up' from generate_series(1, 30) g
       on conflict on constraint items_pkey do update set id = excluded.id,
       v = coalesce(excluded.v, items.v), a = '{1,2}', f = default""",
    "insert into items (id, k) values (1, 1), (2, 2) on conflict (id) do update set k = excluded.k where false",
    "insert into items (id, k) values (50, 1), (50, 2) on conflict (id) do update set k = excluded.k",
    "insert into items (id, k) values (50, 1), (50, 2) on conflict (id) do nothing",
    "insert into items (id, k) values (51, 1) on conflict (k) do nothing",
    "insert into items (id, k) values (1, 1) on conflict (id) do update set k = (select 17) + items.k returning k",
    """insert into items (id, k, e) values (1, 1, '[1,1,1]') on conflict (id)
       do update set (k, e) = (excluded.k, excluded.e) returning e, k""",
    """insert into items (id, k) select id, k from items on conflict (id)
       do update set k = items.k + 1 where items.id % 2 = 0""",
    "insert into items (id, k) values (1, 5000) on conflict (id) do nothing",
    "insert into items (id, k) values (2, 3) on conflict (id) do update set k = 5000",
    """insert into items (id, k, v) select g % 500, 1, 'many' from generate_series(1, 499) g
       on conflict (id) do update set v = excluded.v, k = items.k""",
    "insert into items (id, k) select g % 400, 1 from generate_series(1, 800) g on conflict (id) do update set k = 2",
]

UPDATES = [
    """insert into items (id, k, v, f, a, e) select g, g, 'v' || g, g / 2.0, array[g, g + 1],
       ('[' || g || ',1,2]')::vector from generate_series(1, 100) g""",
    "update items set v = v || 'x', k = k + 1 where id = 2 returning id, v, g, items",
    "update items set f = id * 2 where k between 10 and 20 returning id, f, (select 5)",
    "update items set v = null, f = default where id in (3, 4, 5)",
    "update items set v = default, a = '{9}', e = '[7,8,9]' where id = any (array[6, 7])",
    "update items set k = (select max(k) from items) where id = 4 returning k",
    "update items set (k, v) = (50, 'row') where id = 8",
    "update items set (k, v) = (select w, l from labels where w = 1) where id = 9 returning *",
    "update items set id = id where id = 9",
    "update items set id = 10, v = 'same' where id = 10",
    "update items set k = k where v like 'v1%' and length(v) = 3",
    "update items set k = 5000 where id = 11",
    "update items set k = null where id = 11",
    "update items set k = k / (k - 60)",
    "update items set e = '[1,2]' where id = 12",
    "update items set g = default where id = 12 returning g",
    "update items set v = 'none' where false",
    "update items set v = 'none' where id = 12 and id = 13",
    "update items set v = 'none' where id = null",
    "update items set v = 'all'",
    "update items set v = upper(v) || id, f = sqrt(k)",
    "update items set v = case when k > 50 then 'big' else 'small' end where e <-> '[0,0,0]' < 40",
    "update items as z set v = z.v || '!' where z.id % 7 = 3 returning z.id, z.v",
    "update items_view set v = 'view' where k = 30 returning *",
    "with u as (update items set v = 'cte' where id < 5 returning id, v) select * from u order by id",
    "with u as (update items set v = 'cte2' where id < 5) select 1",
    "with w as (select 60 as k) update items set v = 'with' where k > (select k from w)",
    "update only items set v = 'only' where id = 13",
    "delete from items where id = 3 returning *",
    "delete from items where id = 3",
    "delete from items where k > 90 and v is not null returning id + 1",
    "delete from items where exists (select 1 from labels) and id = 20",
    "delete from items where k > (select avg(k) from items)",
    "delete from items_view where k = 31",
    "with d as (delete from items where id < 20 returning k) select count(*), sum(k) from d",
    "with d as (delete from items where id < 40 returning k, v) insert into labels select k, v from d",
    "delete from items",
]

# What is refused (0A000), and what the message names.
REFUSED = [
    ("update items set id = 3 where id = 4", "distribution column"),
    ("update items set id = id + 1", "distribution column"),
    ("insert into items (id, k) values (1, 1) on conflict (id) do update set id = 7", "distribution column"),
    ("update items set k = random() * 3", "volatile function"),
    ("update items set k = nextval('items_id_seq')", "volatile function"),
    ("delete from items where random() < 0.5", "volatile function"),
    ("insert into items (id, k) values (1, 1) on conflict (id) do update set v = random()::text", "volatile function"),
    ("update items set k = (select w from labels where l = v)", "subquery"),
    ("delete from items where id not in (select w from labels)", "subquery"),
    ("update items set v = local_function(v)", "expression"),
    ("delete from items where ctid = '(0,1)'", "system column"),
    ("delete from items where k = 1 returning xmin", "system column"),
    ("merge into items using labels on w = id when matched then delete", "MERGE"),
    ("update items set a[1] = 5", "array element"),
    ("with d as (delete from items) insert into items (k) values (1)", "twice"),
    ("with d as (insert into items (k) values (1)) select count(*) from items", "twice"),
    ("delete from items returning (select count(*) from items i where i.k = items.k)", "RETURNING"),
    ("insert into items_checked (k) values (1)", "CHECK OPTION"),
    ("delete from items_barrier", "barrier"),
]
