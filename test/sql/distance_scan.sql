-- Vector Index Scan: which queries get their distances from the index, and that answers are the same.
create table items (id int primary key, kind int not null, embedding vector(3));
insert into items select i, i % 5, array[i % 11, i % 13, i % 17 + 1]::vector from generate_series(1, 300) i;
insert into items values (301, 0, null);
create index items_l2 on items using hnsw (embedding vector_l2_ops);
analyze items;

begin;
select plan(61);
set local enable_seqscan = off;
set local enable_sort = off;
set local hnsw.ef_search = 1000;

create function plan_of(query text) returns text language plpgsql as $$
declare line text; plan text := '';
begin
    for line in execute 'explain (costs off) ' || query loop plan := plan || line || E'\n'; end loop;
    return plan;
end $$;
create function served(query text) returns bool language sql as $$select plan_of(query) ~ 'Vector Index Scan'$$;
create function not_served(query text) returns bool language sql as
    $$select plan_of(query) ~ 'Index Scan' and not plan_of(query) ~ 'Vector Index Scan'$$;
-- The query's rows, in their order, as the executor's own distances make them, and with the index's.
create function answer(query text, index_distances bool) returns text language plpgsql as $$
declare result text;
begin
    perform set_config('vector.distance_scan', index_distances::text, true);
    execute format('select string_agg(to_jsonb(q)::text, E''\n'') from (%s) q', query) into result;
    perform set_config('vector.distance_scan', 'on', true);
    return result;
end $$;
-- Two tests: the index's distances are used, and they make no difference.
create function same(query text) returns setof text language plpgsql as $$
begin
    return next ok(served(query), 'served: ' || query);
    return next is(answer(query, true), answer(query, false), 'same: ' || query);
end $$;
select same($$select id from items order by embedding <-> '[3,4,5]' limit 7$$);
select same($$select id, embedding <-> '[3,4,5]' as d from items order by embedding <-> '[3,4,5]' limit 7$$);
select same($$select id, embedding <-> '[3,4,5]' as d, '[3,4,5]' <-> embedding as e, 1 / (1 + (embedding <-> '[3,4,5]')) as f
              from items order by '[3,4,5]' <-> embedding limit 7$$);
select same($$select *, ctid, tableoid::regclass, xmin from items order by embedding <-> '[3,4,5]' limit 7$$);
select same($$select kind, id from items where kind = 3 and embedding <-> '[3,4,5]' between 2 and 6
              order by embedding <-> '[3,4,5]'$$);
select same($$select count(*), sum(d) from (select embedding <-> '[3,4,5]' d from items order by d limit 50) s$$);
select same($$select id from items order by embedding <-> (select embedding from items where id = 9) limit 7$$);
select same($$with q as materialized (select embedding from items where id < 4)
              select (select id from items i order by i.embedding <-> q.embedding limit 1) from q$$);
select same($$select * from (select id, kind from items order by embedding <-> '[3,4,5]' limit 20) i
              join (values (1, 'one'), (2, 'two')) k(kind, name) using (kind)$$);
select same($$select distinct kind from (select kind from items order by embedding <-> '[3,4,5]' limit 20) i$$);
select same($$select id, rank() over (order by embedding <-> '[3,4,5]') from items limit 20$$);

set local enable_sort = on;
select same($$select q.id as q, s.id, s.d from items q, lateral
              (select i.id, i.embedding <-> q.embedding as d from items i where i.kind <> q.kind
               order by i.embedding <-> q.embedding limit 3) s where q.id < 20$$);
select same($$select (select count(*) from (select id, embedding <-> v d from items order by embedding <-> v limit 1000) s
                      where d is null) from (values (null::vector), ('[1,2,3]')) q(v)$$);

