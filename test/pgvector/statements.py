"""What is run on pgvector and on Panvel alike: steps of SQL, by name."""

import json
import random

# Runs a statement and gives its value or its error as text; what it changed stays.
SETUP = """
create extension vector;
create schema work;
create function work.attempt(sql text) returns text language plpgsql as $$
declare result text;
begin
    if sql not like 'select%' then
        execute sql;
        return 'done';
    end if;
    execute sql into result;
    return coalesce(result, 'NULL');
exception when others then
    return sqlstate || ': ' || sqlerrm;
end $$;
"""

VECTORS = ["[1,2,3]", "[-4,0.5,6]", "[0,0,0]", "[1,2]", "[3e38,-3e38,1]", "[1e-30,0,-1e-30]", "[-0,0.1,70000]"]
HALVES = ["[1,2,3]", "[-4,0.5,6]", "[0,0,0]", "[1,2]", "[65504,-65504,1]", "[6e-8,0,-6e-8]", "[-0,0.1,2049]"]
SPARSE = ["{1:1,2:2,3:3}/3", "{1:-4,2:0.5,3:6}/3", "{}/3", "{1:1,2:2}/2", "{1:3e38,3:1}/3", "{2:1e-30}/3", "{3:70000}/3"]
BITS = ["101", "110", "000", "10", ""]
POOL = [("vector", VECTORS), ("halfvec", HALVES), ("sparsevec", SPARSE), ("bit", BITS),
        ("integer", ["-1", "0", "1", "2", "5", "2147483647"])]

NUMBERS = ["{1,2,3}", "{}", "{0}", "{NULL}", "{1,NULL}", "{{1,2},{3,4}}", "[0:1]={1,2}"]
REALS = ["{NaN}", "{Infinity}", "{-Infinity}", "{1.5,-0}", "{65519}", "{65520}", "{1e-8}", "{3e-8,6e-8}"]
ARRAYS = [("integer[]", NUMBERS + ["{70000}"]), ("real[]", NUMBERS + REALS), ("double precision[]", NUMBERS + REALS + ["{1e39}", "{1e-50}"]),
          ("numeric[]", NUMBERS + REALS[3:] + ["{1e39}", "{1e-50}", "{NaN}"])]


def values_of(pool):
    rows = ", ".join(f"('{kind}', '{value}')" for kind, values in pool for value in values)
    return f"(values {rows}) as pool(type, value)"


# ---------------------------------------------------------------------- functions, operators, casts
# Each function on each combination of arguments of its types; {"call": answer}.
MEMBERS = """select d.objid from pg_depend d join pg_extension e on e.oid = d.refobjid and e.extname = 'vector'
             where d.deptype = 'e' and d.classid = '{}'::regclass"""


def calls(arity):
    arguments = [f"pool a{i}" for i in range(arity)]
    matches = [f"a{i}.type = format_type(p.proargtypes[{i}], null)" for i in range(arity)]
    texts = [f"quote_literal(a{i}.value) || '::' || a{i}.type" for i in range(arity)]
    return f"""
        with pool as (select * from {values_of(POOL)})
        select json_object_agg(sql, work.attempt('select (' || sql || ')::text'))::text from (
            select p.proname || '(' || {" || ', ' || ".join(texts)} || ')' as sql
            from pg_proc p, {", ".join(arguments)}
            where p.oid in ({MEMBERS.format("pg_proc")}) and p.prokind = 'f' and p.pronargs = {arity}
              and {" and ".join(matches)}) s"""


OPERATORS = f"""
    with pool as (select * from {values_of(POOL)})
    select json_object_agg(sql, work.attempt('select (' || sql || ')::text'))::text from (
        select quote_literal(a.value) || '::' || a.type || ' ' || o.oprname || ' ' || quote_literal(b.value) || '::' || b.type as sql
        from pg_operator o, pool a, pool b
        where o.oid in ({MEMBERS.format("pg_operator")}) and a.type = format_type(o.oprleft, null)
          and b.type = format_type(o.oprright, null)) s"""

ALL = ("vector", "halfvec", "sparsevec")
TARGETS = {"vector": [*ALL, "real[]"], "halfvec": [*ALL, "real[]"], "sparsevec": ALL}
CASTS = [f"select ('{value}'::{kind}::{target}{dimensions})::text"
         for kind, values in POOL[:3] + ARRAYS for value in values for target in TARGETS.get(kind, ALL)
         for dimensions in ([""] if target == "real[]" else ["", "(3)", "(2)"])]


