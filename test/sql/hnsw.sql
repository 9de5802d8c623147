-- hnsw: the SQL surface, options, what is indexed, recall of build, insert and vacuum.
begin;
select plan(78);
set local enable_seqscan = off;
set local client_min_messages = warning;

-- ---------------------------------------------------------------- surface
select is((select count(*)::int from pg_opclass c join pg_am a on a.oid = opcmethod
           where amname = 'hnsw' and opcname in
               ('vector_l2_ops', 'vector_ip_ops', 'vector_cosine_ops', 'vector_l1_ops')), 4, 'operator classes');
select is((select count(*)::int from pg_opclass c join pg_am a on a.oid = opcmethod
           where amname = 'hnsw' and opcdefault), 0, 'no default operator class');
select ok(bool_and(amvalidate(c.oid)), 'operator classes are valid')
    from pg_opclass c join pg_am a on a.oid = opcmethod where amname = 'hnsw';
select is(current_setting('hnsw.ef_search'), '40');
select throws_ok('set hnsw.ef_search = 0', '22023');
select throws_ok('set hnsw.ef_search = 1001', '22023');
select throws_ok('set hnsw.no_such_setting = 1');

create table items (id int primary key, embedding vector(3), kind int);
select throws_ok('create index on items using hnsw (embedding)', '42704');
select throws_ok('create index on items using hnsw (embedding vector_l2_ops) with (m = 1)', '22023',
    'value 1 out of bounds for option "m"');
select throws_ok('create index on items using hnsw (embedding vector_l2_ops) with (m = 101)', '22023',
    'value 101 out of bounds for option "m"');
select throws_ok('create index on items using hnsw (embedding vector_l2_ops) with (ef_construction = 3)', '22023',
    'value 3 out of bounds for option "ef_construction"');
select throws_ok('create index on items using hnsw (embedding vector_l2_ops) with (ef_construction = 1001)', '22023',
    'value 1001 out of bounds for option "ef_construction"');
select throws_ok('create index on items using hnsw (embedding vector_l2_ops) with (m = 16, ef_construction = 31)',
    '22023', 'ef_construction must be greater than or equal to 2 * m');
create table loose (embedding vector);
select throws_ok('create index on loose using hnsw (embedding vector_l2_ops)', '22023', 'column does not have dimensions');
select throws_ok('create index on items using hnsw (embedding vector_l2_ops, embedding vector_l2_ops)', '0A000');
select throws_ok('create unique index on items using hnsw (embedding vector_l2_ops)', '0A000');

-- ---------------------------------------------------------------- one index, by hand
insert into items values (1, '[0,0,0]'), (2, '[1,1,1]'), (3, '[1,2,3]'), (4, null);
create index items_l2 on items using hnsw (embedding vector_l2_ops) with (m = 4, ef_construction = 8);
insert into items values (5, '[1,2,4]'), (6, null);
select results_eq($$select id from items order by embedding <-> '[3,3,3]'$$, array[3, 5, 2, 1], 'order, without NULLs');
select is((select count(*)::int from (select 1 from items order by embedding <-> (select null::vector) limit 10) s), 4, 'a NULL query gives all, in any order');
select throws_ok($$select id from items order by embedding <-> '[1,2]' limit 1$$, '22000', 'different vector dimensions 2 and 3');
select is((select (m, ef_construction, dimensions, metric)::text from hnsw_index_info('items_l2')), '(4,8,3,l2)');
select is_empty($$select * from hnsw_index_check('items_l2')$$);
select throws_ok($$select hnsw_index_check('items')$$, '42809');
select throws_ok($$select hnsw_index_info('items_pkey')$$, '42809');
drop index items_l2;

