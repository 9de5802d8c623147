-- hnsw.iterative_scan: a filtered query finds as many rows as there are, within its limits.
begin;
select plan(46);
set local enable_seqscan = off;
set local client_min_messages = warning;

load 'vector';
select is(current_setting('hnsw.iterative_scan'), 'off');
select is(current_setting('hnsw.max_scan_tuples'), '20000');
select is(current_setting('hnsw.scan_mem_multiplier'), '1');
select throws_ok('set hnsw.iterative_scan = on', '22023');
select throws_ok('set hnsw.max_scan_tuples = 0', '22023');
select throws_ok('set hnsw.scan_mem_multiplier = 0.5', '22023');
select throws_ok('set hnsw.scan_mem_multiplier = 1001', '22023');

create function random_vector(dim int) returns vector language sql volatile as
    $$select array_agg(random() - 0.5)::vector from generate_series(1, dim)$$;
select setseed(0.25);

-- Kind 1 has one vector in 120 rows; rows of kind 9 are deleted.
create table points (id int, kind int, embedding vector);
create function fill(dim int) returns void language plpgsql as $$
begin
    drop table points;
    execute format('create table points (id int, kind int, embedding vector(%s))', dim);
    for i in 1..1200 loop insert into points values (i, i % 10, random_vector(dim)); end loop;
    update points set embedding = (select embedding from points where id = 1) where kind = 1;
end $$;

-- ---------------------------------------------------------------- every row exactly once
-- How many rows a query gives too few or too many of.
create function differences(operator text, filter text, query vector) returns bigint language plpgsql as $$
declare result bigint;
begin
    execute format('with found as (select id from points where %1$s order by embedding %2$s %3$L),
                         wanted as materialized (select id from points where %1$s)
                    select count(*) from ((table found except all table wanted)
                                          union all (table wanted except all table found)) d',
                   filter, operator, query) into result;
    return result;
end $$;
-- 96 dimensions have codes, 8 do not.
create function check_all(dim int, class text, operator text) returns setof text language plpgsql as $$
declare filter text;
begin
    perform fill(dim);
    execute format('create index on points using hnsw (embedding %s) with (m = 6, ef_construction = 40)', class);
    delete from points where kind = 9;
    foreach filter in array array['true', 'kind = 3', 'id = 77'] loop
        return next is(differences(operator, filter, random_vector(dim)), 0::bigint,
                       format('%s dimensions, %s, %s', dim, operator, filter));
    end loop;
end $$;
set local hnsw.ef_search = 20;
set local hnsw.iterative_scan = relaxed_order;
select check_all(8, 'vector_l2_ops', '<->');
select check_all(8, 'vector_ip_ops', '<#>');
select check_all(8, 'vector_cosine_ops', '<=>');
select check_all(8, 'vector_l1_ops', '<+>');
select check_all(96, 'vector_ip_ops', '<#>');
select check_all(96, 'vector_cosine_ops', '<=>');
select check_all(96, 'vector_l2_ops', '<->');
select is((select count(*)::int from (select id from points order by embedding <-> null::vector) s), 1080,
    'a NULL query, too, gives every row');

-- ---------------------------------------------------------------- order
create table queries as select i, random_vector(96) query, null::float[] relaxed, null::float[] strict
    from generate_series(1, 10) i;
create function distances(query vector) returns float[] language plpgsql as
    $$begin return (select array_agg(d) from
        (select embedding <-> query as d from points where kind <> 3 order by embedding <-> query) s); end$$;
create function descents(numbers float[]) returns bigint language sql as
    $$select count(*) from unnest(numbers[2:], numbers) p(later, earlier) where later < earlier$$;
set local hnsw.ef_search = 10;
update queries set relaxed = distances(query);
set local hnsw.iterative_scan = strict_order;
update queries set strict = distances(query);
select is(sum(cardinality(relaxed)), 9600::bigint, 'relaxed order gives all rows') from queries;
select cmp_ok(sum(descents(relaxed)), '>', 0::numeric, 'not strictly in order') from queries;
select cmp_ok(sum(descents(relaxed)), '<=', 10 * 960 / 10.0, 'but each ten elements are') from queries;
select is(sum(descents(strict)), 0::numeric, 'strict order is in order') from queries;
select cmp_ok(sum(cardinality(strict)), '<', 9600::bigint, 'leaves out what comes late') from queries;
select cmp_ok(sum(cardinality(strict)), '>', 2000::bigint, 'but not most') from queries;

-- ---------------------------------------------------------------- limits
create function found() returns int language sql volatile as
    $$select count(*)::int from (select 1 from points where kind <> 1
        order by embedding <-> (select query from queries where i = 1)) s$$;
set local hnsw.iterative_scan = relaxed_order;
set local hnsw.ef_search = 40;
select is(found(), 960, 'no limit reached');
set local hnsw.max_scan_tuples = 1;
select cmp_ok(found(), '>=', 30, 'the first part is not limited');
select cmp_ok(found(), '<', 300, 'further ones are');
set local hnsw.max_scan_tuples = 400;
select cmp_ok(found(), '>=', 300, 'what has been met comes out at the end');
select cmp_ok(found(), '<', 500);
reset hnsw.max_scan_tuples;
set local work_mem = '64kB';
select cmp_ok(found(), '>=', 30, 'memory does not limit the first part');
select cmp_ok(found(), '<', 900, 'but further ones');
set local hnsw.scan_mem_multiplier = 100;
select is(found(), 960, 'the limit is a multiple of work_mem');
reset work_mem;
reset hnsw.scan_mem_multiplier;
set local hnsw.iterative_scan = off;
select cmp_ok(found(), '<=', 40, 'off: only elements of ef_search');

-- ---------------------------------------------------------------- cursors
-- A scan has the settings of its first row; what scrolls back is a Materialize node.
set local hnsw.iterative_scan = relaxed_order;
declare nearest scroll cursor for select id from points where kind <> 1 order by embedding <-> (select query from queries where i = 1);
create function fetched(direction text) returns int language plpgsql as $$
declare scroll refcursor := 'nearest'; n int := 0; id int;
begin
    loop
        if direction = 'forward' then fetch next from scroll into id; else fetch prior from scroll into id; end if;
        exit when not found;
        n := n + 1;
    end loop;
    return n;
end $$;
move 5 from nearest;
set local hnsw.iterative_scan = off;
select is(fetched('forward'), 955, 'after the setting has changed');
select is(fetched('backward'), 960, 'all of it back');
close nearest;

select * from finish();
rollback;
