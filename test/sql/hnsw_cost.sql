-- A sequential scan fetches every toasted vector, which its cost does not say: the index is chosen
-- at default settings also where a search reads most of a small table's elements.
begin;
select plan(3);

create table wide (id int, embedding vector(784));
insert into wide select i, (select array_agg(sin(i * d)) from generate_series(1, 784) d)::vector
    from generate_series(1, 600) i;
create table narrow (id int, embedding vector(3));
insert into narrow select i, array[i, i, i]::vector from generate_series(1, 600) i;
create index on wide using hnsw (embedding vector_l2_ops);
create index on narrow using hnsw (embedding vector_l2_ops);
analyze wide, narrow;

create function plan_of(query text) returns text language plpgsql as $$
declare line text; plan text := '';
begin
    for line in execute 'explain (costs off) ' || query loop plan := plan || line || E'\n'; end loop;
    return plan;
end $$;
select isnt((select reltoastrelid from pg_class where relname = 'wide'), 0::oid, 'vectors are toasted');
select matches(plan_of('select id from wide order by embedding <-> (select embedding from wide limit 1) limit 10'),
    'Index Scan using wide_embedding_idx', 'toasted vectors');
select doesnt_match(plan_of($$select id from narrow order by embedding <-> '[1,2,3]' limit 10$$),
    'narrow_embedding_idx', 'vectors in the table itself');

select * from finish();
rollback;