def attempts(statements):
    text = json.dumps(statements)
    return f"""select json_object_agg(sql, work.attempt(sql))::text from json_array_elements_text($json${text}$json$) s(sql)"""


# ---------------------------------------------------------------------- text
def random_texts(kind, count=1200):
    """Most of them nearly right: a valid value with a few characters changed."""
    generator = random.Random(kind)
    alphabet = "[]{}:,/ 0123456789.eE+-naif\t" + "[],:" * 3
    seeds = {"vector": VECTORS + ["[1.5e3, -2 ,+3]", " [1] "], "halfvec": HALVES + ["[1.5e3, -2 ,+3]"],
             "sparsevec": SPARSE + ["{1:1.5e3, 3 : -2}/5", " {2:1} /3 "]}[kind]
    texts = []
    for _ in range(count):
        text = list(generator.choice(seeds))
        for _ in range(generator.randrange(1, 4)):
            place = generator.randrange(len(text) + 1)
            text[place:place + generator.randrange(2)] = generator.choice(alphabet) * generator.randrange(2)
        texts.append("".join(text))
    return texts


def input_of(kind):
    return [f"select '{text}'::{kind}::text" for text in dict.fromkeys(random_texts(kind))]


MODIFIERS = [f"select null::{kind}({modifier})" for kind in ("vector", "halfvec", "sparsevec")
             for modifier in ("0", "-1", "1", "16000", "16001", "1000000000", "1000000001", "1,2", "a", "3000000000", "'1'")]
OUTPUT = [f"select encode({kind}_send('{value}'), 'hex')"
          for kind, values in POOL[:3] for value in values]
ROWS = ["('[1,2,3]'),('[4,5,6]'),(null)", "(null),(null)", "('[1,2]'),('[1,2,3]')", "('[60000,1,1]'),('[60000,1,1]')",
        "('[0.1,0.2,0.3]')"]
AGGREGATES = [f"select {name}(v::{kind})::text from (values {rows}) t(v)" for name in ("avg", "sum")
              for kind in ("vector", "halfvec") for rows in ROWS]
AGGREGATES += [f"select {name}(v)::text from (select '[1]'::{kind} v where false) t" for name in ("avg", "sum")
               for kind in ("vector", "halfvec")]
AGGREGATES += ["select sum(v)::text from (values ('[3e38]'::vector), ('[3e38]')) t(v)",
               "select avg(v)::text from (values ('[3e38]'::vector), ('[3e38]')) t(v)"]
STATES = [f"select {kind}_{name}::text" for kind in ("vector", "halfvec") for name in (
    "accum('{0}', '[1,2]')", "accum('{1,2,3}', '[1,2]')", "accum('{1,2}', '[1,2]')", "accum('{1,2,3}', null)",
    "combine('{1,2,3}', '{0}')", "combine('{0}', '{1,2,3}')", "combine('{1,2,3}', '{2,4,6}')", "combine('{1,2}', '{2,4,6}')",
    "avg('{2,2,4}')", "avg('{0}')")]

# ---------------------------------------------------------------------- indexes
CLASSES = [("hnsw", kind, metric) for kind in ("vector", "halfvec", "sparsevec") for metric in ("l2", "ip", "cosine", "l1")]
CLASSES += [("hnsw", "bit", "hamming"), ("hnsw", "bit", "jaccard"), ("ivfflat", "bit", "hamming")]
CLASSES += [("ivfflat", kind, metric) for kind in ("vector", "halfvec") for metric in ("l2", "ip", "cosine")]
SIGNS = {"l2": "<->", "ip": "<#>", "cosine": "<=>", "l1": "<+>", "hamming": "<~>", "jaccard": "<%>"}
ITEMS = {"vector": VECTORS[:3], "halfvec": HALVES[:3], "sparsevec": SPARSE[:3], "bit": ["101", "100", "000"]}