-- Zero vectors have no place under cosine.
create index items_cosine on items using hnsw (embedding vector_cosine_ops);
select results_eq($$select id from items order by embedding <=> '[1,1,1]'$$, array[2, 3, 5]);
insert into items values (7, '[0,0,0]'), (8, '[2,2,2]');
select set_eq($$select id from items order by embedding <=> '[1,1,1]' limit 2$$, array[2, 8]);
select is((select count(*)::int from (select 1 from items order by embedding <=> '[0,0,0]' limit 10) s), 4);
select is_empty($$select * from hnsw_index_check('items_cosine')$$);
drop index items_cosine;
create index items_ip on items using hnsw (embedding vector_ip_ops);
select results_eq($$select id from items order by embedding <#> '[1,2,3]' limit 2$$, array[5, 3]);
drop index items_ip;
create index items_l1 on items using hnsw (embedding vector_l1_ops);
select results_eq($$select id from items order by embedding <+> '[1,2,4.2]' limit 2$$, array[5, 3]);
drop index items_l1;

-- Partial and expression indexes.
create table mixed (id int, embedding vector, kind int);
insert into mixed select i, (case when i % 2 = 0 then array[i, 1] else array[i, 1, 1] end)::vector, i % 2
    from generate_series(1, 100) i;
create index mixed_2d on mixed using hnsw ((embedding::vector(2)) vector_l2_ops) where kind = 0;
select results_eq($$select id from mixed where kind = 0 order by embedding::vector(2) <-> '[50,1]' limit 3$$,
    array[50, 48, 52], 'a partial index on an expression');
select is_empty($$select * from hnsw_index_check('mixed_2d')$$);
select throws_ok($$insert into mixed values (1000, '[1,2,3]', 0)$$, '22000');

-- ---------------------------------------------------------------- duplicates
create table twins (id int, embedding vector(2));
insert into twins select i, '[1,2]' from generate_series(1, 500) i;
create index twins_hnsw on twins using hnsw (embedding vector_l2_ops);
insert into twins select i, '[1,2]' from generate_series(501, 1000) i;
set local hnsw.ef_search = 1000;
select is((select count(*)::int from (select 1 from twins order by embedding <-> '[1,2]' limit 2000) s), 1000);
select is((select elements::int from hnsw_index_info('twins_hnsw')), 1, 'equal vectors share an element');
set local hnsw.ef_search = 3;
select is((select count(*)::int from (select 1 from twins order by embedding <-> '[1,2]' limit 2000) s), 30,
    'ef_search elements of ten rows each');
select is_empty($$select * from hnsw_index_check('twins_hnsw')$$);

-- ---------------------------------------------------------------- recall
create function random_vector(dim int, seed int) returns real[] language sql volatile as
    $$select array_agg(random()) from generate_series(1, dim + seed * 0)$$;
create function ids(query text, exact bool) returns int[] language plpgsql as $$
declare result int[];
begin
    perform set_config('enable_indexscan', (not exact)::text, true), set_config('enable_seqscan', exact::text, true);
    execute format('select array_agg(id) from (%s) s', query) into result;
    perform set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'off', true);
    return result;
end $$;
create function recall(operator text) returns float language sql as $$
    select avg(share) from (
        select (select count(*) / 10.0 from unnest(ids(q.query, true)) e where e = any (ids(q.query, false))) share
        from (select format('select id from points order by embedding %s %L limit 10', operator,
                            random_vector(24, i)::vector) query
              from generate_series(1, 20) i) q) r $$;
select setseed(0.5);
create table points (id serial, embedding vector(24));
insert into points (embedding) select random_vector(24, i) from generate_series(1, 1500) i;
set local hnsw.ef_search = 60;
create index points_hnsw on points using hnsw (embedding vector_l2_ops);
select cmp_ok(recall('<->'), '>=', 0.95::float, 'recall of a build, L2');
select is_empty($$select * from hnsw_index_check('points_hnsw')$$);
drop index points_hnsw;
create index points_hnsw on points using hnsw (embedding vector_cosine_ops);
select cmp_ok(recall('<=>'), '>=', 0.95::float, 'recall of a build, cosine');
drop index points_hnsw;
create index points_hnsw on points using hnsw (embedding vector_ip_ops);
select cmp_ok(recall('<#>'), '>=', 0.9::float, 'recall of a build, inner product');
drop index points_hnsw;
create index points_hnsw on points using hnsw (embedding vector_l1_ops);
select cmp_ok(recall('<+>'), '>=', 0.95::float, 'recall of a build, L1');
drop index points_hnsw;
-- Not enough memory: a part is built, the rest inserted.
set local maintenance_work_mem = '1MB';
create index points_hnsw on points using hnsw (embedding vector_l2_ops);
set local maintenance_work_mem = '64MB';
select cmp_ok(recall('<->'), '>=', 0.95::float, 'recall of a build beyond maintenance_work_mem');
select is_empty($$select * from hnsw_index_check('points_hnsw')$$);
truncate points;
select is((select elements::int from hnsw_index_info('points_hnsw')), 0, 'truncated');
insert into points (embedding) select random_vector(24, i) from generate_series(1, 1500) i;
select cmp_ok(recall('<->'), '>=', 0.95::float, 'recall of inserts, L2');
select is_empty($$select * from hnsw_index_check('points_hnsw')$$);
select is((select rows::int from hnsw_index_info('points_hnsw')), 1500);
select is((select sum(n)::int from hnsw_index_info('points_hnsw'), unnest(elements_by_level) n), 1500, 'elements by level');
select is((select array_lower(elements_by_degree, 1) = 0 and elements_by_degree[max_degree] > 0
                  and array_upper(elements_by_degree, 1) = max_degree
                  and (select sum(n) from unnest(elements_by_degree) n) = elements
           from hnsw_index_info('points_hnsw')), true, 'elements by degree');

