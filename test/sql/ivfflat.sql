-- ivfflat: the SQL surface, options, what is indexed, recall of build and insert, iterative scans.
begin;
select plan(84);
set local enable_seqscan = off;

-- ---------------------------------------------------------------- surface
select is((select count(*)::int from pg_opclass c join pg_am a on a.oid = opcmethod
           where amname = 'ivfflat' and opcname in ('vector_l2_ops', 'vector_ip_ops', 'vector_cosine_ops')), 3,
    'operator classes');
select is((select opcname::text from pg_opclass c join pg_am a on a.oid = opcmethod
           where amname = 'ivfflat' and opcdefault and opcintype = 'vector'::regtype), 'vector_l2_ops',
    'the default operator class');
select ok(bool_and(amvalidate(c.oid)), 'operator classes are valid')
    from pg_opclass c join pg_am a on a.oid = opcmethod where amname = 'ivfflat';
select is(current_setting('ivfflat.probes'), '1');
select is(current_setting('ivfflat.iterative_scan'), 'off');
select is(current_setting('ivfflat.max_probes'), '32768');
select throws_ok('set ivfflat.probes = 0', '22023');
select throws_ok('set ivfflat.probes = 32769', '22023');
select throws_ok('set ivfflat.iterative_scan = strict_order', '22023');
select throws_ok('set ivfflat.max_probes = 0', '22023');
select throws_ok('set ivfflat.no_such_setting = 1');

create table items (id int primary key, embedding vector(3), kind int);
select throws_ok('create index on items using ivfflat (embedding) with (lists = 0)', '22023',
    'value 0 out of bounds for option "lists"');
select throws_ok('create index on items using ivfflat (embedding) with (lists = 32769)', '22023',
    'value 32769 out of bounds for option "lists"');
create table loose (embedding vector);
select throws_ok('create index on loose using ivfflat (embedding)', '22023', 'column does not have dimensions');
select throws_ok('create index on items using ivfflat (embedding, embedding)', '0A000');
select throws_ok('create unique index on items using ivfflat (embedding)', '0A000');
select throws_ok('create index on items using ivfflat (embedding vector_l1_ops)', '42704');

-- ---------------------------------------------------------------- one index, by hand
insert into items values (1, '[0,0,0]'), (2, '[1,1,1]'), (3, '[1,2,3]'), (4, null);
set local client_min_messages = warning;
create index items_l2 on items using ivfflat (embedding) with (lists = 1);
insert into items values (5, '[1,2,4]'), (6, null);
select results_eq($$select id from items order by embedding <-> '[3,3,3]'$$, array[3, 5, 2, 1], 'order, without NULLs');
select is((select count(*)::int from (select 1 from items order by embedding <-> (select null::vector) limit 10) s), 4, 'a NULL query gives all, in any order');
select throws_ok($$select id from items order by embedding <-> '[1,2]' limit 1$$, '22000', 'different vector dimensions 3 and 2');
select is((select (lists, dimensions, metric, rows)::text from ivfflat_index_info('items_l2')), '(1,3,l2,4)');
select is_empty($$select * from ivfflat_index_check('items_l2')$$);
select throws_ok($$select ivfflat_index_check('items')$$, '42809');
select throws_ok($$select ivfflat_index_info('items_pkey')$$, '42809');
select throws_ok($$select hnsw_index_info('items_l2')$$, '42809');
drop index items_l2;

