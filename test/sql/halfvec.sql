-- halfvec: text, binary form, limits, arithmetic, comparison, aggregates, casts; what it shares with
-- vector is one template, so here is what its elements make different.
begin;
select no_plan();

select is('[1,2.5,-3]'::halfvec::text, '[1,2.5,-3]');
select is('[0.1,65504,-65504,6e-8,-0]'::halfvec::text, '[0.099975586,65504,-65504,5.9604645e-08,-0]');
select is('[1e-9,-1e-9]'::halfvec::text, '[0,-0]', 'what is too small is 0');
select is('[65519]'::halfvec::text, '[65504]', 'rounded to the nearest');
create function bad(v text, state text, message text) returns text language sql as $$
    select throws_ok(format('select %L::halfvec', v), state, message) $$;
select bad(v, '22003', format('"%s" is out of range for type halfvec', trim(v, '[]'))) from unnest(array['[65520]', '[-65520]', '[1e10]', '[4e38]']) v;
select bad('[hello]', '22P02', 'invalid input syntax for type halfvec: "[hello]"');
select bad('1', '22P02', 'invalid input syntax for type halfvec: "1"');
select bad('[]', '22000', 'halfvec must have at least 1 dimension');
select bad('[NaN]', '22000', 'NaN not allowed in halfvec');
select bad('[-inf]', '22000', 'infinite value not allowed in halfvec');
select bad('[1' || repeat(',1', 16000) || ']', '54000', 'halfvec cannot have more than 16000 dimensions');
select throws_ok($$select '[1]'::halfvec(0)$$, '22023', 'dimensions for type halfvec must be at least 1');
select throws_ok($$select '[1]'::halfvec(16001)$$, '22023', 'dimensions for type halfvec cannot exceed 16000');
select throws_ok($$select '[1,2,3]'::halfvec(2)$$, '22000', 'expected 2 dimensions, not 3');

select is(halfvec_send('[1,-2]'), '\x000200003c00c000'::bytea);
select is(pg_column_size(array_fill(1, array[784])::halfvec), 8 + 2 * 784);
select is((select typstorage::text from pg_type where oid = 'halfvec'::regtype), 'e');