def use_index(method, kind, metric):
    """What an index hands out: in order, without NULLs, and under cosine without zero vectors."""
    table, query = f"work.{method}_{kind}_{metric}", ITEMS[kind][0]
    operand = f"'{query}'::{kind}" if kind != "bit" else f"B'{query}'"
    rows = f"select v from {table} order by v {SIGNS[metric]} {operand}"
    return [f"create table {table} (v {kind}(3))",
            f"insert into {table} values (null), " + ", ".join(f"('{item}')" for item in ITEMS[kind]),
            f"create index on {table} using {method} (v {kind}_{metric}_ops)",
            f"insert into {table} values (null), ('{ITEMS[kind][1]}'), ('{ITEMS[kind][2]}')",
            "set enable_seqscan = off; set ivfflat.probes = 100",
            f"select string_agg(v::text, ' ') from ({rows}) t",
            f"select count(*) from (select from {table} order by v {SIGNS[metric]} null::{kind}) t",
            f"select count(*) from (select from {table} order by v {SIGNS[metric]} '{ITEMS[kind][2]}') t",
            f"select from {table} order by v {SIGNS[metric]} '{dict(vector='[1,2]', halfvec='[1,2]', sparsevec='{1:1}/2', bit='11')[kind]}'",
            "reset enable_seqscan; reset ivfflat.probes"]


TABLE = "create table work.t (v vector(3), h halfvec(3), s sparsevec(3), b bit(3), n vector, bn varbit, i int)"
REFUSED = [
    "hnsw (v)", "hnsw (v vector_ops)", "hnsw (v halfvec_l2_ops)", "hnsw (n vector_l2_ops)", "hnsw (i vector_l2_ops)",
    "hnsw (v vector_l2_ops, v vector_ip_ops)", "hnsw (v vector_l2_ops desc)", "hnsw (v vector_l2_ops nulls first)",
    "hnsw (v vector_l2_ops) include (i)", "hnsw (bn bit_hamming_ops)", "hnsw ((h::vector) vector_l2_ops)",
    "ivfflat ((h::vector) vector_l2_ops)", "ivfflat (n)", "ivfflat (v vector_l1_ops)", "ivfflat (s sparsevec_l2_ops)", "ivfflat (h)",
    "ivfflat (b)", "ivfflat (v, v)", "ivfflat (v) include (i)", "ivfflat (b bit_jaccard_ops)", "btree (b bit_hamming_ops)",
    "ivfflat ((v::vector(2)))", "hnsw ((v::vector(2)) vector_l2_ops)",
    *(f"hnsw (v vector_l2_ops) with ({option})" for option in (
        "m = 1", "m = 2", "m = 100", "m = 101", "m = 'a'", "ef_construction = 3", "ef_construction = 4", "ef_construction = 31",
        "ef_construction = 32", "ef_construction = 1000", "ef_construction = 1001", "m = 4, ef_construction = 7",
        "m = 4, ef_construction = 8", "lists = 5", "fillfactor = 70", "nonsense = 1")),
    *(f"ivfflat (v) with ({option})" for option in ("lists = 0", "lists = 1", "lists = 32769", "lists = 'a'", "m = 5", "fillfactor = 70"))]
INDEXES = [TABLE, "insert into work.t values ('[1,2,3]', '[1,2,3]', '{1:1}/3', '101', '[1,2,3]', '101', 1)",
           *(f"create index on work.t using {what}" for what in REFUSED),
           "create unique index on work.t using hnsw (v vector_l2_ops)", "create unique index on work.t using ivfflat (v)",
           "insert into work.t (v) values ('[1,2]')", "update work.t set v = '[1]'", "alter table work.t alter v type vector(2)",
           "alter index work.t_v_idx set (m = 200)", "alter index work.t_v_idx set (m = 8)", "alter table work.t cluster on t_v_idx"]

SETTINGS = [f"set {setting}" for setting in (
    "hnsw.ef_search = 0", "hnsw.ef_search = 1", "hnsw.ef_search = 1000", "hnsw.ef_search = 1001", "hnsw.ef_search = 'a'",
    "hnsw.iterative_scan = on", "hnsw.iterative_scan = strict_order", "hnsw.iterative_scan = relaxed_order",
    "hnsw.iterative_scan = off", "hnsw.iterative_scan = nonsense", "hnsw.max_scan_tuples = 0", "hnsw.max_scan_tuples = 1",
    "hnsw.max_scan_tuples = 2147483647", "hnsw.max_scan_tuples = 2147483648", "hnsw.scan_mem_multiplier = 0.9",
    "hnsw.scan_mem_multiplier = 1.5", "hnsw.scan_mem_multiplier = 1000", "hnsw.scan_mem_multiplier = 1000.1",
    "ivfflat.probes = 0", "ivfflat.probes = 32768", "ivfflat.probes = 32769", "ivfflat.iterative_scan = relaxed_order",
    "ivfflat.iterative_scan = strict_order", "ivfflat.iterative_scan = off", "ivfflat.max_probes = 0",
    "ivfflat.max_probes = 32768", "ivfflat.max_probes = 32769", "hnsw.nonsense = 1", "ivfflat.nonsense = 1")]