-- Zero vectors have no place under cosine.
create index items_cosine on items using ivfflat (embedding vector_cosine_ops) with (lists = 1);
select results_eq($$select id from items order by embedding <=> '[1,1,1]'$$, array[2, 3, 5]);
insert into items values (7, '[0,0,0]'), (8, '[2,2,2]');
select set_eq($$select id from items order by embedding <=> '[1,1,1]' limit 2$$, array[2, 8]);
select is((select count(*)::int from (select 1 from items order by embedding <=> '[0,0,0]' limit 10) s), 4);
select is_empty($$select * from ivfflat_index_check('items_cosine')$$);
drop index items_cosine;
create index items_ip on items using ivfflat (embedding vector_ip_ops) with (lists = 1);
select results_eq($$select id from items order by embedding <#> '[1,2,3]' limit 2$$, array[5, 3]);
drop index items_ip;

-- Partial and expression indexes.
create table mixed (id int, embedding vector, kind int);
insert into mixed select i, (case when i % 2 = 0 then array[i, 1] else array[i, 1, 1] end)::vector, i % 2
    from generate_series(1, 100) i;
create index mixed_2d on mixed using ivfflat ((embedding::vector(2)) vector_l2_ops) with (lists = 2) where kind = 0;
set local ivfflat.probes = 2;
select results_eq($$select id from mixed where kind = 0 order by embedding::vector(2) <-> '[50.5,1]' limit 3$$,
    array[50, 52, 48], 'a partial index on an expression');
select is_empty($$select * from ivfflat_index_check('mixed_2d')$$);
select throws_ok($$insert into mixed values (1000, '[1,2,3]', 0)$$, '22000');
set local ivfflat.probes = 1;

-- ---------------------------------------------------------------- few rows, equal rows
create table twins (id int, embedding vector(2));
create index twins_ivf on twins using ivfflat (embedding) with (lists = 10);
select is((select lists from ivfflat_index_info('twins_ivf')), 1, 'an index on nothing has one list');
insert into twins select i, '[1,2]' from generate_series(1, 1000) i;
select is((select count(*)::int from (select 1 from twins order by embedding <-> '[1,2]' limit 2000) s), 1000,
    'which has all that come');
reindex index twins_ivf;
select is((select lists from ivfflat_index_info('twins_ivf')), 1, 'no more lists than different vectors');
insert into twins select 1000 + i, array[i, i] from generate_series(1, 4) i;
reindex index twins_ivf;
select is((select (lists, empty_lists, rows)::text from ivfflat_index_info('twins_ivf')), '(5,0,1004)');
select is_empty($$select * from ivfflat_index_check('twins_ivf')$$);
select is((select sum(n)::int from ivfflat_index_info('twins_ivf'), unnest(rows_by_list) n), 1004, 'rows by list');

-- ---------------------------------------------------------------- recall
create function random_vector(dim int, seed int) returns real[] language sql volatile as
    $$select array_agg(random() - 0.3) from generate_series(1, dim + seed * 0)$$;
create function ids(query text, exact bool) returns int[] language plpgsql as $$
declare result int[];
begin
    perform set_config('enable_indexscan', (not exact)::text, true), set_config('enable_seqscan', exact::text, true);
    execute format('select array_agg(id) from (%s) s', query) into result;
    perform set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'off', true);
    return result;
end $$;
create function recall(operator text, dim int) returns float language sql as $$
    select avg(share) from (
        select (select count(*) / 10.0 from unnest(ids(q.query, true)) e where e = any (ids(q.query, false))) share
        from (select format('select id from points order by embedding %s %L limit 10', operator,
                            random_vector(dim, i)::vector) query
              from generate_series(1, 20) i) q) r $$;
create function points_index(opclass text, lists int) returns void language plpgsql as $$
begin
    drop index if exists points_ivf;
    execute format('create index points_ivf on points using ivfflat (embedding %I) with (lists = %s)', opclass, lists);
end $$;
select setseed(0.5);
-- Without codes.
create table points (id serial, embedding vector(24));
insert into points (embedding) select random_vector(24, i) from generate_series(1, 1500) i;
set local ivfflat.probes = 12;
select points_index('vector_l2_ops', 20);
select cmp_ok(recall('<->', 24), '>=', 0.9::float, 'recall of a build, L2');
select is_empty($$select * from ivfflat_index_check('points_ivf')$$);
select points_index('vector_cosine_ops', 20);
select cmp_ok(recall('<=>', 24), '>=', 0.9::float, 'recall of a build, cosine');
select points_index('vector_ip_ops', 20);
select cmp_ok(recall('<#>', 24), '>=', 0.9::float, 'recall of a build, inner product');
set local ivfflat.probes = 20;
select is(recall('<#>', 24), 1::float, 'all lists: exact');
truncate points;
select is((select rows::int from ivfflat_index_info('points_ivf')), 0, 'truncated');