-- distances, by every set of kernels
select is('[0,0]'::halfvec <-> '[3,4]', 5::float8);
select is('[1,2]'::halfvec <#> '[3,4]', -11::float8);
select is('[1,0]'::halfvec <=> '[0,2]', 1::float8);
select is('[1,2]'::halfvec <+> '[4,6]', 7::float8);
select is(inner_product('[1,2]'::halfvec, '[3,4]'), 11::float8);
select is(halfvec_l2_squared_distance('[0,0]', '[3,4]'), 25::float8);
select is(halfvec_spherical_distance('[1,0]', '[0,1]'), 0.5::float8);
select is(cosine_distance('[1,1]'::halfvec, '[0,0]'), 'NaN'::float8);
select is(('[65504,65504]'::halfvec <-> '[-65504,-65504]')::real, sqrt(2 * (2 * 65504::float8) ^ 2)::real, 'no overflow of halves');
select throws_ok($$select '[1,2]'::halfvec <-> '[3]'$$, '22000', 'different halfvec dimensions 2 and 1');
create temporary table pairs as
    select dim, array_agg(((i * 37 + dim * 11) % 19) - 9 order by i)::halfvec a, array_agg(((i * 53 + dim * 7) % 17) - 8 order by i)::halfvec b
    from (select * from generate_series(1, 70) union all values (784), (16000)) d(dim), generate_series(1, dim) i group by dim;
create function check_simd(path text) returns text language plpgsql as $$
    begin
        perform set_config('vector.simd', path, true);
        return is((select count(*) from pairs where (a <-> b) <> (a::vector <-> b::vector) or (a <#> b) <> (a::vector <#> b::vector)
                     or (a <+> b) <> (a::vector <+> b::vector) or (a <=> b) is distinct from (a::vector <=> b::vector)), 0::bigint, path);
    exception when feature_not_supported then
        return skip(path || ' does not run here', 1);
    end $$;
select check_simd(path) from unnest(array['auto', 'avx512', 'avx2', 'portable']) path;

-- arithmetic: rounded to halves; overflow and underflow are those of halves
select is(('[1,2,3]'::halfvec + '[4,5,6]')::text, '[5,7,9]');
select is(('[1,2,3]'::halfvec - '[4,5,6]')::text, '[-3,-3,-3]');
select is(('[1,2,3]'::halfvec * '[4,5,6]')::text, '[4,10,18]');
select is(('[1,2]'::halfvec || '[3]')::text, '[1,2,3]');
select is(('[2048]'::halfvec + '[1]')::text, '[2048]');
select throws_ok($$select '[65504]'::halfvec + '[65504]'$$, '22003', 'value out of range: overflow');
select throws_ok($$select '[-65504]'::halfvec - '[65504]'$$, '22003', 'value out of range: overflow');
select throws_ok($$select '[300]'::halfvec * '[300]'$$, '22003', 'value out of range: overflow');
select throws_ok($$select '[1e-7]'::halfvec * '[1e-7]'$$, '22003', 'value out of range: underflow');
select is(vector_dims('[1,2,3]'::halfvec), 3);
select is(l2_norm('[3,4]'::halfvec), 5::float8);
select is(l2_normalize('[3,4]'::halfvec)::text, '[0.60009766,0.7998047]');
select is(l2_normalize('[0,0]'::halfvec)::text, '[0,0]');
select is(binary_quantize('[1,0,-1,0.5]'::halfvec), B'1001');
select is(subvector('[1,2,3,4,5]'::halfvec, 2, 3)::text, '[2,3,4]');

-- order, hash, indexes
create temporary table ordered (n int, v halfvec);
insert into ordered values (1, '[-2,5]'), (2, '[1]'), (3, '[1,2]'), (4, '[1,2,3]'), (5, '[1,3]'), (6, '[2]'), (7, '[10,-1]');
select is_empty($$select * from ordered a, ordered b where (a.v < b.v) <> (a.n < b.n) or (a.v <= b.v) <> (a.n <= b.n) or (a.v = b.v) <> (a.n = b.n)
                  or (a.v <> b.v) <> (a.n <> b.n) or (a.v >= b.v) <> (a.n >= b.n) or (a.v > b.v) <> (a.n > b.n) or halfvec_cmp(a.v, b.v) <> sign(a.n - b.n)$$);
select ok('[0]'::halfvec = '[-0]' and halfvec_hash('[0]') = halfvec_hash('[-0]'));
select is(halfvec_hash_extended('[1,2,3]', 0), vector_hash_extended('[1,2,3]', 0), 'as vector hashes it: rows are routed by it');
select is((select count(distinct v) from (select v from ordered union all select v from ordered) d), 7::bigint);
create unique index on ordered (v);
create index on ordered using hash (v);
set local enable_seqscan = off;
select is((select n from ordered where v = '[1,3]'), 5);

-- aggregates
select is((select avg(v)::text from unnest(array['[1,2]', '[3,5]']::halfvec[]) v), '[2,3.5]');
select is((select sum(v)::text from unnest(array['[1,2]', '[3,5]']::halfvec[]) v), '[4,7]');
select is((select avg(v) from unnest(array[]::halfvec[]) v), null);
select is((select sum(v) from unnest(array[]::halfvec[]) v), null);
select is((select avg(v)::text from unnest(array['[65504]', '[65504]']::halfvec[]) v), '[65504]', 'added up in double precision');
select throws_ok($$select sum(v) from unnest(array['[65504]', '[65504]']::halfvec[]) v$$, '22003', 'value out of range: overflow');
select is(halfvec_combine('{0}', '{0}'), '{0}');

-- casts
select is('[1,0.1]'::vector::halfvec::text, '[1,0.099975586]');
select is('[1,0.5]'::halfvec::vector::text, '[1,0.5]');
select is('[1,0.5]'::halfvec::real[], '{1,0.5}'::real[]);
select is(array[1, 2]::halfvec::text, '[1,2]');
select is('{1.5,2}'::numeric[]::halfvec(2)::text, '[1.5,2]');
select is('{1.5,2}'::float8[]::halfvec::text, '[1.5,2]');
select is('{1.5,2}'::real[]::halfvec::text, '[1.5,2]');
select throws_ok($$select '[70000]'::vector::halfvec$$, '22003', '"70000" is out of range for type halfvec');
select throws_ok($$select '{70000}'::int[]::halfvec$$, '22003', '"70000" is out of range for type halfvec');
select throws_ok($$select '{NaN}'::real[]::halfvec$$, '22000', 'NaN not allowed in halfvec');
select throws_ok($$select '{NULL}'::real[]::halfvec$$, '22004', 'array must not contain nulls');
select set_eq($$select castsource::regtype::text, casttarget::regtype::text, castcontext::text from pg_cast where 'halfvec'::regtype in (castsource, casttarget)$$,
              $$values ('halfvec', 'halfvec', 'i'), ('halfvec', 'real[]', 'a'), ('halfvec', 'vector', 'a'), ('vector', 'halfvec', 'i'),
                       ('halfvec', 'sparsevec', 'i'), ('sparsevec', 'halfvec', 'a'), ('integer[]', 'halfvec', 'a'), ('real[]', 'halfvec', 'a'),
                       ('double precision[]', 'halfvec', 'a'), ('numeric[]', 'halfvec', 'a')$$);

-- damaged values
create cast (bytea as halfvec) without function;
select throws_ok(format($$select %s from (values (%L::bytea::halfvec)) t(v)$$, call, damaged), 'XX001', null, call || ' of ' || damaged)
    from unnest(array['v::text', 'v <-> v', 'v + v', 'v = v', 'halfvec_send(v)', 'v::vector']) call,
         unnest(array['\x', '\x01', '\x0000', '\x02000000', '\x02000000003c', '\x01000000003c003c', '\xffff0000003c']) damaged;

select * from finish();
rollback;
