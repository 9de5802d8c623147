-- Where the planner chooses the index, at default settings.
begin;
select plan(21);

create function random_vector(dim int) returns vector language sql volatile as
    $$select array_agg(random())::vector from generate_series(1, dim)$$;
create function plan_of(query text) returns text language plpgsql as $$
declare line text; plan text := '';
begin
    for line in execute 'explain (costs off) ' || query loop plan := plan || line || E'\n'; end loop;
    return plan;
end $$;
create function by_index(query text) returns bool language sql as $$select plan_of(query) ~ 'Index: .*_embedding_idx'$$;
create function by_scan(query text) returns bool language sql as
    $$select plan_of(query) ~ '(Seq|Bitmap Heap) Scan on (wide|narrow|inline)' and not by_index(query)$$;

-- A sequential scan fetches every toasted vector, which its cost does not say: the index is chosen
-- also where a search reads most of a small table's elements.
create table narrow (id int, embedding vector(3));
insert into narrow select i, array[i, i, i]::vector from generate_series(1, 600) i;
create index on narrow using hnsw (embedding vector_l2_ops);
create table small (id int, embedding vector(784));
insert into small select i, random_vector(784) from generate_series(1, 200) i;
create index small_embedding_idx on small using hnsw (embedding vector_l2_ops) with (m = 8, ef_construction = 16);
analyze narrow, small;
select isnt((select reltoastrelid from pg_class where relname = 'small'), 0::oid, 'vectors are toasted');
select ok(by_index('select id from small order by embedding <-> (select embedding from small limit 1) limit 10'), 'toasted vectors');
select ok(by_scan($$select id from narrow order by embedding <-> '[1,2,3]' limit 10$$), 'vectors in the table itself');

-- ---------------------------------------------------------------- filters
-- kind has ten values, rare two hundred.
create table wide (id int, kind int, rare int, embedding vector(600));
insert into wide select i, i % 10, i % 200, random_vector(600) from generate_series(1, 3000) i;
create index wide_embedding_idx on wide using hnsw (embedding vector_l2_ops) with (m = 8, ef_construction = 16);
analyze wide;
create function nearest(filter text, tail text) returns text language sql as
    $$select format('select id from wide where %s order by embedding <-> (select embedding from small_query) %s', filter, tail)$$;
create table small_query as select random_vector(600) as embedding;
select ok(by_index(nearest('true', 'limit 10')));
select ok(by_index(nearest('true', 'limit 40')));
select ok(by_index(nearest('kind <> 3', 'limit 10')), 'a filter that few rows fail');
select ok(by_index(nearest('kind < 5', 'limit 10')), 'half of them');
select ok(by_scan(nearest('rare = 7', 'limit 10')), 'ef_search elements would not have ten rows');
select ok(by_scan(nearest('rare in (7, 8, 9, 10, 11, 12, 13, 14, 15, 16)', 'limit 10')), 'nor here');
select ok(by_scan(nearest('true', '')), 'all rows');
select ok(by_scan(nearest('true', 'limit 2000')), 'most rows');
select ok(by_index(nearest('true', 'limit 5 offset 5')), 'an offset');
set local hnsw.iterative_scan = relaxed_order;
select ok(by_index(nearest('true', 'limit 10')));
select ok(by_index(nearest('rare in (7, 8, 9, 10, 11, 12, 13, 14, 15, 16)', 'limit 10')), 'goes on until there are ten');
select ok(by_scan(nearest('rare = 7', 'limit 10')), 'would look at most of the table for ten');
set local hnsw.max_scan_tuples = 100;
select ok(by_scan(nearest('rare in (7, 8, 9, 10, 11, 12, 13, 14, 15, 16)', 'limit 10')), 'ends too early');
reset hnsw.max_scan_tuples;
reset hnsw.iterative_scan;
set local hnsw.ef_search = 400;
select ok(by_index(nearest('rare in (7, 8, 9, 10, 11, 12, 13, 14, 15, 16)', 'limit 10')), 'a search wide enough');
reset hnsw.ef_search;

-- An index on the filter's column gives few rows, all of them.
create index on wide (rare);
select ok(plan_of(nearest('rare = 7', 'limit 10')) ~ 'wide_rare_idx', 'the other index');
select ok(by_index(nearest('kind < 5 and rare > 5', 'limit 10')), 'and ours');

-- A LIMIT that is not known when a generic plan is made is taken for small.
set local plan_cache_mode = force_generic_plan;
prepare some_rows(int) as select id from wide order by embedding <-> (select embedding from small_query) limit $1;
select ok(by_index('execute some_rows(10)'), 'LIMIT $1');
select ok(by_index('select q.rare, s.id from small_query q0, wide q, lateral (select id from wide i order by i.embedding <-> q.embedding limit 3) s'),
    'for every row of another table');

select * from finish();
rollback;