-- With codes.
alter table points alter embedding type vector(100) using null;
drop index if exists points_ivf;
insert into points (embedding) select random_vector(100, i) from generate_series(1, 1500) i;
set local ivfflat.probes = 17;
select points_index('vector_l2_ops', 20);
select cmp_ok((select code_bits from ivfflat_index_info('points_ivf')), '>', 0, 'codes');
select cmp_ok(recall('<->', 100), '>=', 0.9::float, 'recall by codes, L2');
select is_empty($$select * from ivfflat_index_check('points_ivf')$$);
select points_index('vector_cosine_ops', 20);
select cmp_ok(recall('<=>', 100), '>=', 0.9::float, 'recall by codes, cosine');
select is_empty($$select * from ivfflat_index_check('points_ivf')$$);
select points_index('vector_ip_ops', 20);
select cmp_ok(recall('<#>', 100), '>=', 0.9::float, 'recall by codes, inner product');
select is_empty($$select * from ivfflat_index_check('points_ivf')$$);
set local ivfflat.probes = 20;
select is(recall('<#>', 100), 1::float, 'all lists, inner product: exact');
select points_index('vector_l2_ops', 20);
select is(recall('<->', 100), 1::float, 'all lists, L2: exact');
insert into points (embedding) select random_vector(100, i) from generate_series(1, 1500) i;
set local ivfflat.probes = 17;
select cmp_ok(recall('<->', 100), '>=', 0.9::float, 'recall of inserts');
select is_empty($$select * from ivfflat_index_check('points_ivf')$$);

-- Order and distances are those of the operator, however many rows are wanted.
create function ordered(operator text) returns bool language plpgsql as $$
declare result bool;
begin
    execute format($q$select bool_and(d >= before) and count(*) > 500 from (select d, lag(d, 1, d) over () before
        from (select embedding %1$s (select embedding from points where id = 2000) d from points
              order by embedding %1$s (select embedding from points where id = 2000) limit 600) s) s$q$, operator)
        into result;
    return result;
end $$;
select ok(ordered('<->'), 'in order, L2');
select points_index('vector_cosine_ops', 20);
select ok(ordered('<=>'), 'in order, cosine');
select points_index('vector_ip_ops', 20);
select ok(ordered('<#>'), 'in order, inner product');

-- ---------------------------------------------------------------- halfvec and bit
select is((select array_agg(opcname::text order by opcname) from pg_opclass c join pg_am a on a.oid = opcmethod
           where amname = 'ivfflat' and opcintype <> 'vector'::regtype),
    array['bit_hamming_ops', 'halfvec_cosine_ops', 'halfvec_ip_ops', 'halfvec_l2_ops']);
select throws_ok('create index on points using ivfflat ((embedding::halfvec(100)))', '42704');
drop index points_ivf;
-- Of the ten nearest rows by the index as many as are no farther than the tenth.
create function share(expression text, query text) returns float language plpgsql as $$
declare farthest float; result float;
begin
    perform set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'on', true);
    execute format('select max(d) from (select %1$s %2$s d from points order by d limit 10) s', expression, query) into farthest;
    perform set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'off', true);
    execute format('select count(*) filter (where d <= $1) / 10.0 from (select %1$s %2$s d from points order by %1$s %2$s limit 10) s',
                   expression, query) using farthest + 1e-6 into result;
    return result;
end $$;
create function shares(expression text, query text) returns float language sql volatile as $$
    select avg(share(expression, format(query, random_vector(100, i)::vector))) from generate_series(1, 15) i $$;