# ---------------------------------------------------------------------- the catalog
NAME = "replace(replace((pg_identify_object('{0}'::regclass, {1}, 0)).identity, 'public.', ''), 'pg_catalog.', '')"
CATALOG = {
    "functions": f"""select {NAME.format("pg_proc", "p.oid")} as what, format_type(prorettype, null), provolatile, proisstrict,
        proparallel, proretset, procost, l.lanname from pg_proc p join pg_language l on l.oid = prolang
        where p.oid in ({MEMBERS.format("pg_proc")})""",
    "aggregates": f"""select {NAME.format("pg_proc", "aggfnoid")} as what, aggtransfn::text, aggfinalfn::text, aggcombinefn::text,
        aggserialfn::text, aggtranstype::regtype::text, agginitval, aggfinalextra, aggfinalmodify
        from pg_aggregate where aggfnoid in ({MEMBERS.format("pg_proc")})""",
    "operators": f"""select {NAME.format("pg_operator", "o.oid")} as what, oprcode::oid::regprocedure::text, format_type(oprresult, null),
        (select oprname from pg_operator c where c.oid = o.oprcom), (select oprname from pg_operator n where n.oid = o.oprnegate),
        oprrest::text, oprjoin::text from pg_operator o where o.oid in ({MEMBERS.format("pg_operator")})""",
    "casts": f"""select {NAME.format("pg_cast", "c.oid")} as what, castfunc::regprocedure::text, castcontext, castmethod from pg_cast c
        where c.oid in ({MEMBERS.format("pg_cast")})""",
    "types": f"""select typname as what, typlen, typbyval, typcategory, typispreferred, typdelim, typalign, typstorage, typcollation,
        typinput::text, typoutput::text, typreceive::text, typsend::text, typmodin::text, typmodout::text
        from pg_type t where t.typname ~ '^_?(vector|halfvec|sparsevec)$'""",
    "classes": f"""select {NAME.format("pg_opclass", "c.oid")} as what, opcdefault, format_type(opcintype, null), opckeytype
        from pg_opclass c where c.oid in ({MEMBERS.format("pg_opclass")})""",
    "class members": f"""select am.amname || ' ' || opfname || ' ' || amopstrategy as what, amopopr::regoperator::text, amoppurpose,
        (select opfname from pg_opfamily s where s.oid = amopsortfamily) from pg_amop join pg_opfamily f on f.oid = amopfamily
        join pg_am am on am.oid = opfmethod where f.oid in ({MEMBERS.format("pg_opfamily")})
        union all select am.amname || ' ' || opfname || ' function ' || amprocnum, amproc::regprocedure::text, '', null
        from pg_amproc join pg_opfamily f on f.oid = amprocfamily join pg_am am on am.oid = opfmethod
        where f.oid in ({MEMBERS.format("pg_opfamily")})""",
    "access methods": f"""select amname as what, p.name, pg_indexam_has_property(a.oid, p.name)
        from pg_am a, unnest(array['can_order', 'can_unique', 'can_multi_col', 'can_exclude', 'can_include']) p(name)
        where a.oid in ({MEMBERS.format("pg_am")})""",
    "index properties": """select c.relname || ' ' || p.name as what, pg_index_has_property(c.oid, p.name),
        pg_index_column_has_property(c.oid, 1, p.name) from pg_class c join pg_am a on a.oid = c.relam and amname in ('hnsw', 'ivfflat'),
        unnest(array['clusterable', 'index_scan', 'bitmap_scan', 'backward_scan', 'asc', 'desc', 'nulls_first', 'nulls_last', 'orderable',
        'distance_orderable', 'returnable', 'search_array', 'search_nulls']) p(name) where c.relkind = 'i'""",
    "settings": """select name as what, vartype, unit, context, min_val, max_val, enumvals::text, boot_val
        from pg_settings where name ~ '^(hnsw|ivfflat)[.]'""",
}