-- Lists of four places, most of them in the tree that keeps all together.
create table sparse as select i id, random_vector(6, i)::vector(6) embedding from generate_series(1, 1000) i;
select lives_ok($$create index sparse_hnsw on sparse using hnsw (embedding vector_l2_ops) with (m = 2, ef_construction = 4)$$,
                'the least m');
select is_empty($$select * from hnsw_index_check('sparse_hnsw')$$);

-- ---------------------------------------------------------------- codes
-- From 64 dimensions on neighbours are judged by codes: two bits a dimension, one where two do not fit.
drop index points_hnsw;
create table coded (id serial, embedding vector(96));
create function coded_recall(operator text) returns float language sql as $$
    select avg(share) from (
        select (select count(*) / 10.0 from unnest(ids(q.query, true)) e where e = any (ids(q.query, false))) share
        from (select format('select id from coded order by embedding %s %L limit 10', operator,
                            array_prepend(2 * random()::real, random_vector(95, i))::vector) query
              from generate_series(1, 20) i) q) r $$;
insert into coded (embedding) select array_prepend(2 * random()::real, random_vector(95, i)) from generate_series(1, 1000) i;
set local hnsw.ef_search = 100;
create index coded_hnsw on coded using hnsw (embedding vector_l2_ops);
select is((select code_bits from hnsw_index_info('coded_hnsw')), 2);
select cmp_ok(coded_recall('<->'), '>=', 0.95::float, 'recall by codes, build, L2');
select is_empty($$select * from hnsw_index_check('coded_hnsw')$$);
truncate coded;
insert into coded (embedding) select array_prepend(2 * random()::real, random_vector(95, i)) from generate_series(1, 1000) i;
select cmp_ok(coded_recall('<->'), '>=', 0.95::float, 'recall by codes, inserts, L2');
select is_empty($$select * from hnsw_index_check('coded_hnsw')$$);
drop index coded_hnsw;
create index coded_hnsw on coded using hnsw (embedding vector_cosine_ops);
select cmp_ok(coded_recall('<=>'), '>=', 0.95::float, 'recall by codes, cosine');
drop index coded_hnsw;
create index coded_hnsw on coded using hnsw (embedding vector_ip_ops);
select cmp_ok(coded_recall('<#>'), '>=', 0.9::float, 'recall by codes, inner product');
set local vector.simd = 'portable';
select cmp_ok(coded_recall('<#>'), '>=', 0.9::float, 'recall by codes, portable kernels');
set local vector.simd = 'auto';
drop index coded_hnsw;
create index coded_hnsw on coded using hnsw (embedding vector_l1_ops);
select is((select code_bits from hnsw_index_info('coded_hnsw')), 0, 'no codes for L1');
create table coded784 (embedding vector(784));
create index coded784_hnsw on coded784 using hnsw (embedding vector_l2_ops);
select is((select code_bits from hnsw_index_info('coded784_hnsw')), 1);
insert into coded784 select random_vector(784, i) from generate_series(1, 20) i;
select ok((select pages between 21 and 26 from hnsw_index_info('coded784_hnsw')),
          'an element of 784 dimensions with codes is a page; others are the metapage and some upper lists');
create table coded5000 (embedding vector(5000));
create index coded5000_hnsw on coded5000 using hnsw (embedding vector_l2_ops);
select is((select code_bits from hnsw_index_info('coded5000_hnsw')), 0, 'no codes where a record cannot hold them');
-- An element of 1,536 dimensions with codes spans pages. Vectors of few degrees of freedom.
create function waves(dim int, a float, b float, c float, d float) returns vector language sql as $$
    select array_agg(a * sin(j * 0.01) + b * cos(j * 0.017) + c * sin(j * 0.031) + d * cos(j * 0.043) order by j)::vector
    from generate_series(1, dim) j $$;