set local ivfflat.probes = 17;
create index points_half on points using ivfflat ((embedding::halfvec(100)) halfvec_l2_ops) with (lists = 20);
select cmp_ok(shares('embedding::halfvec(100)', '<-> %L::halfvec(100)'), '>=', 0.9::float, 'recall, halfvec L2');
select is_empty($$select * from ivfflat_index_check('points_half')$$);
set local ivfflat.probes = 20;
select is(shares('embedding::halfvec(100)', '<-> %L::halfvec(100)'), 1::float, 'halfvec L2, all lists: exact');
drop index points_half;
set local ivfflat.probes = 17;
create index points_half on points using ivfflat ((embedding::halfvec(100)) halfvec_cosine_ops) with (lists = 20);
select cmp_ok(shares('embedding::halfvec(100)', '<=> %L::halfvec(100)'), '>=', 0.9::float, 'recall, halfvec cosine');
select is_empty($$select * from ivfflat_index_check('points_half')$$);
drop index points_half;
create index points_half on points using ivfflat ((embedding::halfvec(100)) halfvec_ip_ops) with (lists = 20);
select cmp_ok(shares('embedding::halfvec(100)', '<#> %L::halfvec(100)'), '>=', 0.9::float, 'recall, halfvec inner product');
insert into points (embedding) select random_vector(100, i) from generate_series(1, 200) i;
select is_empty($$select * from ivfflat_index_check('points_half')$$);
drop index points_half;
create index points_bit on points using ivfflat ((binary_quantize(embedding)::bit(100)) bit_hamming_ops) with (lists = 20);
select cmp_ok(shares('binary_quantize(embedding)::bit(100)', '<~> binary_quantize(%L::vector)::bit(100)'), '>=', 0.85::float, 'recall, bit');
insert into points (embedding) select random_vector(100, i) from generate_series(1, 200) i;
select is_empty($$select * from ivfflat_index_check('points_bit')$$);
set local ivfflat.probes = 20;
select is(shares('binary_quantize(embedding)::bit(100)', '<~> binary_quantize(%L::vector)::bit(100)'), 1::float, 'bit, all lists: exact');
select is((select metric from ivfflat_index_info('points_bit')), 'hamming');
select throws_ok('create index on points using ivfflat ((binary_quantize(embedding)) bit_hamming_ops)', '22023', 'column does not have dimensions');
drop index points_bit;

-- ---------------------------------------------------------------- iterative scans
set local ivfflat.probes = 1;
select points_index('vector_l2_ops', 20);
create function found() returns int language sql volatile as $$
    select count(*)::int from (select 1 from points order by embedding <-> array_fill(0.1, array[100])::vector limit 5000) s $$;
create temp table counted as select rows_by_list by_list, rows from ivfflat_index_info('points_ivf');
select is(found() = any (by_list), true, 'off: one list') from counted;
set local ivfflat.iterative_scan = relaxed_order;
select is(found(), rows::int, 'relaxed_order: all lists') from counted;
set local ivfflat.max_probes = 3;
select cmp_ok(found(), '<=', (select sum(n) from (select unnest(by_list) n order by n desc limit 3) s)::int,
    'max_probes: so many lists') from counted;
set local ivfflat.probes = 5;
select cmp_ok(found(), '>=', (select sum(n) from (select unnest(by_list) n order by n limit 5) s)::int,
    'max_probes below probes: probes counts') from counted;
set local ivfflat.max_probes = 32768;
set local ivfflat.probes = 1;
alter table points add kind int;
update points set kind = id % 100;
select is((select count(*)::int from (select 1 from points where kind = 7 order by embedding <-> array_fill(0.1, array[100])::vector limit 10) s), 10,
    'a filter gets its rows');
set local ivfflat.iterative_scan = off;

-- ---------------------------------------------------------------- plans
set local enable_seqscan = on;
analyze points;
create function plan_of(query text) returns text language plpgsql as $$
declare line text; result text := '';
begin
    for line in execute 'explain (costs off) ' || query loop
        result := result || line || E'\n';
    end loop;
    return result;
end $$;
set local ivfflat.probes = 3;
select matches(plan_of($$select id from points order by embedding <-> array_fill(0.1, array[100])::vector limit 10$$), 'points_ivf', 'a LIMIT: the index');
select matches(plan_of($$select id from points order by embedding <-> array_fill(0.1, array[100])::vector limit 10$$), 'Vector Index Scan', 'which hands out the distance');
select doesnt_match(plan_of($$select id from points order by embedding <-> array_fill(0.1, array[100])::vector$$), 'points_ivf', 'no LIMIT: all rows, so not the index');
select doesnt_match(plan_of($$select id from points$$), 'points_ivf', 'no order: not the index');
select doesnt_match(plan_of($$select id from points where kind = 7 order by embedding <-> array_fill(0.1, array[100])::vector limit 1000$$), 'points_ivf', 'more rows than the lists have: not the index');
select matches(plan_of($$select id from points order by embedding <-> array_fill(0.1, array[100])::vector limit 5$$), 'Order By', 'shown in EXPLAIN');

select * from finish();
rollback;