# ---------------------------------------------------------------------- what is dumped
# No view has a constant vector: PGlite 0.3.14 ends with "memory access out of bounds" there.
DUMPED = """
create table items (
    id bigserial primary key, name text, embedding vector(3) not null, half halfvec(3) default '[0,0,1]',
    sparse sparsevec(5), bits bit(8), free vector, list vector(2)[],
    constraint near check (embedding <-> '[0,0,0]' < 100));
insert into items (name, embedding, half, sparse, bits, free, list)
    select 'item ' || i, array[i, i % 7, -i / 8.0]::vector, array[i, 1, 0.1]::vector::halfvec,
        format('{1:%s,5:0.25}/5', i + 1)::sparsevec, (i % 256)::bit(8), array[i]::vector, array['[1,2]', null]::vector(2)[]
    from generate_series(0, 49) i;
insert into items (name, embedding, half) values ('with nulls', '[0,0,0]', null);
create index items_hnsw on items using hnsw (embedding vector_l2_ops) with (m = 8, ef_construction = 40);
create index on items using hnsw (embedding vector_ip_ops);
create index on items using hnsw (embedding vector_cosine_ops) where id > 10;
create index on items using hnsw (embedding vector_l1_ops);
create index on items using hnsw (half halfvec_l2_ops);
create index on items using hnsw (half halfvec_ip_ops);
create index on items using hnsw (half halfvec_cosine_ops);
create index on items using hnsw (half halfvec_l1_ops);
create index on items using hnsw (sparse sparsevec_l2_ops);
create index on items using hnsw (sparse sparsevec_ip_ops);
create index on items using hnsw (sparse sparsevec_cosine_ops);
create index on items using hnsw (sparse sparsevec_l1_ops);
create index on items using hnsw (bits bit_hamming_ops);
create index on items using hnsw (bits bit_jaccard_ops);
create index on items using hnsw ((embedding::halfvec(3)) halfvec_l2_ops);
create index on items using hnsw ((binary_quantize(embedding)::bit(3)) bit_hamming_ops);
create index items_ivfflat on items using ivfflat (embedding) with (lists = 4);
create index on items using ivfflat (embedding vector_ip_ops) with (lists = 2);
create index on items using ivfflat (embedding vector_cosine_ops) with (lists = 2);
create index on items using ivfflat (half halfvec_l2_ops);
create index on items using ivfflat (half halfvec_ip_ops);
create index on items using ivfflat (half halfvec_cosine_ops);
create index on items using ivfflat (bits bit_hamming_ops) with (lists = 3);
create index on items (embedding);
create index on items (sparse);
create unique index on items (half, id);
create table parts (id int, embedding vector(2)) partition by range (id);
create table parts_1 partition of parts for values from (0) to (10);
create index on parts using hnsw (embedding vector_l2_ops);
insert into parts values (1, '[1,2]');
create materialized view centres as select id % 3 as part, avg(embedding), sum(half) from items group by 1;
create view pairs as select a.id, b.id as other, a.embedding <=> b.embedding as distance
    from items a join items b on a.id < b.id where a.embedding + b.embedding > b.embedding order by 3 limit 5;
create function nearest(query vector) returns bigint language sql as $$ select id from items order by embedding <-> query limit 1 $$;
create statistics items_statistics on id, embedding from items;
"""
ROWS_OF_DUMP = """select json_agg(row(id, name, embedding, half, sparse, bits, free, list)::text order by id)::text from items"""


def batches():
    """[{name: SQL}]: each is run in its order, in a database of its own; the first is what is dumped.

    PGlite 0.3.14 ends with "memory access out of bounds" sooner or later after large results, so that these come last and apart.
    """
    values = [
        {f"calls {arity}": calls(arity) for arity in (1, 2, 3)},
        {"operators": OPERATORS, "casts": attempts(CASTS)},
        {f"input {kind}": attempts(input_of(kind)) for kind in ("vector", "halfvec", "sparsevec")},
        {"modifiers": attempts(MODIFIERS), "output": attempts(OUTPUT)}]
    one_by_one = {"aggregates": AGGREGATES, "states": STATES, **{f"index {' '.join(names)}": use_index(*names) for names in CLASSES}, "indexes": INDEXES, "settings": SETTINGS}
    main = {
        "setup": SETUP,
        "dumped": DUMPED,
        "rows": ROWS_OF_DUMP,
        "files": "select pg_relation_filepath('items_hnsw'), pg_relation_filepath('items_ivfflat')",
        "little data": """create table work.little (v vector(3)); insert into work.little values ('[1,2,3]');
            create index on work.little using ivfflat (v vector_l2_ops) with (lists = 10)""",
        **{f"{name}: {sql}": sql for name, statements in one_by_one.items() for sql in statements},
        **{f"catalog {name}": sql for name, sql in CATALOG.items()},
    }
    return [main, *({"setup": SETUP, **batch} for batch in values)]