create table large (id serial, embedding vector(1536));
insert into large (embedding) select waves(1536, random(), random(), random(), random()) from generate_series(1, 400);
create index large_hnsw on large using hnsw (embedding vector_l2_ops);
select is((select code_bits from hnsw_index_info('large_hnsw')), 1, 'codes in elements over several pages');
create function large_recall() returns float language sql as $$
    select avg(share) from (
        select (select count(*) / 10.0 from unnest(ids(q.query, true)) e where e = any (ids(q.query, false))) share
        from (select format('select id from large order by embedding <-> %L limit 10',
                            waves(1536, random(), random(), random(), random() + i * 0)) query
              from generate_series(1, 20) i) q) r $$;
set local hnsw.ef_search = 40;
select cmp_ok(large_recall(), '>=', 0.97::float, 'recall by codes over several pages, build');
insert into large (embedding) select waves(1536, random(), random(), random(), random()) from generate_series(1, 200);
select cmp_ok(large_recall(), '>=', 0.97::float, 'recall by codes over several pages, inserts');
select is_empty($$select * from hnsw_index_check('large_hnsw')$$);
set local hnsw.ef_search = 100;
create index points_hnsw on points using hnsw (embedding vector_l2_ops);

-- ---------------------------------------------------------------- the planner's choice
analyze points;
analyze items;
set local enable_seqscan = on;
create function plan_of(query text) returns text language plpgsql as $$
declare line text; plan text := '';
begin
    for line in execute 'explain (costs off) ' || query loop plan := plan || line || E'\n'; end loop;
    return plan;
end $$;
insert into points (embedding) select random_vector(24, i) from generate_series(1, 4000) i;
analyze points;
select matches(plan_of(format('select id from points order by embedding <-> %L limit 10', random_vector(24, 1)::vector)),
    'points_hnsw', 'index for ORDER BY and LIMIT');
create index items_l2 on items using hnsw (embedding vector_l2_ops);
select doesnt_match(plan_of($$select id from items order by embedding <-> '[1,2,3]' limit 5$$), 'items_l2',
    'sequential scan of a small table');
select doesnt_match(plan_of('select count(*) from points'), 'points_hnsw', 'never without order');
set local enable_seqscan = off;
select doesnt_match(plan_of($$select id from points where id > 0$$), 'points_hnsw', 'never without order, even forced');

-- ---------------------------------------------------------------- many dimensions
create table wide (id int, embedding vector(16000));
insert into wide select i, (select array_agg(case when d = i then 1 else 0 end) from generate_series(1, 16000) d)::vector
    from generate_series(1, 4) i;
create index wide_hnsw on wide using hnsw (embedding vector_l2_ops);
insert into wide select i, (select array_agg(case when d = i then 1 else 0 end) from generate_series(1, 16000) d)::vector
    from generate_series(5, 8) i;
select is((select id from wide order by embedding <-> (select embedding from wide where id = 7) limit 1), 7);
select is((select id from wide order by embedding <-> (select embedding from wide where id = 2) limit 1), 2);
select is_empty($$select * from hnsw_index_check('wide_hnsw')$$);
create table wide2 (id int, embedding vector(2001));
insert into wide2 select i, (select array_agg(d * i) from generate_series(1, 2001) d)::vector from generate_series(1, 40) i;
create index wide2_hnsw on wide2 using hnsw (embedding vector_l2_ops) with (m = 40, ef_construction = 80);
insert into wide2 select i, (select array_agg(d * i) from generate_series(1, 2001) d)::vector from generate_series(41, 60) i;
select results_eq($$select id from wide2 order by embedding <-> (select embedding from wide2 where id = 50) limit 1$$, array[50]);
select is_empty($$select * from hnsw_index_check('wide2_hnsw')$$);

-- ---------------------------------------------------------------- other storage
create unlogged table fleeting (id int, embedding vector(3));
create index fleeting_hnsw on fleeting using hnsw (embedding vector_l2_ops);
insert into fleeting select i, array[i, i, i] from generate_series(1, 50) i;
select results_eq($$select id from fleeting order by embedding <-> '[7,7,7]' limit 1$$, array[7], 'unlogged');
create temporary table passing (id int, embedding vector(3));
create index passing_hnsw on passing using hnsw (embedding vector_l2_ops);
insert into passing select i, array[i, i, i] from generate_series(1, 50) i;
select results_eq($$select id from passing order by embedding <-> '[7,7,7]' limit 1$$, array[7], 'temporary');

select * from finish();
rollback;