-- ---------------------------------------------------------------- what is not
select ok(not_served($$select items from items order by embedding <-> '[3,4,5]' limit 7$$), 'a whole row');
select ok(not_served($$select id from items order by embedding <-> '[3,4,5]' limit 7 for update$$), 'FOR UPDATE');
select ok(not_served($$select id from items order by embedding <-> '[3,4,5]' limit 7 for key share$$), 'FOR KEY SHARE');
select ok(not plan_of($$select id from items where id = 3$$) ~ 'Vector', 'another index');
set local vector.distance_scan = off;
select ok(not_served($$select id from items order by embedding <-> '[3,4,5]' limit 7$$), 'when it is off');
reset vector.distance_scan;
select ok(served($$update items set kind = 0 where id in (select id from items order by embedding <-> '[3,4,5]' limit 7)$$),
    'a subquery of an UPDATE');
savepoint before_update;
update items set kind = 9 where id in (select id from items order by embedding <-> '[3,4,5]' limit 7);
select is((select array_agg(id order by id) from items where kind = 9),
    (select array_agg(id order by id) from (select id from items order by embedding <-> '[3,4,5]' limit 7) s));
rollback to before_update;

-- ---------------------------------------------------------------- EXPLAIN
select is(plan_of($$select id from items where kind = 1 order by embedding <-> '[3,4,5]'$$),
E'Custom Scan (Vector Index Scan) on items
  Filter: (kind = 1)
  Index: items_l2
  Order By: (embedding <-> \'[3,4,5]\'::vector)
');
create function json_plan(query text) returns jsonb language plpgsql as $$
declare result jsonb;
begin
    execute 'explain (analyze, buffers, timing off, format json) ' || query into result;
    return jsonb_path_query_first(result, '$.**  ? (@."Custom Plan Provider" == "Vector Index Scan")');
end $$;
select is((select array[p ->> 'Index Name', p ->> 'Order By', p ->> 'Actual Rows', p ->> 'Rows Removed by Filter']
           from json_plan($$select id from items where kind = 1 order by embedding <-> '[3,4,5]'$$) p),
    array['items_l2', $$(embedding <-> '[3,4,5]'::vector)$$, '60', '240']);
select cmp_ok((json_plan($$select id from items order by embedding <-> '[3,4,5]'$$) ->> 'Shared Hit Blocks')::int, '>', 2, 'buffers');
select ok(plan_of($$select 1 from items a, lateral (select 1 from items b order by b.embedding <-> a.embedding limit 1) s$$)
    ~ 'Order By: \(b.embedding <-> a.embedding\)', 'names of both tables');

-- ---------------------------------------------------------------- parameters and prepared statements
set local plan_cache_mode = force_generic_plan;
prepare nearest(vector, int) as select id, embedding <-> $1 as d from items where kind = $2 order by embedding <-> $1 limit 5;
select ok(served($$execute nearest('[3,4,5]', 2)$$), 'a generic plan');
create function nearest(query vector, filter int) returns text language plpgsql as $$
begin
    return (select string_agg(id || ':' || d, ' ') from
            (select id, embedding <-> query as d from items where kind = filter order by embedding <-> query limit 5) s);
end $$;
create table answers as select i, nearest(embedding, i % 5) served from items, generate_series(1, 3) i where id < 30;
select set_eq('select * from answers', 'select i, nearest(embedding, i % 5) from items, generate_series(1, 3) i where id < 30',
    'the same plan again');
set local vector.distance_scan = off;
discard plans;
select set_eq('select * from answers', 'select i, nearest(embedding, i % 5) from items, generate_series(1, 3) i where id < 30',
    'and another');
reset vector.distance_scan;
reset plan_cache_mode;

-- A parallel worker finds the scan by its name.
set local force_parallel_mode = on;
select same($$select id, kind, embedding <-> '[3,4,5]' as d from items where kind <> 2 order by embedding <-> '[3,4,5]' limit 7$$);
select ok(plan_of($$select id from items order by embedding <-> '[3,4,5]' limit 7$$) ~ 'Gather', 'in a worker');
reset force_parallel_mode;

-- ---------------------------------------------------------------- other operators
create index items_ip on items using hnsw (embedding vector_ip_ops);
create index items_cosine on items using hnsw (embedding vector_cosine_ops);
create index items_l1 on items using hnsw (embedding vector_l1_ops);
create function far_off(operator text) returns bigint language plpgsql as $$
declare result bigint; query text := format('select id, embedding %1$s ''[3,1,-5]'' as d from items order by embedding %1$s ''[3,1,-5]''', operator);
begin
    if not served(query) then return -1; end if;
    execute format('select count(*) from (%s) s join items i using (id) where not abs(s.d - (i.embedding %s ''[3,1,-5]'')) <= 1e-6 * greatest(1, abs(s.d))',
                   query, operator) into result;
    return result;
end $$;
select is(far_off('<#>'), 0::bigint);
select is(far_off('<=>'), 0::bigint);
select is(far_off('<+>'), 0::bigint);
select is((select count(*) from (select embedding <=> '[0,0,0]' as d from items order by embedding <=> '[0,0,0]' limit 10) s
           where d = 'NaN'), 10::bigint, 'no direction, no cosine');
select is((select min(d) from (select embedding <=> '[3,4,5]' d from items order by embedding <=> '[3,4,5]' limit 10) s) >= 0, true);

-- ---------------------------------------------------------------- partial and expression indexes
create table mixed (id int, kind int, embedding vector);
insert into mixed select i, i % 2, (case when i % 2 = 0 then array[i, 1] else array[i, 1, 1] end)::vector
    from generate_series(1, 100) i;
create index mixed_2d on mixed using hnsw ((embedding::vector(2)) vector_l2_ops) where kind = 0;
select same($$select id, embedding::vector(2) <-> '[50,1]' as d from mixed where kind = 0
              order by embedding::vector(2) <-> '[50,1]' limit 3$$);
select same($$select id from mixed where kind = 0 and id > 50 order by embedding::vector(2) <-> '[50,1]' limit 3$$);
select ok(not plan_of($$select id from mixed where kind = 0 order by embedding::vector(2) <-> '[50,1]' limit 3$$) ~ 'Filter',
    'what the index implies is not asked again');

-- ---------------------------------------------------------------- partitions
create table parted (id int, embedding vector(3)) partition by hash (id);
create table parted_0 partition of parted for values with (modulus 2, remainder 0);
create table parted_1 (embedding vector(3), dropped int, id int);
alter table parted_1 drop dropped;
alter table parted attach partition parted_1 for values with (modulus 2, remainder 1);
insert into parted select i, array[i % 11, i % 13, i % 17]::vector from generate_series(1, 300) i;
create index on parted using hnsw (embedding vector_l2_ops);
select same($$select id % 1 as x, embedding <-> '[3,4,5]' as d from parted order by embedding <-> '[3,4,5]' limit 20$$);
select ok(plan_of($$select id from parted order by embedding <-> '[3,4,5]' limit 20$$) ~ 'Merge Append', 'by a merge');
select same($$select tableoid::regclass from parted where id % 3 = 0 order by embedding <-> '[3,4,5]' limit 1$$);

-- ---------------------------------------------------------------- cursors
declare held scroll cursor with hold for select id, embedding <-> '[3,4,5]' as d from items order by embedding <-> '[3,4,5]';
declare plain cursor for select id from items order by embedding <-> '[3,4,5]';
fetch plain;
savepoint before_update;
update items set kind = 99 where current of plain;
select is((select id from items where kind = 99), (select id from items order by embedding <-> '[3,4,5]' limit 1), 'WHERE CURRENT OF');
rollback to before_update;
commit;
begin;
move last from held;
fetch backward 2 from held;
close held;
set local enable_seqscan = off;

-- ---------------------------------------------------------------- row security
create role distance_scan_user;
grant select on items to distance_scan_user;
alter table items enable row level security;
create policy even on items using (id % 2 = 0);
create function seen(id int) returns bool language plpgsql cost 0.0000001 as
    $$begin if id % 2 = 1 then raise exception 'saw row %', id; end if; return true; end $$;
set local role distance_scan_user;
select ok(served($$select id from items where seen(id) order by embedding <-> '[3,4,5]' limit 20$$));
select lives_ok($$select id from items where seen(id) order by embedding <-> '[3,4,5]' limit 20$$, 'the policy is asked first');
reset role;

select * from finish();
rollback;
drop table items;
